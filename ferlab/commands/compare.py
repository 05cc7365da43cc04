"""Several models in one table and one chart.   python -m ferlab compare a.h5 runs/b --data v.csv"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "compare",
        help="several models or runs side by side: one table, one chart",
        description="Put checkpoints and run folders side by side in one HTML page, with the chart "
        "as PNG and the table as CSV beside it. With --data all are evaluated on the same rows, "
        "none of which any of them was trained on; without it, the table shows what they record of "
        "their training.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.prediction_options(),
            cli.scoring_options(),
        ],
    )
    parser.add_argument(
        "places",
        type=cli.model_file,
        nargs="+",
        metavar="RUN_OR_MODEL",
        help="run folders and checkpoints",
    )
    parser.add_argument("--data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="page to write, with .png and .csv beside it (default: comparison.html)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import files
    from ferlab.reports import comparison

    if args.out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {args.out}")
    if not args.data and (args.truth or args.usage):
        raise InputError("--truth and --usage require --data")
    paths = comparison.checkpoint_paths(args.places)
    for suffix in (args.out.suffix, ".png", ".csv"):
        out = args.out.with_suffix(suffix)
        files.require_other(out, [*paths, args.data, args.truth])
        files.require_writable(out)
    class_names = cli.chosen_class_names(args)
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
