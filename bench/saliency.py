"""The cost of explaining an image with the CNN, compared with forward passes.

    python bench/saliency.py

Compares the course report's method, perturbation, with the same number of plain forward passes at
their fastest batch size. Also prints the time per image of the other methods, without their first
call, and the time of gradient ascent for all filters of the first layer.
"""

import functools
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, ratio, record, report

from ferlab import cli
from ferlab.errors import entry_point

ROUNDS, IMAGES = 5, 32


@entry_point
def main() -> None:
    cli.parser(__doc__).parse_args()

    import numpy as np

    from ferlab import interpretation
    from ferlab.checkpoints import Checkpoint
    from ferlab.data.drawn_faces import drawn_faces
    from ferlab.interpretation import attribution, autodiff
    from ferlab.interpretation.network import Network, first_convolution, last_map
    from models import build_model

    checkpoint = Checkpoint(Path("cnn"), build_model("cnn", (48, 48, 1), 7), None, "raw")
    images = drawn_faces(IMAGES, 0)[0].astype("float32")
    targets = np.zeros(IMAGES, np.int64)
    network = Network(checkpoint, images)
    options = interpretation.Options(last_map(checkpoint))
    passes = attribution.perturbation_passes(checkpoint.image_shape)

    model = checkpoint.raw_pixel_model()
    forward = autodiff.compiled(lambda batch: model(batch, training=False))

    def seconds(function, *arguments) -> float:
        start = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - start

    def forward_passes(batch_size: int) -> None:
        batch = np.repeat(images[:1], batch_size, axis=0)
        for start in range(0, passes, batch_size):
            forward(batch[: passes - start])

    def forwards(batch_size: int):
        forward_passes(batch_size)
        return lambda: seconds(forward_passes, batch_size)

    attribution.perturbation(network, images[:1], targets[:1], options)
    contenders = {f"{passes} passes by {size}": forwards(size) for size in (64, 128, 256, 512)}
    contenders["perturbation, one image"] = lambda: seconds(
        attribution.perturbation, network, images[:1], targets[:1], options
    )
    timings = in_turn(contenders, ROUNDS)
    report(timings)
    *passes_alone, ours = contenders
    best = min(passes_alone, key=lambda name: statistics.median(timings[name]))
    times = ratio(timings, best, ours)
    print(f"perturbation takes {times:.2f} times as long as {best}")
    record("saliency", timings, ours, best)

    methods = {
        name: functools.partial(method.function, network, images, targets, options)
        for name, method in interpretation.METHODS.items()
        if name != "perturbation"
    }
    for method in methods.values():
        method()
    timings = in_turn(
        {name: lambda call=call: seconds(call) / IMAGES * 1000 for name, call in methods.items()},
        ROUNDS,
    )
    report(timings, unit="ms/image")

    first = first_convolution(checkpoint)
    units = np.arange(first.output_shape[-1])
    report(
        in_turn(
            {
                f"{len(units)} filters of {first.name}": lambda: seconds(
                    interpretation.maximize, checkpoint, first, units
                )
            },
            3,
        )
    )


if __name__ == "__main__":
    main()
