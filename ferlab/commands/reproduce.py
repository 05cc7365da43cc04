"""Train a shipped model again and compare.   python -m ferlab reproduce fast train.csv"""

import argparse
import sys
from pathlib import Path

from ferlab import cli, pretrained


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "reproduce",
        "--data",
        "--truth",
        "--batch-size",
        "--out-dir",
        help="train a shipped model again and test whether its stated accuracy holds",
        description="Train with the recipe and seed recorded for the shipped model NAME, score the "
        "result on the rows that NAME was scored on, and test whether the accuracy lies within "
        "NAME's stated 95% interval: exit code 0 if it does, 1 if not. The rows are those of "
        "--data or, without it, the validation rows. After a stop, the same command resumes.",
        run=run,
    )
    parser.add_argument("name", metavar="NAME", help="shipped model, such as fast")
    cli.add(parser, "training")
    parser.group("output").add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="folder for config, history and log of the run (default: runs/reproduce-NAME)",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab.reports.reproduction import Reproduction

    cli.require_with(args, "--data", "--truth")
    name = args.name.removeprefix(pretrained.PREFIX)
    reproduction = Reproduction.of(name, has_data=bool(args.data))
    train, validation = reproduction.split(args.training)

    from ferlab import files, training
    from ferlab.training import runs

    scored = validation
    if args.data:  # read before the training, so that bad input is refused at once
        scored = reproduction.scored_rows(args.data, args.truth, train, validation, report=print)
    for note in reproduction.notes(train, scored):
        print(f"note: {note}")
    files.require_writable(args.out_dir / "checkpoint.h5")
    result = training.train(
        train,
        validation,
        reproduction.recipe,
        seed=reproduction.facts["seed"],
        teachers=reproduction.teachers,
        run_dir=args.run_dir or runs.RUNS_DIR / f"reproduce-{name}",
    )
    path = training.publish(result, args.out_dir)
    verdict, is_reproduced = reproduction.verdict(path, scored, args.batch_size, report=print)
    print(path)
    print(verdict)
    if not is_reproduced:
        sys.exit(1)
