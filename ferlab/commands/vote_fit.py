"""Fit the weights of a vote.   python -m ferlab vote-fit validation.csv a.h5 b.h5"""

import argparse
import dataclasses
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "vote-fit",
        "--class-names",
        "--truth",
        "--usage",
        "--pixels",
        *cli.PREDICTION_FLAGS,
        "--cache-dir",
        help="fit the weights of a vote on validation data",
        description="Fit small whole-number weights for a vote of MODELs by greedy ensemble "
        "selection with replacement (Caruana et al. 2004) on VALIDATION, and write them to "
        "model_list.txt. Rows of PrivateTest, and rows that a member was trained on, are not used.",
        run=run,
    )
    parser.add_argument("data", metavar="VALIDATION", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "members",
        type=cli.model_file,
        nargs="+",
        metavar="MODEL",
        help="checkpoints, or lists of them (.txt), whose weights are ignored",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("model_list.txt"),
        metavar="FILE",
        help="list to write (default: model_list.txt)",
    )
    parser.add_argument(
        "--rounds",
        type=cli.whole_number(1, 1000),
        default=50,
        metavar="N",
        help="rounds of greedy selection; each adds one member (default: 50)",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab import files
    from ferlab.evaluation import held_out
    from ferlab.evaluation.votes import FOLDS, vote_scores
    from ferlab.inference import ensemble_selection, model_list, voting

    files.require_writable(args.out)
    if args.out.suffix != ".txt":
        raise InputError(f"--out must end in .txt. Received: {args.out}")
    members = [member for model in args.members for member in model_list.members_of(model)]
    if len(members) < 2:
        raise InputError(f"a vote requires two or more models. Received: {len(members)}")
    class_names = cli.class_names(args)
    match = voting.read(members, args.data, class_names, role="train", truth=args.truth)
    dataset = held_out.tuning_rows(
        match.dataset,
        [member.path for member in members],
        usage=args.usage,
        images_at=match.at,
        report=print,
    )
    members = model_list.with_defaults(members, args.pixels, class_names)
    probabilities = voting.collect(
        members,
        dataset,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        cache_dir=args.cache_dir,
        report=print,
    )
    weights = ensemble_selection.select(probabilities, dataset.labels, rounds=args.rounds)
    scores = vote_scores(probabilities, dataset.labels, weights, args.rounds)
    print(f"best member      {scores.best}")
    print(f"                 {members[scores.best_member].path}")
    print(f"equal weights    {scores.equal}")
    print(f"fitted weights   {scores.fitted}, on the rows they were fitted on")
    if scores.cross_validated:
        folds = f"on rows they were not fitted on ({FOLDS} folds)"
        print(f"fitted weights   {scores.cross_validated}, {folds}")

    weighted = [
        dataclasses.replace(member, weight=weight)
        for member, weight in zip(members, weights, strict=True)
        if weight
    ]
    comments = [
        f"weights fitted by `python -m ferlab vote-fit` on {len(dataset)} rows of "
        f"{Path(args.data).name}",
        f"{scores.fitted} on these rows, {scores.equal} with equal weights",
        f"{len(weighted)} of {len(members)} members have a nonzero weight",
    ]
    model_list.write(args.out, weighted, comments)
    print(f"{args.out}: {len(weighted)} of {len(members)} members")
