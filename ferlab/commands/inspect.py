"""Describe a checkpoint and its inputs.   python -m ferlab inspect MODEL.h5"""

import argparse

from ferlab import cli
from ferlab.errors import InputError

SAMPLE = 2000  # rows to predict with each pixel scale


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "inspect",
        "--data",
        "--class-names",
        "--truth",
        "--usage",
        "--architecture",
        "--batch-size",
        help="describe a checkpoint and, with labelled data, find its pixel scale and class order",
        description="Print the Keras version that wrote each MODEL, its layers and cost, its input "
        "and output, and its training record. With --data, also its accuracy for each plausible "
        "pixel scale and class order, and the flags for the most likely ones.",
        run=run,
    )
    parser.add_argument(
        "models", type=cli.model_file, nargs="+", metavar="MODEL", help="checkpoints"
    )
    parser.group("data").add_argument(
        "--rows",
        type=cli.whole_number(1),
        default=SAMPLE,
        metavar="N",
        help=f"rows drawn from the data at random (default: {SAMPLE})",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints
    from ferlab.evaluation import conventions
    from ferlab.reports import model_description

    if args.architecture and len(args.models) > 1:
        raise InputError(f"--architecture requires one model. Received: {len(args.models)} models")
    cli.require_with(args, "--data", "--truth", "--usage", "--class-names")
    for path in args.models:
        checkpoint = checkpoints.load(path, architecture=args.architecture)
        print(path)
        lines = model_description.facts_lines(checkpoint)
        lines += ["", *model_description.layer_lines(checkpoint)]
        if args.data:
            dataset = conventions.sample_rows(
                args.data,
                image_shape=checkpoint.image_shape,
                class_names=cli.class_names(args),
                truth=args.truth,
                usage=args.usage,
                count=args.rows,
                report=print,
            )
            lines += [
                "",
                *model_description.convention_lines(checkpoint, dataset, args.batch_size),
            ]
        for line in lines:
            print(f"  {line}".rstrip())
