"""Train a shipped model again and compare.   python -m ferlab reproduce fast train.csv"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from ferlab import cli, pretrained
from ferlab.errors import InputError

VERSIONS = ("device", "bfloat16", "backend", "keras")  # of which a result depends on most


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
    from ferlab.reports import model_facts

    cli.require_with(args, "--data", "--truth")
    name = args.name.removeprefix(pretrained.PREFIX)
    facts = pretrained.read_facts(name)
    model_facts.require_whole(name, facts)
    part = "public" if args.data else "validation"
    if part not in facts["scores"]:
        raise InputError(f"{name}: states an accuracy on validation rows alone; leave out --data")
    stated, recipe = facts["scores"][part], model_facts.recipe_of(facts)
    path = pretrained.resolve(f"{pretrained.PREFIX}{name}")
    taught_by = facts.get("teachers", {})
    teachers = [pretrained.resolve(f"{pretrained.PREFIX}{teacher}") for teacher in taught_by]
    train, scored = model_facts.split(args.training, facts)
    validation = scored

    import numpy as np

    from ferlab import backend, checkpoints, files, training
    from ferlab.evaluation import scoring
    from ferlab.training import runs

    if args.data:  # chosen before the training, so that what is wrong with them is told at once
        shipped = checkpoints.load(path)
        scored = model_facts.rows_to_score(shipped, args.data, truth=args.truth, report=print)
        digests, of_training = scored.row_digests(), train.row_digests()
        if np.isin(digests, np.union1d(of_training, validation.row_digests())).all():
            raise InputError(f"{scored.source}: has no rows beside those of {args.training}")
        known = np.isin(digests, of_training)
        if known.any():
            print(f"{known.sum():,} of {len(known):,} rows left out: they are trained on")
            scored = scored.take(~known)
    if model_facts.fingerprint(train, facts) != facts["data"]["fingerprint"]:
        print(f"note: {args.training} is not the data that {name} was trained on: other rows")
    if scored.fingerprint() != stated["fingerprint"]:
        print(f"note: the rows of {scored.source} are not those that {name} was scored on")
    for teacher, digest in taught_by.items():
        if pretrained.read_facts(teacher)["sha256"] != digest:
            print(f"note: {pretrained.PREFIX}{teacher} is not the file that taught {name}")
    for note in unlike(facts["versions"], backend.versions()):
        print(f"note: {note}")

    files.require_writable(args.out_dir / "checkpoint.h5")
    result = training.train(
        train,
        validation,
        recipe,
        seed=facts["seed"],
        teachers=teachers,
        run_dir=args.run_dir or runs.RUNS_DIR / f"reproduce-{name}",
    )
    new = training.publish(result, args.out_dir)
    found = scoring.evaluate(
        checkpoints.load(new), scored, batch_size=args.batch_size, report=print
    ).scores.accuracy
    print(new)
    accuracy = stated["accuracy"]
    is_within = accuracy["low"] <= found.value <= accuracy["high"]
    print(
        f"{part} accuracy {found}; {name} states {accuracy['value']:.2%} (n={accuracy['n']}, 95% "
        f"interval {100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}): "
        + ("within that interval" if is_within else "NOT within that interval")
    )
    if not is_within:
        sys.exit(1)


def unlike(then: dict, now: dict) -> Iterator[str]:
    """What the result may depend on and was otherwise at the recorded training."""
    for name in VERSIONS:
        if then.get(name) != now[name]:
            yield f"{name} was {then.get(name, 'not told')} and is {now[name]}"
