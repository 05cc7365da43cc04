"""Images that maximize a filter's activation or a class's logit: gradient ascent from noise.

Erhan, Bengio, Courville and Vincent, "Visualizing Higher-Layer Features of a Deep Network", 2009.
Regularization: jitter and total variation (Mordvintsev, Olah and Tyka, "Inceptionism", 2015;
Mahendran and Vedaldi, CVPR 2015), and an occasional blur (Yosinski, Clune, Nguyen, Fuchs and
Lipson, 2015, arXiv:1506.06579).
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ferlab.checkpoints import Checkpoint
from ferlab.errors import InputError, did_you_mean
from ferlab.labels import class_index

if TYPE_CHECKING:
    from ferlab.evaluation.costs import LayerCost
    from ferlab.interpretation.network import Network

STEP_SIZE = 6.0  # root mean square of a step, in grey levels; decays to a tenth
RESTARTS = 8  # maximum restarts from new noise, for a unit without a gradient
RESTART_NOISE = 80.0  # standard deviation of that noise, in grey levels
BATCH_PIXELS = 128 * 48 * 48
MAX_UNITS = 512  # maximum number of units of a layer in one picture
FORECAST_STEP = 4


@dataclass(frozen=True)
class Regularization:
    """Settings that keep the images readable.

    steps: default number of steps.
    noise: standard deviation of the initial noise around mid-grey, in grey levels.
    jitter: maximum random shift before each step, as a fraction of the image's side.
    total_variation: weight of its gradient in a step.
    blur: standard deviation of a Gaussian after every 8th step, in pixels; decays to 0.
    """

    steps: int
    noise: float
    jitter: float
    total_variation: float
    blur: float


# The pattern of a filter fills the image and may be as fine as two pixels. An image that maximizes
# an output, or a unit without a map, has larger parts in certain positions of the face.
FOR_MAPS = Regularization(steps=128, noise=80.0, jitter=1 / 8, total_variation=0.05, blur=0.5)
FOR_OUTPUTS = Regularization(steps=256, noise=10.0, jitter=1 / 24, total_variation=0.6, blur=2.0)
BLUR_EVERY = 8  # steps


@dataclass(frozen=True)
class Target:
    """Units to maximize.

    layer: the layer that they belong to, or None for the model's outputs before the softmax.
    units: int (n,). names: names of the units. name: name of the layer or class. title: title
    of a picture.
    """

    layer: "LayerCost | None"
    units: np.ndarray
    names: tuple[str, ...]
    name: str
    title: str


@dataclass(frozen=True)
class Ascent:
    """The result of a gradient ascent.

    images: float32 (n, height, width, channels), 0 to 255. activations: float32 (n,), of each
    unit on its image: the mean over a filter's map, or the logit of an output.
    dead: bool (n,), units whose gradient is 0 on every image tried.
    """

    images: np.ndarray
    activations: np.ndarray
    dead: np.ndarray


class Progress:
    """Reports the expected duration after the first steps, and counts steps in a terminal."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def __call__(self, step: int, steps: int) -> None:
        if step == 1:  # the step that compiles the function
            self._start = time.perf_counter()
        if step == FORECAST_STEP:
            seconds = (time.perf_counter() - self._start) / (step - 1) * (steps - 1)
            self._report(f"{steps} steps will take about {seconds:.0f} s")
        if sys.stdout.isatty():
            print(f"\rstep {step} of {steps}", end="\n" if step == steps else "", flush=True)


def select_target(
    checkpoint: Checkpoint,
    *,
    layer: str | None = None,
    output: str | None = None,
    report: Callable[[str], None],
) -> Target:
    """The filters of a layer, by default of the first convolution, or one or `all` outputs.

    report: called with a note if the layer has more units than fit in a picture. Raises InputError
    for an unknown layer or class.
    """
    from ferlab.interpretation.network import first_convolution, layer_named

    if output is not None:
        classes = checkpoint.class_names or tuple(map(str, range(checkpoint.num_classes)))
        unit = class_index(output, classes)
        if output != "all" and unit is None:
            raise InputError(
                f"{checkpoint.path}: output must be all or one of {', '.join(classes)}. "
                f"Received: {output!r}{did_you_mean(output, classes)}"
            )
        units = np.arange(len(classes)) if unit is None else np.array([unit])
        names = tuple(classes[unit] for unit in units)
        name = "all" if unit is None else classes[unit]
        return Target(None, units, names, name, "images that maximize the logit of each class")
    selected = layer_named(checkpoint, layer) if layer else first_convolution(checkpoint)
    units = np.arange(selected.output_shape[-1])
    if len(units) > MAX_UNITS:
        report(f"note: {selected.name} has {len(units):,} units; the first {MAX_UNITS} are drawn")
        units = units[:MAX_UNITS]
    title = f"images that maximize the activation of the {len(units)} units of {selected.name}"
    return Target(selected, units, tuple(map(str, units)), selected.name, title)


