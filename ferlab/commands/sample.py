"""Write a small data set of drawn faces.   python -m ferlab sample sample_data"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab.errors import InputError
from ferlab.labels import EMOTIONS

if TYPE_CHECKING:
    from PIL import Image

MOST = 1_000_000
GRID_COLUMNS = 12
GRID_GREYS = 32  # enough for a small file
MARGIN = 110  # for the emotions' names, in pixels


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "sample",
        help="write a small data set of drawn faces, to try everything without FER-2013",
        description="Write OUT_DIR/train.csv, test.csv, test_truth.csv and a picture of examples, "
        "faces.png. The faces are drawn by a program: about equally many of each emotion, and a "
        "few wrong labels in train.csv, as people would make them.",
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write to")
    parser.add_argument(
        "--train", type=int, default=4000, metavar="N", help="faces to train on (default: 4000)"
    )
    parser.add_argument(
        "--test", type=int, default=1000, metavar="N", help="faces to test on (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    for flag, count, least in (
        ("--train", args.train, 1),
        ("--test", args.test, 1),
        ("--seed", args.seed, 0),
    ):
        if not least <= count <= MOST:
            raise InputError(f"{flag} must be from {least} to {MOST:,}. Received: {count}")

    from ferlab import data
    from ferlab.data.drawn_faces import LABEL_NOISE, drawn_faces
    from ferlab.files import require_writable, whole_file

    train_path, test_path, truth_path, grid_path = paths = [
        args.out_dir / name for name in ("train.csv", "test.csv", "test_truth.csv", "faces.png")
    ]
    for path in paths:
        if path.exists():
            raise InputError(f"{path}: exists already; choose another folder")
        require_writable(path)

    images, labels = drawn_faces(args.train, seed=2 * args.seed)
    data.write_csv(train_path, images, labels=labels)
    print(f"{train_path}: {args.train} faces with labels, about {LABEL_NOISE:.0%} of them wrong")

    images, truth = drawn_faces(args.test, seed=2 * args.seed + 1, label_noise=0)
    data.write_csv(test_path, images, ids=range(args.test))
    print(f"{test_path}: {args.test} faces without labels")
    data.write_submission(truth_path, range(args.test), truth)
    print(f"{truth_path}: the emotions drawn in them")

    with whole_file(grid_path) as temporary:
        example_grid(args.seed).quantize(GRID_GREYS).save(temporary, optimize=True)
    print(f"{grid_path}: {GRID_COLUMNS} faces of each emotion")


def example_grid(seed: int, scale: int = 2) -> "Image.Image":
    """A row of faces for each emotion, its name at the left; the pixels `scale` times as large."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from ferlab.data.drawn_faces import draw_face

    cell = 48 * scale + 4
    grid = Image.new("L", (MARGIN + GRID_COLUMNS * cell, len(EMOTIONS) * cell), 255)
    draw = ImageDraw.Draw(grid)
    for row, emotion in enumerate(EMOTIONS):
        middle = (MARGIN - 10, row * cell + cell // 2)
        draw.text(middle, emotion, fill=0, anchor="rm", font=ImageFont.load_default(size=22))
        for column in range(GRID_COLUMNS):
            rng = np.random.default_rng([seed, row, column])
            face = Image.fromarray(draw_face(row, rng)).resize((48 * scale,) * 2, Image.NEAREST)
            grid.paste(face, (MARGIN + column * cell + 2, row * cell + 2))
    return grid
