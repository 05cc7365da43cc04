"""One page about a model, to hand in.   python -m ferlab report MODEL.h5 test.csv"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "report",
        help="one HTML page about a model: scores, mistakes, history, cost, settings",
        description="Score MODEL on the labelled rows of DATA and write one self-contained HTML "
        "page to hand in: measures with 95% intervals, confusion matrix, calibration, most "
        "confident mistakes, saliency, training history, cost, settings and versions. Training "
        "rows of the model are left out; if there are no others, the page carries a warning.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.architecture_options(),
            cli.prediction_options(),
            cli.scoring_options(),
        ],
    )
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to report on"
    )
    parser.add_argument("data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="page to write (default: [model]_report.html)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files
    from ferlab.evaluation import scoring
    from ferlab.reports import model_report

    out = args.out or Path(f"{args.checkpoint.stem}_report.html")
    if out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {out}")
    files.require_other(out, [args.checkpoint, args.data, args.truth, args.architecture])
    files.require_writable(out)
    class_names = cli.chosen_class_names(args)
    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
    )
    notes: list[str] = []
    (dataset,), is_trained_on = scoring.rows_to_score(
        [checkpoint],
        args.data,
        class_names=class_names,
        truth=args.truth,
        usage=args.usage,
        report=notes.append,
    )
    print(*notes, sep="\n", end="\n" if notes else "")
    evaluation = scoring.evaluate(checkpoint, dataset, batch_size=args.batch_size, report=print)
    page = model_report.page(
        checkpoint,
        evaluation,
        source=Path(args.data).name,
        is_trained_on=is_trained_on,
        notes=notes,
        speeds=model_report.measure_speeds(checkpoint, args.batch_size),
    )
    page.save(out)
    print(*model_report.summary(evaluation, is_trained_on=is_trained_on), out, sep="\n")
