"""Report copies, blank images and label issues.   python -m ferlab check train.csv test.csv"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.audit.cleaning import REASONS
from ferlab.audit.duplicates import SIMILARITY
from ferlab.errors import InputError

if TYPE_CHECKING:
    from ferlab.audit.checks import Findings
    from ferlab.audit.label_errors import LabelSearch
    from ferlab.audit.rows import Rows
    from ferlab.checkpoints import Checkpoint


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "check",
        *cli.FOLDER_FLAGS,
        *cli.CHECKPOINT_FLAGS,
        "--batch-size",
        help="report copies, blank images and label issues before training",
        description="Count the classes of DATA, show examples, find copies within and between "
        "files, blank images, odd file sizes and contradictory labels, and compare the files. The "
        "first DATA with labels is the training data; the others, and its other usages, are "
        "compared with it. Writes an HTML page and, with --clean, copies of DATA without the rows "
        "to remove.",
        run=run,
    )
    parser.add_argument("data", nargs="+", metavar="DATA", help="CSV, .npz or folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data_report.html"),
        metavar="FILE",
        help="HTML page to write (default: data_report.html)",
    )
    parser.add_argument(
        "--similarity",
        type=cli.number(0.5, 1),
        default=SIMILARITY,
        metavar="CORRELATION",
        help=f"minimum correlation of the pixels of two copies (default: {SIMILARITY})",
    )
    parser.add_argument(
        "--model",
        type=cli.model_file,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="checkpoints, of any classes, whose features are used to find likely wrong labels",
    )
    group = parser.group("cleaned copy")
    group.add_argument(
        "--clean",
        type=Path,
        metavar="DIR",
        help="new folder for a copy of each DATA without the rows selected by --remove, and "
        "removed.csv, their list; only labelled training rows are ever removed",
    )
    group.add_argument(
        "--remove",
        type=cli.names_of(REASONS),
        default=("blank", "across", "copies", "near"),
        metavar="REASON,...",
        help="reasons to remove a row: blank; flat (mostly one grey level); across (a copy of a "
        "row of another file or usage); conflicts (copies with contradictory labels, all of "
        "them); wrong (likely wrong label, requires --model); copies (exact) and near (near or "
        "mirrored), except the first of each group (default: blank,across,copies,near)",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab.audit import checks, cleaning
    from ferlab.audit.rows import read_rows
    from ferlab.reports import data_report

    _require_sound(args)
    models = _load_models(args)
    class_names, image_shape = cli.class_names(args), cli.image_shape(args)
    sizes = checks.file_sizes_of([source for source in args.data if Path(source).is_dir()])
    rows = read_rows(args.data, class_names=class_names, image_shape=image_shape)
    if args.clean and not rows.training().any():
        raise InputError(f"{args.data[0]}: --clean requires labelled training rows")

    print(f"{len(rows.dataset):,} images read; comparing all pairs", flush=True)
    findings = checks.examine(rows, similarity=args.similarity, report=print)
    audit = data_report.Audit(rows, findings, sizes, args.similarity)
    wrong: Sequence[int] = ()
    print(*data_report.summary(audit), sep="\n", flush=True)
    if models:
        search, trained_rows = _search_label_issues(rows, findings, models, args.batch_size)
        print(*data_report.label_summary(search, trained_rows), sep="\n")
        audit = dataclasses.replace(audit, label_search=search, trained_rows=trained_rows)
        wrong = search.issues.rows.tolist()
    removed = cleaning.removals(rows, findings, args.remove, wrong)
    if args.clean:
        cleaning.write(args.clean, rows, removed, args.data, class_names)
        print(f"{args.clean}: the data without {len(removed):,} rows, and removed.csv")
    cleaned = str(args.clean) if args.clean else None
    data_report.page(dataclasses.replace(audit, removed=removed, cleaned=cleaned)).save(args.out)
    print(args.out)


def _require_sound(args: argparse.Namespace) -> None:
    """Raise InputError for incompatible flags and for outputs that cannot be written."""
    from ferlab import files
    from ferlab.audit import cleaning

    if "wrong" in args.remove and not args.model:
        raise InputError("--remove wrong requires --model")
    if args.architecture and len(args.model) != 1:
        raise InputError(f"--architecture requires one model. Received: {len(args.model)} models")
    cli.require_with(args, "--model", "--pixels")
    if args.out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {args.out}")
    files.require_other(args.out, [*args.data, *args.model, args.architecture])
    files.require_writable(args.out)
    if args.clean:
        cleaning.require_room(args.clean, args.data)


def _load_models(args: argparse.Namespace) -> list["Checkpoint"]:
    if not args.model:
        return []
    from ferlab import checkpoints

    models = [
        checkpoints.load(path, pixels=args.pixels, architecture=args.architecture)
        for path in args.model
    ]
    for note in filter(None, [model.pixels_note for model in models]):
        print(note)
    return models


def _search_label_issues(
    rows: "Rows", findings: "Findings", models: list["Checkpoint"], batch_size: int
) -> tuple["LabelSearch", dict[str, int | None]]:
    """Likely wrong labels, and how many of these rows each model was trained on, if known."""
    import numpy as np

    from ferlab import inference
    from ferlab.audit import label_errors
    from ferlab.checkpoints import read_training_rows

    searched = np.flatnonzero(rows.training() & ~findings.blank)
    if not len(searched):
        raise InputError(f"{rows.dataset.source}: --model requires labelled training rows")
    dataset = rows.dataset.take(searched)
    features = []
    trained_rows: dict[str, int | None] = {}
    for model in models:
        print(f"{model.path}: features of {len(dataset):,} images", flush=True)
        features.append(inference.features(model, dataset, batch_size=batch_size))
        known = read_training_rows(model.path)
        trained_rows[str(model.path)] = (
            None if known is None else int(np.isin(dataset.row_digests(), known).sum())
        )
    print("five-fold cross-validation of a classifier on the features", flush=True)
    search = label_errors.search_label_issues(
        rows.dataset, searched, np.concatenate(features, axis=1), findings.groups[searched]
    )
    return search, trained_rows
