"""One page about a model, to hand in.   python -m ferlab report MODEL.h5 test.csv"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "report",
        "checkpoint",
        "data",
        "--class-names",
        "--truth",
        "--usage",
        *cli.CHECKPOINT_FLAGS,
        "--batch-size",
        help="write an HTML page about a model: scores, mistakes, history, cost, settings",
        description="Score MODEL on the labelled rows of DATA and write one self-contained HTML "
        "page to hand in: measures with 95% intervals, confusion matrix, calibration, most "
        "confident mistakes, saliency, training history, cost, settings and versions. Training "
        "rows of the model are left out; if there are no others, the page carries a warning.",
        run=run,
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="page to write (default: [model]_report.html)"
    )


def run(args: argparse.Namespace) -> None:
    from ferlab import files
    from ferlab.evaluation import scoring
    from ferlab.reports import model_report

    out = args.out or Path(f"{args.checkpoint.stem}_report.html")
    if out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {out}")
    files.require_other(out, [args.checkpoint, args.data, args.truth, args.architecture])
    files.require_writable(out)
    checkpoint = cli.load_checkpoint(args)
    notes: list[str] = []
    (dataset,), is_trained_on = scoring.rows_to_score(
        [checkpoint],
        args.data,
        class_names=cli.class_names(args),
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
