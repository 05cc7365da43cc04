"""Write a small data set of drawn faces.   python -m ferlab sample sample_data"""

import argparse
from pathlib import Path

from ferlab.errors import InputError

MAX_COUNT = 1_000_000
GRID_GREYS = 32  # grey levels of faces.png; few, so that the file is small


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "sample",
        help="write a small data set of drawn faces, to try everything without FER-2013",
        description="Write OUT_DIR/train.csv, test.csv, test_truth.csv and faces.png, a grid of "
        "examples. The faces are drawn by a program: about the same number for each emotion, with "
        "a few wrong labels in train.csv, as in data labelled by people.",
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write to")
    parser.add_argument(
        "--train", type=int, default=4000, metavar="N", help="training faces (default: 4000)"
    )
    parser.add_argument(
        "--test", type=int, default=1000, metavar="N", help="test faces (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    _require_in_range("--train", args.train, 1)
    _require_in_range("--test", args.test, 1)
    _require_in_range("--seed", args.seed, 0)

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


def _require_in_range(flag: str, value: int, minimum: int) -> None:
    if not minimum <= value <= MAX_COUNT:
        raise InputError(f"{flag} must be from {minimum} to {MAX_COUNT:,}. Received: {value}")
