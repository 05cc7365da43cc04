"""Find the weights of a vote.   python -m ferlab vote-fit validation.csv a.h5 b.h5"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.errors import InputError

if TYPE_CHECKING:
    import numpy as np

FOLDS = 5  # for the estimate on rows that the weights were not found on


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "vote-fit",
        help="find the weights of a vote on validation data",
        description="Find small whole-number weights for a vote of MODELs by greedy ensemble "
        "selection with replacement (Caruana et al. 2004) on VALIDATION, and write them as "
        "model_list.txt. Rows of PrivateTest, and rows that a member was trained on, decide "
        "nothing.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.prediction_options(),
            cli.tta_options(),
            cli.engine_options(),
            cli.held_out_options(),
            cli.cache_options(),
        ],
    )
    parser.add_argument("data", metavar="VALIDATION", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "models",
        type=cli.model_file,
        nargs="+",
        metavar="MODEL",
        help="checkpoints, or lists of them (.txt) whose weights are left aside",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("model_list.txt"),
        metavar="FILE",
        help="(default: model_list.txt)",
    )
    parser.add_argument(
        "--rounds",
        type=cli.whole_number(1, 1000),
        default=50,
        metavar="N",
        help="members added, one after another, before the best vote is taken (default: 50)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import data, files
    from ferlab.evaluation import held_out, metrics
    from ferlab.inference import ensemble_selection, voting

    files.require_writable(args.out)
    if args.out.suffix != ".txt":
        raise InputError(f"--out must end in .txt. Received: {args.out}")
    members = [member for model in args.models for member in voting.members_of(model)]
    if len(members) < 2:
        raise InputError(f"a vote needs two or more models. Received: {len(members)}")
    class_names = cli.chosen_class_names(args)
    whole = voting.read_for(members, args.data, class_names, role="train", truth=args.truth)

    def folder_at(image_shape: tuple[int, int, int]) -> data.Dataset:
        return data.read(
            args.data, role="train", class_names=whole.class_names, image_shape=image_shape
        )

    dataset = held_out.rows(
        whole,
        [member.path for member in members],
        usage=args.usage,
        read_at=folder_at if Path(args.data).is_dir() else None,
        report=print,
    )
    members = voting.with_flags(members, args.pixels, class_names)
    probabilities = voting.collect(
        members,
        dataset,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        cache_dir=args.cache_dir or voting.default_cache_dir(),
        report=print,
    )

    labels = dataset.labels
    weights = ensemble_selection.select(probabilities, labels, rounds=args.rounds)

    def accuracy(weights) -> str:
        shares = voting.combine(probabilities, weights, "soft")
        return str(metrics.accuracy(labels, shares.argmax(axis=1)))

    alone = (probabilities.argmax(axis=2) == labels).mean(axis=1)
    best = int(alone.argmax())
    print(f"best member      {metrics.accuracy(labels, probabilities[best].argmax(axis=1))}")
    print(f"                 {members[best].path}")
    print(f"equal weights    {accuracy([1] * len(members))}")
    print(f"fitted weights   {accuracy(weights)}, on the rows they were fitted on")
    if len(labels) >= FOLDS:
        found = metrics.accuracy(labels, _cross_validated(probabilities, labels, args.rounds))
        print(f"fitted weights   {found}, on rows they were not fitted on ({FOLDS} folds)")
    kept = [
        dataclasses.replace(member, weight=weight)
        for member, weight in zip(members, weights, strict=True)
        if weight
    ]
    voting.write_model_list(
        args.out,
        kept,
        [
            f"weights fitted by `python -m ferlab vote-fit` on {len(labels)} rows of "
            f"{Path(args.data).name}",
            f"{accuracy(weights)} there, {accuracy([1] * len(members))} with equal weights",
            f"{len(kept)} of {len(members)} members are kept",
        ],
    )
    print(f"{args.out}: {len(kept)} of {len(members)} members")


def _cross_validated(
    probabilities: "np.ndarray", labels: "np.ndarray", rounds: int
) -> "np.ndarray":
    """int (n,): each fold's classes, by weights found on the other folds."""
    import numpy as np

    from ferlab.inference import ensemble_selection, voting

    folds = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    predicted = np.empty(len(labels), dtype=int)
    for fold in range(FOLDS):
        own = folds == fold
        weights = ensemble_selection.select(probabilities[:, ~own], labels[~own], rounds=rounds)
        predicted[own] = voting.combine(probabilities[:, own], weights, "soft").argmax(axis=1)
    return predicted
