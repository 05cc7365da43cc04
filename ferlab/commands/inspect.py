"""Say what a checkpoint is, and how it wants its images.   python -m ferlab inspect MODEL.h5"""

import argparse

from ferlab import cli
from ferlab.errors import InputError

SAMPLE = 2000  # rows asked about under each pixel scale


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="say what a checkpoint is; with labelled data, which pixels and class order it wants",
        description="Say of each MODEL what wrote it, its layers and cost, what it takes and gives "
        "and what it carries. With --data, its accuracy under each plausible pixel scale and class "
        "order, and the flags of the most likely.",
        parents=[cli.data_options(), cli.prediction_options(), cli.architecture_options()],
    )
    parser.add_argument(
        "models", type=cli.model_file, nargs="+", metavar="MODEL", help="checkpoints"
    )
    parser.add_argument("--data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--truth", metavar="FILE", help="`id,label` rows with the labels that the data lacks"
    )
    parser.add_argument(
        "--usage",
        metavar="NAME",
        help="rows of the data, such as PublicTest (default: those neither for training nor for "
        "the final score, else the training rows)",
    )
    parser.add_argument(
        "--rows",
        type=cli.whole_number(1),
        default=SAMPLE,
        metavar="N",
        help=f"rows drawn from the data (default: {SAMPLE})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints
    from ferlab.evaluation import conventions
    from ferlab.reports import model_description

    if args.architecture and len(args.models) > 1:
        raise InputError(f"--architecture is for one model. Received: {len(args.models)} models")
    if not args.data and (args.truth or args.usage or args.class_names):
        raise InputError("--truth, --usage and --class-names require --data, which is missing")
    for path in args.models:
        checkpoint = checkpoints.load(path, architecture=args.architecture)
        print(path)
        lines = model_description.facts_lines(checkpoint)
        lines += ["", *model_description.layer_lines(checkpoint)]
        if args.data:
            dataset = conventions.sample_rows(
                args.data,
                image_shape=checkpoint.image_shape,
                class_names=cli.chosen_class_names(args),
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
