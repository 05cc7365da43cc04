"""Train the members of a vote.   python -m ferlab vote-train train.csv --members 8"""

import argparse
import functools
import shlex
import sys
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError
from ferlab.recipes import Recipe, get_recipe

MAX_MEMBERS = 10_000
MAX_SEED = 2**31 - 1  # maximum of the first training; later ones are larger


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "vote-train",
        "data",
        *cli.FOLDER_FLAGS,
        help="train the members of a vote and list them in model_list.txt",
        description="Train the members of a vote one after another, all with the same validation "
        "rows, and list them in DIR/model_list.txt. After a stop, the same command resumes; with a "
        "larger --members it adds members.",
        run=run,
    )
    group = parser.group("vote")
    group.add_argument(
        "--members",
        type=cli.whole_number(1, MAX_MEMBERS),
        required=True,
        metavar="N",
        help="number of checkpoints in the vote; the trainings alternate between the recipes",
    )
    group.add_argument(
        "--snapshots",
        type=cli.whole_number(1),
        default=1,
        metavar="K",
        help="members per training: its last K epochs (default: 1)",
    )
    group.add_argument(
        "--seed",
        type=cli.whole_number(0, MAX_SEED),
        default=0,
        metavar="N",
        help="seed of the first training, which each further one increases by 1 (default: 0)",
    )
    group.add_argument(
        "--out-dir",
        type=Path,
        default=Path("vote"),
        metavar="DIR",
        help="folder for runs, members and list (default: vote)",
    )
    cli.add_recipe(parser, "fast", flag="--recipes", without=("teacher_weight",))


def run(args: argparse.Namespace) -> None:
    recipes = member_recipes(args)
    dataset = cli.read_training_data(args)
    train, validation = dataset.split(recipes[0].validation)

    from ferlab.training.vote_members import VoteTraining

    command = " ".join(shlex.join(sys.argv[1:]).splitlines())
    report = functools.partial(print, flush=True)
    vote = VoteTraining(args.out_dir, recipes, args.members, args.snapshots, args.seed, report)
    path = vote.train(
        train,
        validation,
        validation_from=recipes[0].name if args.validation is None else "--validation",
        command=f"python -m ferlab {command}",
    )
    print(path)


def member_recipes(args: argparse.Namespace) -> list[Recipe]:
    """The recipes with the flags' settings, all with the validation rows of the first."""
    recipes = [cli.recipe(args, get_recipe(name)) for name in args.recipes.split(",")]
    for recipe in recipes:
        if args.snapshots > recipe.epochs:
            raise InputError(
                f"--snapshots must be at most the {recipe.epochs} epochs of {recipe.name}. "
                f"Received: {args.snapshots}"
            )
    return [recipe.override(validation=recipes[0].validation) for recipe in recipes]
