"""Draw the image that maximizes each filter of a layer, or a class.

python gradient_ascent.py 0.643750.h5   ->   0.643750_block1_conv1.png
python gradient_ascent.py 0.643750.h5 --output happy   ->   0.643750_happy.png
"""

import time

from ferlab import cli
from ferlab.errors import entry_point


def parse_args():
    parser = cli.parser(__doc__, "checkpoint", "--class-names", *cli.CHECKPOINT_FLAGS, "--out-dir")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--layer",
        metavar="NAME",
        help="layer to draw the filters of, such as block2_conv1 (default: the first "
        "convolution); `python -m ferlab inspect MODEL` lists the layers",
    )
    target.add_argument(
        "--output", metavar="CLASS", help="class to draw instead, or `all` for every class"
    )
    parser.add_argument(
        "--steps",
        type=cli.whole_number(1),
        metavar="N",
        help="steps of the ascent (default: 128 for filters with a map, else 256)",
    )
    parser.add_argument(
        "--seed",
        type=cli.whole_number(0),
        default=0,
        metavar="N",
        help="seed of the initial noise (default: 0)",
    )
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import files, interpretation
    from ferlab.reports import pictures

    checkpoint = cli.load_checkpoint(args)
    target = interpretation.select_target(
        checkpoint, layer=args.layer, output=args.output, report=print
    )
    path = args.out_dir / f"{args.checkpoint.stem}_{target.name.replace('/', '_')}.png"
    files.require_other(path, [args.checkpoint, args.architecture])
    files.require_writable(path)

    start = time.perf_counter()
    ascent = interpretation.maximize(
        checkpoint,
        target.layer,
        target.units,
        steps=args.steps,
        seed=args.seed,
        progress=interpretation.Progress(print),
    )
    print(f"images drawn: {len(target.units)}, in {time.perf_counter() - start:.1f} s")
    pictures.save_ascent(checkpoint, target, ascent, path, print)


if __name__ == "__main__":
    main()
