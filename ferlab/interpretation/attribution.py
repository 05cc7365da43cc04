"""Saliency: which pixels the loss depends on.

Every method is a function (network, images, targets, options) -> maps: a Network, images float32
(n, height, width, channels) of raw grey levels, targets int (n,), the output to explain for each
image, and Options. Maps are float32 (n, height, width), 0 or more. In a colour image a change of
one grey level changes all channels. To add a method, write its function and add a line to METHODS.

No library covers every model here: tf-keras-vis 0.8.7 fails on nested models with Keras 3.15,
Xplique 2.0 requires Keras 2, and both support TensorFlow only.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError, did_you_mean
from ferlab.inference.predict import output_indices

if TYPE_CHECKING:
    from ferlab.evaluation.costs import LayerCost
    from ferlab.interpretation.network import Network

PATCHES = 48  # maximum per side; in larger images, square patches of pixels are changed together
BATCH_PIXELS = 256 * 48 * 48  # pixels in a batch, so that batches of large images fit in memory
NOISE = 0.05  # standard deviation of SmoothGrad's noise, as a fraction of the image's range
SAMPLES = 10  # noisy copies for SmoothGrad
MAX_MULTIPLY_ADDS = 1e13  # maximum cost of a default method: some minutes


@dataclass(frozen=True)
class Options:
    """Settings that only some methods use.

    layer: the layer whose maps the coarse methods weight.
    samples: noisy copies for SmoothGrad.
    """

    layer: "LayerCost | None" = None
    samples: int = SAMPLES


def saliency(
    checkpoint: Checkpoint,
    dataset: Dataset,
    methods: Sequence[str],
    *,
    layer: str | None = None,
    samples: int = SAMPLES,
    report: Callable[[str], None] | None = None,
) -> dict[str, np.ndarray]:
    """Saliency maps of every image for its label, by each method: float32 (n, height, width).

    A row without a label is explained for the predicted class. Images must have the model's shape.

    layer: for the coarse methods; by default `network.last_map`.
    report: called with a line on each method's cost.

    Raises InputError for an unknown method or layer, and for a coarse method on a model without
    a suitable layer.
    """
    from ferlab.interpretation.network import Network

    options = Options(map_layer(checkpoint, methods, layer), samples)
    images = dataset.images.astype("float32")
    network = Network(checkpoint, images)
    targets = output_indices(checkpoint, dataset)
    maps = {}
    for name in methods:
        method = METHODS[name]
        start = time.perf_counter()
        maps[name] = method.function(network, images, targets, options)
        milliseconds = 1000 * (time.perf_counter() - start) / len(images)
        if report:
            where = f" at {options.layer.name}" if method.is_coarse else ""
            report(f"saliency by {name}{where}: {milliseconds:,.0f} ms per image")
    return maps


def map_layer(
    checkpoint: Checkpoint, methods: Sequence[str], layer: str | None
) -> "LayerCost | None":
    """The layer for the coarse methods; None if no method is coarse.

    Raises InputError as `saliency` does, before anything is computed.
    """
    from ferlab.interpretation.network import last_map, layer_named

    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise InputError(
            f"saliency method must be one of {', '.join(METHODS)}. Received: {unknown[0]!r}"
            f"{did_you_mean(unknown[0], METHODS)}"
        )
    coarse = [name for name in methods if METHODS[name].is_coarse]
    if not coarse:
        return None
    selected = last_map(checkpoint) if layer is None else layer_named(checkpoint, layer)
    if selected is None or len(selected.output_shape) != 3:
        raise InputError(
            f"{checkpoint.path}: {', '.join(coarse)} requires a layer that outputs maps, such as a "
            f"convolution. Received: {layer or 'a model without one'}"
        )
    return selected


def suitable_methods(checkpoint: Checkpoint, count: int) -> tuple[tuple[str, ...], list[str]]:
    """(methods that suit the model and `count` images, notes on why others are left out)."""
    from ferlab.evaluation.costs import multiply_adds
    from ferlab.interpretation.network import last_map

    methods, notes = [], []
    multiply_adds_per_pass = multiply_adds(checkpoint.sized_model())
    has_map = last_map(checkpoint) is not None
    for name, method in METHODS.items():
        passes = method.passes(checkpoint.image_shape) if method.passes else 0
        cost = count * passes * multiply_adds_per_pass
        if method.is_coarse and not has_map:
            notes.append(f"{name} left out: it requires a convolution, and the model has none")
        elif cost > MAX_MULTIPLY_ADDS:
            notes.append(
                f"{name} left out: it would take {cost:.0e} multiply-adds; request it by name to "
                "run it"
            )
        else:
            methods.append(name)
    return tuple(methods), notes


def select_methods(
    checkpoint: Checkpoint,
    count: int,
    requested: Sequence[str] | None,
    *,
    layer: str | None = None,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    """The requested methods, or else those that suit the model and `count` images.

    report: called with a note on each method left out. Raises InputError as `saliency` does.
    """
    if requested is None:
        methods, notes = suitable_methods(checkpoint, count)
        for note in notes:
            report(f"note: {note}")
    else:
        methods = tuple(dict.fromkeys(requested))
    map_layer(checkpoint, methods, layer)
    return methods


def perturbation(
    network: "Network", images: np.ndarray, targets: np.ndarray, options: Options
) -> np.ndarray:
    """The squared change of the loss when one pixel is one grey level brighter.

    The course report's method: a forward pass for each pixel, or for each square patch of pixels
    in images larger than 48 pixels a side.
    """
    height, width = images.shape[1:3]
    side = -(-max(height, width) // PATCHES)
    rows, columns = -(-height // side), -(-width // side)
    count = rows * columns + 1  # the last is the unchanged image
    batch = -(-count // max(round(count / _batch_size(images)), 1))
    maps = np.empty((len(images), height, width), np.float32)
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        losses = np.empty(-(-count // batch) * batch)
        for start in range(0, len(losses), batch):
            copies = np.repeat(image[None], batch, axis=0)
            for patch in range(start, min(start + batch, count - 1)):
                row, column = side * (patch // columns), side * (patch % columns)
                copies[patch - start, row : row + side, column : column + side] += 1
            losses[start : start + batch] = network.losses(copies, np.full(batch, target))
        squares = (losses[: count - 1] - losses[count - 1]) ** 2
        enlarged = squares.reshape(rows, columns).repeat(side, axis=0).repeat(side, axis=1)
        maps[index] = enlarged[:height, :width]
    return maps


def perturbation_passes(image_shape: tuple[int, int, int]) -> int:
    """Forward passes that `perturbation` takes for one image."""
    height, width = image_shape[:2]
    side = -(-max(height, width) // PATCHES)
    return -(-height // side) * -(-width // side) + 1


def gradient(
    network: "Network", images: np.ndarray, targets: np.ndarray, options: Options
) -> np.ndarray:
    """The squared gradient of the loss with respect to a pixel's grey level.

    The limit of `perturbation` for infinitely small changes, in one backward pass. After Simonyan,
    Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014, arXiv:1312.6034, who take
    the absolute gradient of the class score.
    """
    return _input_gradient(network, images, targets) ** 2


def smoothgrad(
    network: "Network", images: np.ndarray, targets: np.ndarray, options: Options
) -> np.ndarray:
    """The square of the gradient averaged over noisy copies, which cancels its fluctuations.

    The noise is normal, from a fixed seed, in pairs of opposite signs. Its standard deviation is
    5% of the image's range: the paper's 10 to 20%, tuned on photographs, hide a face of 48
    pixels. Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing noise by adding
    noise", 2017, arXiv:1706.03825.
    """
    samples = options.samples
    generator = np.random.default_rng(0)
    maps = np.empty(images.shape[:3], np.float32)
    images_per_batch = max(1, _batch_size(images) // (2 * samples))
    for start in range(0, len(images), images_per_batch):
        rows = slice(start, start + images_per_batch)
        scale = NOISE * np.ptp(images[rows], axis=(1, 2, 3))[:, None, None, None, None]
        noise = generator.normal(0, 1, (len(scale), -(-samples // 2), *images.shape[1:])) * scale
        noise = np.concatenate([noise, -noise], axis=1)[:, :samples]
        copies = (images[rows, None] + noise).astype("float32").reshape(-1, *images.shape[1:])
        gradients = _input_gradient(network, copies, np.repeat(targets[rows], samples))
        maps[rows] = gradients.reshape(-1, samples, *maps.shape[1:]).mean(axis=1) ** 2
    return maps


def grad_cam(
    network: "Network", images: np.ndarray, targets: np.ndarray, options: Options
) -> np.ndarray:
    """The sum of the layer's maps, each weighted by the mean gradient of the logit over it.

    Negative values, evidence against the class, are set to 0. Selvaraju, Cogswell, Das, Vedantam,
    Parikh and Batra, "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    """
    maps, gradients = _layer_gradient(network, images, targets, options.layer)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    return _resized(np.maximum((weights * maps).sum(axis=-1), 0), images)


