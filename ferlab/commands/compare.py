"""Several models in one table and one chart.   python -m ferlab compare a.h5 runs/b --data v.csv"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "compare",
        "--data",
        "--class-names",
        "--truth",
        "--usage",
        "--pixels",
        "--batch-size",
        help="compare models or runs in one table and one chart",
        description="Compare checkpoints and run folders in one HTML page, with the chart as PNG "
        "and the table as CSV beside it. With --data, all are evaluated on the same rows, which "
        "none of them was trained on; without it, the table shows their training records.",
        run=run,
    )
    parser.add_argument(
        "places",
        type=cli.model_file,
        nargs="+",
        metavar="RUN_OR_MODEL",
        help="run folders and checkpoints",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="page to write, with .png and .csv beside it (default: comparison.html)",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab import files
    from ferlab.reports import comparison

    if args.out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {args.out}")
    cli.require_with(args, "--data", "--truth", "--usage")
    paths = comparison.checkpoint_paths(args.places)
    for suffix in (args.out.suffix, ".png", ".csv"):
        out = args.out.with_suffix(suffix)
        files.require_other(out, [*paths, args.data, args.truth])
        files.require_writable(out)
    class_names = cli.class_names(args)
    result = comparison.compare(
        comparison.load(args.places, pixels=args.pixels, class_names=class_names),
        args.data,
        class_names=class_names,
        truth=args.truth,
        usage=args.usage,
        batch_size=args.batch_size,
        report=print,
    )
    outputs = comparison.save(result, args.out)
    print(*comparison.summary(result), *outputs, sep="\n")
