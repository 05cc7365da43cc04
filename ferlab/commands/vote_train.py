"""Train the members of a vote.   python -m ferlab vote-train train.csv --members 8"""

import argparse
import datetime
import itertools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.errors import InputError
from ferlab.recipes import Recipe, current_names, get_recipe

if TYPE_CHECKING:
    from ferlab.data import Dataset
    from ferlab.training.fit import Result

LIST_NAME, VOTE_NAME = "model_list.txt", "vote.json"
MOST_MEMBERS = 10_000
MOST_SEED = 2**31 - 1  # the first training's; the last one's has to be a seed too


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
        type=cli.whole_number(1, MOST_MEMBERS),
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
        type=cli.whole_number(0, MOST_SEED),
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
    recipes = _chosen_recipes(args)

    dataset = cli.read_training_data(args)
    train, validation = dataset.split(recipes[0].validation)

    from ferlab.training import runs

    with runs.hold(args.out_dir):
        _train_members(args, recipes, train, validation)


def _train_members(
    args: argparse.Namespace, recipes: list[Recipe], train: "Dataset", validation: "Dataset"
) -> None:
    vote = {
        "members": args.members,
        "snapshots": args.snapshots,
        "seed": args.seed,
        "recipes": [recipe.as_dict() for recipe in recipes],
        "data": {
            "source": Path(train.source).name,
            "fingerprint": train.fingerprint(),
            "validation_fingerprint": validation.fingerprint(),
            "validation_rows": len(validation),
        },
    }
    vote["trainings"] = _finished_trainings(args.out_dir, vote)

    from ferlab import training
    from models import build_model

    for recipe in recipes:  # one that its images are too small for is refused before files are made
        build_model(recipe.model, train.image_shape, train.num_classes)
    _save(args.out_dir, vote)

    count = -(-args.members // args.snapshots)
    print(f"{args.members} members, from the last epochs (--snapshots) of {count} trainings")
    whose = recipes[0].name if args.validation is None else "--validation"
    print(
        f"validation rows of every training: {recipes[0].validation}, by {whose} "
        f"({len(validation):,} of {len(train) + len(validation):,})"
    )
    _say_progress(vote, count)
    for index in range(len(vote["trainings"]), count):
        recipe, seed = recipes[index % len(recipes)], args.seed + index
        run_dir = args.out_dir / "runs" / f"{index + 1:02d}-{recipe.name}-seed{seed}"
        print(f"training {index + 1} of {count}")
        result = training.train(
            train,
            validation,
            recipe,
            seed=seed,
            run_dir=run_dir,
            keep_epochs=args.snapshots if args.snapshots > 1 else 0,
        )
        listed = len(_members(vote))
        vote["trainings"].append(_published(result, args.out_dir, run_dir, args.snapshots))
        _save(args.out_dir, vote)
        for number, member in enumerate(_members(vote)[listed:], start=listed + 1):
            print(f"member {number} of {args.members}: {member['path']}, {_accuracy(member, vote)}")
        _say_progress(vote, count)
    print(args.out_dir / LIST_NAME)


def _chosen_recipes(args: argparse.Namespace) -> list[Recipe]:
    """The recipes with the flags' settings, and all with the validation rows of the first."""
    recipes = [cli.recipe(args, get_recipe(name)) for name in args.recipes.split(",")]
    for recipe in recipes:
        if args.snapshots > recipe.epochs:
            raise InputError(
                f"--snapshots must be at most the {recipe.epochs} epochs of {recipe.name}. "
                f"Received: {args.snapshots}"
            )
    return [recipe.override(validation=recipes[0].validation) for recipe in recipes]


def _finished_trainings(out_dir: Path, vote: dict) -> list[dict]:
    """The trainings that `vote.json` notes, up to the first whose files are gone.

    Raises InputError when the folder cannot be written, or holds something else than a part of
    this vote.
    """
    from ferlab import files
    from ferlab.training import runs

    path = out_dir / VOTE_NAME
    files.require_writable(path)
    for name in (VOTE_NAME, LIST_NAME):
        files.sweep(out_dir, name)
    if not path.exists():
        for foreign in (out_dir / LIST_NAME, out_dir / "runs"):
            if foreign.exists():
                raise InputError(f"{foreign}: is of no vote-train; choose another --out-dir")
        return []

    earlier = files.read_json(path)
    try:
        runs.require_same_settings(path, _settings(earlier), _settings(vote))
        if earlier["members"] > vote["members"]:
            raise InputError(
                f"{path}: --members must be {earlier['members']} or more. "
                f"Received: {vote['members']}"
            )
        return list(
            itertools.takewhile(
                lambda noted: all((out_dir / file["path"]).is_file() for file in noted["files"]),
                earlier["trainings"],
            )
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is not as vote-train writes it: {error!r}") from error


def _settings(vote: dict) -> dict:
    """What must not change in a folder, under the names for messages."""
    return {
        "--recipes": ",".join(recipe["name"] for recipe in vote["recipes"]),
        **{
            f"{recipe['name']}'s {name}": value
            for recipe in vote["recipes"]
            for name, value in current_names(recipe).items()
        },
        "--snapshots": vote["snapshots"],
        "--seed": vote["seed"],
        "training rows": vote["data"]["fingerprint"],
        "validation rows": vote["data"]["validation_fingerprint"],
    }


def _published(result: "Result", out_dir: Path, run_dir: Path, snapshots: int) -> dict:
    """Put a training's checkpoints where they stay; return what `vote.json` notes of it."""
    from ferlab import training

    path = training.publish(result, out_dir)
    accuracies = result.history["val_accuracy"]
    epochs = range(len(accuracies) - snapshots, len(accuracies))
    paths = [path.with_suffix("") / training.snapshot_name(e, accuracies[e]) for e in epochs]
    if snapshots == 1:
        paths = [path]
    for gone in itertools.filterfalse(Path.is_file, paths):
        raise InputError(f"{gone}: no such file; to train it again, delete {run_dir}")
    return {
        "recipe": result.record.recipe["name"],
        "seed": result.record.seed,
        "run": run_dir.relative_to(out_dir).as_posix(),
        "seconds": round(sum(result.history["seconds"]), 1),
        "files": [
            {"path": path.relative_to(out_dir).as_posix(), "val_accuracy": accuracies[epoch]}
            for path, epoch in zip(paths, epochs, strict=True)
        ],
    }


def _members(vote: dict) -> list[dict]:
    """The files that vote. The last training gives only as many last epochs as are still due."""
    members: list[dict] = []
    for finished in vote["trainings"]:
        due = vote["members"] - len(members)
        members += finished["files"][max(0, len(finished["files"]) - due) :]
    return members


def _accuracy(member: dict, vote: dict) -> str:
    from ferlab.evaluation import metrics

    rows = vote["data"]["validation_rows"]
    share = metrics.proportion(round(member["val_accuracy"] * rows), rows)
    return f"validation accuracy {share}"


def _save(out_dir: Path, vote: dict) -> None:
    """Write `vote.json`, and the list unless it names these members: its weights may be fitted."""
    from ferlab import files

    files.write_json(out_dir / VOTE_NAME, vote)
    members = _members(vote)
    if _listed(out_dir / LIST_NAME) == [out_dir / member["path"] for member in members]:
        return
    command = " ".join(shlex.join(sys.argv[1:]).splitlines())
    lines = [
        f"# {datetime.datetime.now():%Y-%m-%d %H:%M}  python -m ferlab {command}",
        *(f"1 {member['path']}  # {_accuracy(member, vote)}" for member in members),
    ]
    with files.whole_file(out_dir / LIST_NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8", errors="backslashreplace")


def _listed(path: Path) -> list[Path]:
    from ferlab.inference import model_list

    try:
        return [member.path for member in model_list.read(path)]
    except InputError:  # there is none, or none that can vote
        return []


def _say_progress(vote: dict, count: int) -> None:
    """How many trainings are finished, and how long all take, by the finished ones' recipes."""
    from ferlab import training

    trainings = vote["trainings"]
    if not trainings:
        return
    if len(trainings) == count:
        print(f"all {count} trainings are finished: nothing is left to train", flush=True)
        return
    timed = {finished["recipe"]: finished["seconds"] for finished in trainings}
    names = [recipe["name"] for recipe in vote["recipes"]]
    usual = sum(timed.values()) / len(timed)
    seconds = [timed.get(names[index % len(names)], usual) for index in range(count)]
    print(
        f"{len(trainings)} of {count} trainings are finished; all take about "
        f"{training.duration(sum(seconds))}, of which "
        f"{training.duration(sum(seconds[len(trainings) :]))} are still to come",
        flush=True,
    )
