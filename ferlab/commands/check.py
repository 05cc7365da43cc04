"""Say what to know of data before training.   python -m ferlab check train.csv test.csv"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.audit.duplicates import SIMILARITY
from ferlab.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ferlab.audit.checks import Rows
    from ferlab.audit.label_errors import Doubts
    from ferlab.checkpoints import Checkpoint

REASONS = ("blank", "flat", "across", "conflicts", "wrong", "copies", "near")


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "check",
        help="say what to know of data before training: copies, blanks, wrong labels",
        description="Count the classes of DATA, show examples, find copies within and across "
        "files, blank images, odd sizes and contradictory labels, and say how far files differ. "
        "The first DATA with labels is what is trained on; the others, and its other usages, are "
        "compared with it. Writes a page, and with --clean copies of DATA without what is wrong.",
        parents=[
            cli.data_options(),
            cli.image_options(),
            cli.checkpoint_options(),
            cli.architecture_options(),
            cli.prediction_options(),
        ],
    )
    parser.add_argument("data", nargs="+", metavar="DATA", help="CSV, .npz or folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data_report.html"),
        metavar="FILE",
        help="page to write (default: data_report.html)",
    )
    parser.add_argument(
        "--similarity",
        type=_similarity,
        default=SIMILARITY,
        metavar="CORRELATION",
        help=f"of the pixels, from which on two images are copies (default: {SIMILARITY})",
    )
    parser.add_argument(
        "--model",
        type=cli.model_file,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="checkpoints by whose features likely wrong labels are found, of any classes",
    )
    group = parser.add_argument_group("cleaned copy")
    group.add_argument(
        "--clean",
        type=Path,
        metavar="DIR",
        help="new folder for a copy of each DATA without the rows that --remove names, and "
        "removed.csv, which lists them; only labelled rows to train on are ever removed",
    )
    group.add_argument(
        "--remove",
        type=_reasons,
        default=("blank", "across", "copies", "near"),
        metavar="REASON,...",
        help="what is left out: blank; flat (mostly one grey level); across (copies of rows of "
        "other files or usages); conflicts (copies with unlike labels, all of them); wrong "
        "(likely wrong labels, all of them); copies and near (but for the first of each group) "
        "(default: blank,across,copies,near)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import files
    from ferlab.audit import checks, cleaning
    from ferlab.reports import data_report

    if "wrong" in args.remove and not args.model:
        raise InputError("--remove wrong needs --model")
    if args.out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {args.out}")
    files.require_other(args.out, [*args.data, *args.model, args.architecture])
    files.require_writable(args.out)
    if args.clean:
        cleaning.require_room(args.clean, args.data)
    checkpoints = opened(args)
    class_names = cli.chosen_class_names(args)
    sizes = [checks.file_sizes(source) for source in args.data if Path(source).is_dir()]
    rows = checks.read(args.data, class_names=class_names, image_shape=cli.chosen_image_shape(args))
    if args.clean and not rows.trained_on().any():
        raise InputError(f"{args.data[0]}: --clean needs labelled rows to train on")

    print(f"{len(rows.dataset):,} images read; each is compared with each", flush=True)
    findings = checks.examine(rows, similarity=args.similarity, report=print)
    for line in data_report.summary(rows, findings, sizes, args.similarity):
        print(line)
    doubts, notes = None, []
    if checkpoints:
        doubts, notes = doubted(
            rows, ~findings.blank, findings.groups, checkpoints, args.batch_size
        )
        print(f"likely wrong labels: {len(doubts):,}")
        for note in notes:
            print(f"note: {note}")
    wrong = () if doubts is None else doubts.rows
    removed = cleaning.removals(rows, findings, args.remove, wrong)

    if args.clean:
        cleaning.write(args.clean, rows, removed, args.data, class_names)
        print(f"{args.clean}: the data without {len(removed):,} rows, and removed.csv")
    page = data_report.page(
        rows,
        findings,
        sizes,
        removed,
        similarity=args.similarity,
        doubts=doubts,
        doubts_notes=notes,
        cleaned=str(args.clean) if args.clean else None,
    )
    page.save(args.out)
    print(args.out)


def opened(args: argparse.Namespace) -> list["Checkpoint"]:
    if args.architecture and len(args.model) != 1:
        raise InputError(f"--architecture is for one model. Received: {len(args.model)} models")
    if not args.model:
        if args.pixels:
            raise InputError("--pixels says how to read --model, which is missing")
        return []
    from ferlab import checkpoints

    return [
        checkpoints.load(path, pixels=args.pixels, architecture=args.architecture)
        for path in args.model
    ]


def doubted(
    rows: "Rows",
    usable: "np.ndarray",
    groups: "np.ndarray",
    checkpoints: list["Checkpoint"],
    batch_size: int,
) -> tuple["Doubts", list[str]]:
    """The labels to train on that are likely wrong, and what to know of the models."""
    import dataclasses

    import numpy as np

    from ferlab import inference
    from ferlab.audit import label_errors
    from ferlab.checkpoints import read_training_rows
    from ferlab.evaluation import metrics

    chosen = np.flatnonzero(rows.trained_on() & usable)
    if not len(chosen):
        raise InputError(f"{rows.dataset.source}: --model needs labelled rows to train on")
    dataset = rows.dataset.take(chosen)
    features, notes = [], []
    for checkpoint in checkpoints:
        print(f"{checkpoint.path}: features of {len(dataset):,} images", flush=True)
        features.append(inference.features(checkpoint, dataset, batch_size=batch_size))
        trained_on = read_training_rows(checkpoint.path)
        if trained_on is None:
            notes.append(
                f"{checkpoint.path} does not tell which rows it was trained on; of those its "
                "features know the labels, so that wrong ones look more believable than they are"
            )
        elif seen := int(np.isin(dataset.row_digests(), trained_on).sum()):
            notes.append(
                f"{checkpoint.path} was trained on {seen:,} of these rows; its features know their "
                "labels, so that wrong ones look more believable than they are"
            )
    print("five-fold cross-validation on the features", flush=True)
    probabilities = label_errors.out_of_sample_probabilities(
        np.concatenate(features, axis=1), dataset.labels, groups[chosen], dataset.class_names
    )
    agreed = metrics.accuracy(dataset.labels, probabilities.argmax(axis=1))
    notes.insert(0, f"The classifier gives the label that is there to {agreed}.")
    doubts = label_errors.find(dataset.labels, probabilities)
    most_frequent = np.bincount(dataset.labels).max() / len(dataset)
    if agreed.low <= most_frequent:
        doubts = doubts.first(0)
        notes.insert(
            1,
            f"That is no better than always naming the most frequent class ({most_frequent:.2%}), "
            "so its doubts would mean nothing, and none are shown.",
        )
    return dataclasses.replace(doubts, rows=chosen[doubts.rows]), notes


def _similarity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0.5 to 1. Received: {text!r}")
    return value


def _reasons(text: str) -> tuple[str, ...]:
    reasons = tuple(part.strip() for part in text.split(","))
    for reason in reasons:
        if reason not in REASONS:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(REASONS)}. Received: {reason!r}"
            )
    return reasons