def maximize(
    checkpoint: Checkpoint,
    layer: "LayerCost | None",
    units: np.ndarray,
    *,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Ascent:
    """Compute an image for each unit that maximizes its activation, in batches.

    layer: the layer of the units; None for the model's outputs, before the softmax.
    units: int (n,). progress: called with (steps done, total steps).

    An image with a gradient of 0, as behind an inactive ReLU, restarts from new noise; a unit whose
    gradient is still 0 at the end is dead.
    """
    from ferlab.interpretation.network import Network

    settings = FOR_MAPS if layer is not None and len(layer.output_shape) == 3 else FOR_OUTPUTS
    settings = replace(settings, steps=steps or settings.steps)
    generator = np.random.default_rng(seed)
    shape = checkpoint.image_shape
    network = Network(checkpoint, generator.uniform(0, 255, (16, *shape)).astype("float32"))
    size = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
    batches = [units[start : start + size] for start in range(0, len(units), size)]
    results = []
    for index, batch in enumerate(batches):

        def report(step: int, steps_before: int = index * settings.steps) -> None:
            if progress:
                progress(steps_before + step, len(batches) * settings.steps)

        results.append(_ascend(network, layer, batch, settings, generator, report))
    return Ascent(*(np.concatenate(arrays) for arrays in zip(*results, strict=True)))


def _ascend(
    network: "Network",
    layer: "LayerCost | None",
    units: np.ndarray,
    settings: Regularization,
    generator: np.random.Generator,
    report: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, activations, dead) of one batch."""
    from scipy.ndimage import gaussian_filter

    shape = network.checkpoint.image_shape
    images = np.empty((len(units), *shape), np.float32)
    inactive, restarts = np.ones(len(units), dtype=bool), np.full(len(units), -1)
    max_shift = max(1, round(settings.jitter * min(shape[:2])))
    for step in range(settings.steps):
        rows = np.flatnonzero(inactive & (restarts < RESTARTS))
        restarts[rows] += 1
        for row in rows:
            images[row] = _initial_image(generator, shape, settings.noise, restarts[row])

        shift = generator.integers(-max_shift, max_shift + 1, 2)
        shifted = np.roll(images, shift, axis=(1, 2))
        _, gradients = network.unit_gradient(layer, shifted, units)
        gradients = np.roll(gradients, -shift, axis=(1, 2))
        inactive = ~gradients.any(axis=(1, 2, 3))

        decay = 1 - step / settings.steps
        smoother = settings.total_variation * _normalized(_variation_gradient(images))
        direction = _normalized(gradients) - smoother
        images = images + STEP_SIZE * (0.1 + 0.9 * decay) * direction
        if step % BLUR_EVERY == BLUR_EVERY - 1:
            images = gaussian_filter(images, (0, settings.blur * decay, settings.blur * decay, 0))
        images = np.clip(images, 0, 255).astype("float32")
        report(step + 1)
    activations, gradients = network.unit_gradient(layer, images, units)
    return images, activations, ~gradients.any(axis=(1, 2, 3))


def _initial_image(
    generator: np.random.Generator, shape: tuple[int, int, int], noise_level: float, restart: int
) -> np.ndarray:
    """Grey noise, float32 of `shape`, with a standard deviation of `noise_level` grey levels.

    A restart has stronger noise of random brightness, coarser each time, since some units
    respond only to large spots.
    """
    from scipy.ndimage import gaussian_filter

    noise = generator.normal(0, 1, shape)
    brightness = 127.5
    if restart:
        coarseness = (restart - 1) / 48 * min(shape[:2])
        noise = gaussian_filter(noise, (coarseness, coarseness, 0))
        brightness, noise_level = generator.uniform(64, 192), max(noise_level, RESTART_NOISE)
    noise *= noise_level / noise.std()
    return np.clip(brightness + noise, 0, 255).astype("float32")


def _normalized(gradients: np.ndarray) -> np.ndarray:
    """Each image's gradient divided by its root mean square."""
    scale = np.sqrt(np.mean(gradients**2, axis=(1, 2, 3), keepdims=True))
    return gradients / np.maximum(scale, 1e-12)


def _variation_gradient(images: np.ndarray) -> np.ndarray:
    """Half the gradient of the sum of squared differences between neighbouring pixels."""
    total = np.zeros_like(images)
    for axis in (1, 2):
        difference = np.diff(images, axis=axis)
        before, after = [(0, 0)] * 4, [(0, 0)] * 4
        before[axis], after[axis] = (1, 0), (0, 1)
        total += np.pad(difference, before) - np.pad(difference, after)
    return total
