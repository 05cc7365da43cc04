"""Package a checkpoint as a shipped model.   python -m ferlab pack MODEL.h5 NAME train.csv"""

import argparse
import shlex
import tempfile
from pathlib import Path

from ferlab import cli, pretrained


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "pack",
        "checkpoint",
        "--data",
        "--truth",
        "--batch-size",
        help="package a checkpoint as a shipped model, with a card of its scores",
        description="Write MODEL with float16 kernels and without its optimizer to "
        "pretrained/NAME.h5, its facts to NAME.json and a model card to NAME.md. The facts are "
        "measured here: on the validation rows of TRAIN and, with --data, on held-out rows outside "
        "the final score. From then on `pretrained:NAME` is that model. MODEL must be one complete "
        "training by a recipe. "
        f"{pretrained.FOLDER_VARIABLE} sets another folder than pretrained/.",
        run=run,
    )
    parser.add_argument("name", metavar="NAME", help="name of the model to ship")
    cli.add(parser, "training")


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files
    from ferlab.errors import InputError
    from ferlab.reports import model_card, model_facts

    cli.require_with(args, "--data", "--truth")
    pretrained.require_new_name(args.name)
    origin = model_facts.origin(args.checkpoint)
    command = training_command(origin, args.training)
    files.require_writable(pretrained.folder() / f"{args.name}.h5")
    train, validation = model_facts.split(args.training, origin)
    if model_facts.fingerprint(train, origin) != origin["data"]["fingerprint"]:
        raise InputError(f"{args.training}: is not the data that {args.checkpoint} was trained on")
    model_facts.require_unseen(args.checkpoint, train, validation)

    checkpoint, parts = checkpoints.load(args.checkpoint), {"validation": validation}
    if args.data:
        parts["public"] = model_facts.rows_to_score(
            checkpoint, args.data, truth=args.truth, report=print
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{args.name}.h5"
        measured = model_facts.measure(
            checkpoint, path, train, parts, batch_size=args.batch_size, report=print
        )
        commands = {"command": command, "reproduce": reproduce_command(args)}
        facts = model_facts.assemble(args.name, origin, commands, measured, train, validation)
        written = pretrained.add(args.name, path, facts, model_card.card(facts))
    print(*model_facts.summary(facts), *written, sep="\n")


def training_command(origin: dict, training: str) -> str:
    from ferlab.reports import model_facts

    return cli.training_command(
        model_facts.recipe_of(origin),
        origin["seed"],
        training,
        origin["class_names"],
        origin["image_shape"],
        origin.get("teachers", ()),
    )


def reproduce_command(args: argparse.Namespace) -> str:
    words = ["python", "-m", "ferlab", "reproduce", args.name, Path(args.training).name]
    if args.data:
        words += ["--data", Path(args.data).name]
    if args.truth:
        words += ["--truth", Path(args.truth).name]
    return shlex.join(words)
