"""Make a model to ship of a checkpoint.   python -m ferlab pack MODEL.h5 NAME train.csv"""

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
        help="make a small file to ship of a checkpoint, with a card of measured facts",
        description="Write MODEL with float16 kernels and without its optimizer to "
        "pretrained/NAME.h5, its facts to NAME.json and a model card to NAME.md. The facts are "
        "measured here: on the validation rows of TRAIN and, with --data, on rows of it that are "
        "neither for training nor for the final score. `pretrained:NAME` is then that model. MODEL "
        "must come from one whole training by a recipe. "
        f"{pretrained.FOLDER_VARIABLE} sets another folder than pretrained/.",
        run=run,
    )
    parser.add_argument("name", metavar="NAME", help="name of the model to ship")
    cli.add(parser, "training")


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files
    from ferlab.errors import InputError
    from ferlab.reports import model_facts

    cli.require_with(args, "--data", "--truth")
    pretrained.require_new_name(args.name)
    facts = model_facts.origin(args.checkpoint)
    recipe = model_facts.recipe_of(facts)
    command = cli.training_command(
        recipe,
        facts["seed"],
        args.training,
        facts["class_names"],
        facts["image_shape"],
        facts.get("teachers", ()),
    )
    files.require_writable(pretrained.folder() / f"{args.name}.h5")
    train, validation = model_facts.split(args.training, facts)
    if model_facts.fingerprint(train, facts) != facts["data"]["fingerprint"]:
        raise InputError(f"{args.training}: is not the data that {args.checkpoint} was trained on")
    model_facts.require_unseen(args.checkpoint, train, validation)

    from ferlab.evaluation import calibration, costs, scoring
    from ferlab.reports import model_card

    whole = checkpoints.load(args.checkpoint)
    parts = {"validation": validation}
    if args.data:
        parts["public"] = model_facts.rows_to_score(
            whole, args.data, truth=args.truth, report=print
        )

    def evaluated(checkpoint: checkpoints.Checkpoint) -> dict[str, scoring.Evaluation]:
        return {
            name: scoring.evaluate(checkpoint, rows, batch_size=args.batch_size, report=print)
            for name, rows in parts.items()
        }

    before = evaluated(whole)
    temperature = calibration.fit_temperature(before["validation"].outputs, validation.labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{args.name}.h5"
        checkpoints.save(
            whole.model,
            path,
            whole.record.replace(temperature=temperature),
            training_rows=checkpoints.read_training_rows(args.checkpoint),
            half=True,
        )
        half = checkpoints.load(path)
        after = evaluated(half)
        print("copies of training rows are looked for", flush=True)
        scores = {
            name: model_facts.scores(found, model_facts.copies_of(train, found.dataset))
            for name, found in after.items()
        }
        facts = {
            "name": args.name,
            "file": path.name,
            "sha256": files.sha256(path),
            "bytes": path.stat().st_size,
            "parameters": half.model.count_params(),
            "multiply_adds": costs.multiply_adds(half.model),
            **facts,
            "data": {
                **facts["data"],
                "name": model_facts.dataset_name(train, validation),
                "rows": len(train.without_labels(recipe.labels_removed, facts["seed"]).labelled()),
            },
            "command": command,
            "reproduce": reproduce_command(args),
            "temperature": temperature,
            "scores": scores,
            "float16": model_facts.difference([*before.values()], [*after.values()]),
        }
        written = pretrained.add(args.name, path, facts, model_card.card(facts))

    for name, found in after.items():
        print(f"{name} accuracy {found.scores.accuracy}")
    changed = facts["float16"]
    print(f"float16 changed {changed['changed_predictions']:,} of {changed['rows']:,} predictions")
    for path in written:
        print(path)


def reproduce_command(args: argparse.Namespace) -> str:
    words = ["python", "-m", "ferlab", "reproduce", args.name, Path(args.training).name]
    if args.data:
        words += ["--data", Path(args.data).name]
    if args.truth:
        words += ["--truth", Path(args.truth).name]
    return shlex.join(words)
