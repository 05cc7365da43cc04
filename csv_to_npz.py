"""Pack tables into one .npz archive, which the other scripts read faster.

python csv_to_npz.py train.csv test.csv   ->   data.npz
"""

from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError, entry_point


def parse_args():
    parser = cli.parser(__doc__, *cli.FOLDER_FLAGS)
    parser.add_argument("train", metavar="TRAIN", help="CSV, .npz or folder")
    parser.add_argument("test", metavar="TEST", nargs="?", help="CSV, .npz or folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data.npz"),
        metavar="FILE",
        help="archive to write (default: data.npz)",
    )
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()
    if args.out.suffix != ".npz":
        raise InputError(f"{args.out}: --out must end in .npz")

    from ferlab import data

    counts = data.write_npz(
        args.out,
        train=args.train,
        test=args.test,
        class_names=cli.class_names(args),
        image_shape=cli.image_shape(args),
    )
    print(args.out, *(f"{part}: {rows:,} rows" for part, rows in counts.items()), sep="  ")


if __name__ == "__main__":
    main()