def layer_cam(
    network: "Network", images: np.ndarray, targets: np.ndarray, options: Options
) -> np.ndarray:
    """The sum of the layer's maps, each position weighted by its own gradient if positive.

    Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM: Exploring Hierarchical Class Activation Maps for
    Localization", IEEE Transactions on Image Processing 30, 2021.
    """
    maps, gradients = _layer_gradient(network, images, targets, options.layer)
    return _resized(np.maximum((np.maximum(gradients, 0) * maps).sum(axis=-1), 0), images)


@dataclass(frozen=True)
class Method:
    """A saliency method.

    function: (network, images, targets, options) -> maps.
    title: title of its column in a picture, of one or two lines.
    help: a phrase for command-line help.
    is_coarse: whether it has the resolution of a layer's maps, and so is drawn over the image.
    passes: forward passes for one image of a shape, where that is more than a few.
    """

    function: "Callable[[Network, np.ndarray, np.ndarray, Options], np.ndarray]"
    title: str
    help: str
    is_coarse: bool = False
    passes: Callable[[tuple[int, int, int]], int] | None = None


METHODS = {
    "perturbation": Method(
        perturbation,
        "one grey level brighter,\nsquared change",
        "change of the loss, pixel by pixel",
        passes=perturbation_passes,
    ),
    "gradient": Method(gradient, "gradient,\nsquared", "gradient of the loss"),
    "smoothgrad": Method(smoothgrad, "SmoothGrad,\nsquared", "mean gradient of noisy copies"),
    "gradcam": Method(grad_cam, "Grad-CAM", "weighted maps of a layer", is_coarse=True),
    "layercam": Method(layer_cam, "LayerCAM", "maps weighted by position", is_coarse=True),
}


def _batch_size(images: np.ndarray) -> int:
    return max(1, BATCH_PIXELS // math.prod(images.shape[1:3]))


def _batches(images: np.ndarray, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = _batch_size(images)
    for start in range(0, len(images), size):
        yield images[start : start + size], targets[start : start + size]


def _input_gradient(network: "Network", images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gradient of the loss with respect to the grey level: float32 (n, height, width)."""
    batches = _batches(images, targets)
    return np.concatenate([network.input_gradient(*batch).sum(axis=-1) for batch in batches])


def _layer_gradient(
    network: "Network", images: np.ndarray, targets: np.ndarray, layer: "LayerCost"
) -> tuple[np.ndarray, ...]:
    """`Network.layer_gradient` for any number of images."""
    batches = _batches(images, targets)
    parts = [network.layer_gradient(layer, *batch) for batch in batches]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _resized(maps: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Maps enlarged to the size of the images, by bilinear interpolation."""
    from ferlab.backend import keras

    size = images.shape[1:3]
    resized = keras.ops.image.resize(maps[..., None], size, interpolation="bilinear")
    return keras.ops.convert_to_numpy(resized)[..., 0]
