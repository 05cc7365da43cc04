"""Write a small data set of drawn faces.   python -m ferlab sample sample_data"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError

MAX_COUNT = 1_000_000
GRID_GREYS = 32  # grey levels of faces.png; few, so that the file is small


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "sample",
        help="write a small data set of drawn faces, to try everything without FER-2013",
        description="Write OUT_DIR/train.csv, test.csv, test_truth.csv and faces.png, a grid of "
        "examples. The faces are drawn by a program: about the same number for each emotion, with "
        "a few wrong labels in train.csv, as in data labelled by people.",
        run=run,
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write to")
    for flag, default, help in (
        ("--train", 4000, "training faces (default: 4000)"),
        ("--test", 1000, "test faces (default: 1000)"),
    ):
        parser.add_argument(
            flag, type=cli.whole_number(1, MAX_COUNT), default=default, metavar="N", help=help
        )
    parser.add_argument(
        "--seed",
        type=cli.whole_number(0, MAX_COUNT),
        default=0,
        metavar="N",
        help="random seed (default: 0)",
    )


def run(args: argparse.Namespace) -> None:
    from ferlab import data
    from ferlab.data import drawn_faces
    from ferlab.files import require_writable, whole_file

    train_path, test_path, truth_path, grid_path = paths = [
        args.out_dir / name for name in ("train.csv", "test.csv", "test_truth.csv", "faces.png")
    ]
    for path in paths:
        if path.exists():
            raise InputError(f"{path}: exists already; choose another folder")
        require_writable(path)

    images, labels = drawn_faces.drawn_faces(args.train, seed=2 * args.seed)
    data.write_csv(train_path, images, labels=labels)
    noise = f"about {drawn_faces.LABEL_NOISE:.0%} of the labels wrong"
    print(f"{train_path}: {args.train} labelled faces, {noise}")

    images, truth = drawn_faces.drawn_faces(args.test, seed=2 * args.seed + 1, label_noise=0)
    data.write_csv(test_path, images, ids=range(args.test))
    print(f"{test_path}: {args.test} unlabelled faces")
    data.write_submission(truth_path, range(args.test), truth)
    print(f"{truth_path}: the labels of {test_path.name}")

    grid = drawn_faces.example_grid(args.seed)
    with whole_file(grid_path) as temporary:
        grid.quantize(GRID_GREYS).save(temporary, optimize=True)
    print(f"{grid_path}: {drawn_faces.GRID_COLUMNS} faces of each emotion")
