"""Draw the image that each filter of a layer, or a class, asks for most.

python gradient_ascent.py 0.643750.h5   ->   0.643750_block1_conv1.png
python gradient_ascent.py 0.643750.h5 --output happy   ->   0.643750_happy.png
"""

import sys
import time
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError, entry_point

MOST_UNITS = 512  # of a layer that are drawn
FORECAST_STEP = 4


def parse_args():
    parser = cli.parser(
        __doc__, cli.data_options(), cli.checkpoint_options(), cli.architecture_options()
    )
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to draw"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--layer",
        metavar="NAME",
        help="whose filters are drawn, such as block2_conv1 (default: the first convolution); "
        "`python -m ferlab inspect MODEL` lists them",
    )
    what.add_argument(
        "--output", metavar="CLASS", help="the class that is drawn instead, or `all` of them"
    )
    parser.add_argument(
        "--steps",
        type=cli.whole_number(1),
        metavar="N",
        help="of the ascent (default: 128 for filters with a map, else 256)",
    )
    parser.add_argument(
        "--seed", type=cli.whole_number(0), default=0, metavar="N", help="(default: 0)"
    )
    parser.add_argument(
        "--out-dir", type=Path, default=Path(), metavar="DIR", help="(default: here)"
    )
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    import numpy as np

    from ferlab import checkpoints, files, interpretation, plots

    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=cli.chosen_class_names(args),
        architecture=args.architecture,
    )
    if args.output is not None:
        layer, what = None, "what it takes for the class, with its logit"
        labels, units = chosen_outputs(checkpoint, args.output)
        name = args.output
    else:
        layer = (
            interpretation.layer_named(checkpoint, args.layer)
            if args.layer
            else interpretation.first_convolution(checkpoint)
        )
        units = np.arange(layer.output_shape[-1])
        if len(units) > MOST_UNITS:
            print(f"note: {layer.name} has {len(units):,} units; the first {MOST_UNITS} are drawn")
            units = units[:MOST_UNITS]
        labels, name = units.astype(str).tolist(), layer.name
        what = f"what excites the {len(units)} units of {layer.name}, with their activation"
    path = args.out_dir / f"{args.checkpoint.stem}_{name.replace('/', '_')}.png"
    files.require_other(path, [args.checkpoint, args.architecture])
    files.require_writable(path)

    start = time.perf_counter()
    ascent = interpretation.maximize(
        checkpoint, layer, units, steps=args.steps, seed=args.seed, progress=Progress()
    )
    print(f"images drawn: {len(units)}, in {time.perf_counter() - start:.1f} s")
    labels = [
        f"{label}: dead" if dead else f"{label}: {activation:.3g}"
        for label, activation, dead in zip(labels, ascent.activations, ascent.dead, strict=True)
    ]
    if ascent.dead.any():
        print(f"{ascent.dead.sum()} of them react to no image that was tried (dead)")
    title = f"{args.checkpoint.name}: {what}"
    plots.save(plots.filters_figure(ascent.images, labels, title), path)
    print(path)


def chosen_outputs(checkpoint, name: str):
    """(names, indices) of the outputs that the user means; a number where the model has no name."""
    import numpy as np

    names = checkpoint.class_names or tuple(map(str, range(checkpoint.num_classes)))
    if name != "all" and name not in names:
        raise InputError(
            f"{checkpoint.path}: --output must be all or one of {', '.join(names)}. "
            f"Received: {name!r}"
        )
    chosen = names if name == "all" else (name,)
    return chosen, np.array([names.index(each) for each in chosen])


class Progress:
    """Counts the steps in a terminal, and says after the first ones how long all will take."""

    def __call__(self, step: int, steps: int) -> None:
        if step == 1:  # which builds the graph
            self.start = time.perf_counter()
        if step == FORECAST_STEP:
            seconds = (time.perf_counter() - self.start) / (step - 1) * (steps - 1)
            print(f"{steps} steps will take about {seconds:.0f} s", flush=True)
        if sys.stdout.isatty():
            print(f"\rstep {step} of {steps}", end="\n" if step == steps else "", flush=True)


if __name__ == "__main__":
    main()
