"""The images that a filter, or an output, asks for: gradient ascent from noise.

Erhan, Bengio, Courville and Vincent, "Visualizing Higher-Layer Features of a Deep Network", 2009.
What keeps the pictures readable: jitter and total variation (Mordvintsev, Olah and Tyka,
"Inceptionism", 2015; Mahendran and Vedaldi, CVPR 2015), and now and then a blur (Yosinski, Clune,
Nguyen, Fuchs and Lipson, 2015, arXiv:1506.06579).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ferlab.checkpoints import Checkpoint
from ferlab.evaluation.costs import LayerCost
from ferlab.interpretation.networks import Network

STEP_SIZE = 6.0  # grey levels, the root mean square of a step; falls to a tenth of it
RESTARTS = 8  # of what does not react, from other noise
LOUD = 80.0  # grey levels, the standard deviation of that
BATCH_PIXELS = 128 * 48 * 48


@dataclass(frozen=True)
class Regularization:
    """What keeps an ascent readable.

    steps: how many, unless a user says otherwise.
    start: grey levels, the standard deviation of the noise around mid-grey that it begins with.
    jitter: of the image's side, how far it is shifted at random before a step.
    total_variation: of a step, against the difference of neighbouring pixels.
    blur: pixels, the standard deviation of a Gaussian after every 8th step; falls to 0.
    """

    steps: int
    start: float
    jitter: float
    total_variation: float
    blur: float


# A filter's pattern fills the image, rim and all, and may be as fine as two pixels; what an output
# or a unit without a map asks for has its place in the face, and parts larger than that.
OF_MAPS = Regularization(steps=128, start=80.0, jitter=1 / 8, total_variation=0.05, blur=0.5)
OF_OUTPUTS = Regularization(steps=256, start=10.0, jitter=1 / 24, total_variation=0.6, blur=2.0)
BLUR_EVERY = 8  # steps


@dataclass(frozen=True)
class Ascent:
    """What an ascent led to.

    images: float32 (n, height, width, channels), 0 to 255. activations: float32 (n,), how active
    the unit is on its image: the mean over a filter's map, or the logit of an output.
    dead: bool (n,), which units react to no image that was tried.
    """

    images: np.ndarray
    activations: np.ndarray
    dead: np.ndarray


def maximize(
    checkpoint: Checkpoint,
    layer: LayerCost | None,
    units: np.ndarray,
    *,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Ascent:
    """For each unit the image that excites it most, all in one batch.

    layer: whose filters or units are meant; None for the model's outputs, before the softmax.
    units: int (n,). progress: is told (steps done, steps in all).

    An image to which its unit does not react at all, as behind a ReLU that is off, begins anew
    from other noise; a unit that still does not in the end is dead.
    """
    settings = OF_MAPS if layer is not None and len(layer.output_shape) == 3 else OF_OUTPUTS
    settings = replace(settings, steps=steps or settings.steps)
    generator = np.random.default_rng(seed)
    shape = checkpoint.image_shape
    network = Network(checkpoint, generator.uniform(0, 255, (16, *shape)).astype("float32"))
    size = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
    parts = [units[start : start + size] for start in range(0, len(units), size)]
    found = []
    for index, part in enumerate(parts):

        def report(step: int, before: int = index * settings.steps) -> None:
            if progress:
                progress(before + step, len(parts) * settings.steps)

        found.append(_climb(network, layer, part, settings, generator, report))
    return Ascent(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _climb(
    network: Network,
    layer: LayerCost | None,
    units: np.ndarray,
    settings: Regularization,
    generator: np.random.Generator,
    report: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, activations, dead) of one batch."""
    from scipy.ndimage import gaussian_filter

    shape = network.checkpoint.image_shape
    images = np.empty((len(units), *shape), np.float32)
    silent, restarts = np.ones(len(units), dtype=bool), np.full(len(units), -1)
    most = max(1, round(settings.jitter * min(shape[:2])))
    for step in range(settings.steps):
        anew = np.flatnonzero(silent & (restarts < RESTARTS))
        restarts[anew] += 1
        for row in anew:
            images[row] = _noise(generator, shape, settings.start, restarts[row])

        jitter = generator.integers(-most, most + 1, 2)
        shifted = np.roll(images, jitter, axis=(1, 2))
        _, gradients = network.unit_gradient(layer, shifted, units)
        gradients = np.roll(gradients, -jitter, axis=(1, 2))
        silent = ~gradients.any(axis=(1, 2, 3))

        left = 1 - step / settings.steps
        smoother = settings.total_variation * _normalised(_variation(images))
        direction = _normalised(gradients) - smoother
        images = images + STEP_SIZE * (0.1 + 0.9 * left) * direction
        if step % BLUR_EVERY == BLUR_EVERY - 1:
            images = gaussian_filter(images, (0, settings.blur * left, settings.blur * left, 0))
        images = np.clip(images, 0, 255).astype("float32")
        report(step + 1)
    activations, gradients = network.unit_gradient(layer, images, units)
    return images, activations, ~gradients.any(axis=(1, 2, 3))


def _noise(
    generator: np.random.Generator, shape: tuple[int, int, int], contrast: float, attempt: int
) -> np.ndarray:
    """What an image begins with, float32 of `shape`: grey noise, `contrast` grey levels strong.

    At later attempts it is louder, of other brightness, and coarser each time, since a unit may
    react to large spots alone.
    """
    from scipy.ndimage import gaussian_filter

    noise = generator.normal(0, 1, shape)
    brightness = 127.5
    if attempt:
        coarse = (attempt - 1) / 48 * min(shape[:2])
        noise = gaussian_filter(noise, (coarse, coarse, 0))
        brightness, contrast = generator.uniform(64, 192), max(contrast, LOUD)
    noise *= contrast / noise.std()
    return np.clip(brightness + noise, 0, 255).astype("float32")


def _normalised(gradients: np.ndarray) -> np.ndarray:
    """Each image's gradient over its root mean square."""
    scale = np.sqrt(np.mean(gradients**2, axis=(1, 2, 3), keepdims=True))
    return gradients / np.maximum(scale, 1e-12)


def _variation(images: np.ndarray) -> np.ndarray:
    """The gradient of the squared differences between neighbouring pixels."""
    found = np.zeros_like(images)
    for axis in (1, 2):
        change = np.diff(images, axis=axis)
        before, after = [(0, 0)] * 4, [(0, 0)] * 4
        before[axis], after[axis] = (1, 0), (0, 1)
        found += np.pad(change, before) - np.pad(change, after)
    return found
