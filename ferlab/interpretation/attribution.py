"""Which pixels an answer hangs on.

Every method takes a Network, images float32 (n, height, width, channels) of raw grey levels and
targets int (n,), the output to explain for each, and gives float32 (n, height, width), 0 or more.
Where images have colour, a grey level is one of all channels at once.

No library does this for every model here: tf-keras-vis 0.8.7 fails on nested models with Keras
3.15, Xplique 2.0 needs Keras 2, and both know TensorFlow alone.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ferlab.backend import keras
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation.costs import LayerCost, multiply_adds
from ferlab.inference.predict import output_indices
from ferlab.interpretation.networks import Network, last_map, layer_named

ops = keras.ops

PATCHES = 48  # a side: of larger images a patch of pixels gets the grey level, not each pixel
BATCH_PIXELS = 256 * 48 * 48  # of the images in a batch, so that large ones fit into the memory
NOISE = 0.05  # SmoothGrad's standard deviation, of the image's range of grey levels
SAMPLES = 10  # of SmoothGrad

CLASS_ACTIVATION = ("gradcam", "layercam")
METHODS = ("perturbation", "gradient", "smoothgrad", "gradcam", "layercam")
MOST_MULTIPLY_ADDS = 1e13  # that `methods_for` spends on perturbation: some minutes


def saliency(
    checkpoint: Checkpoint,
    dataset: Dataset,
    methods: Sequence[str],
    *,
    layer: str | None = None,
    samples: int = SAMPLES,
    report: Callable[[str], None] | None = None,
) -> dict[str, np.ndarray]:
    """Of every image of the dataset, by each method: what its class hangs on.

    Rows without a label are explained for the class that the model names. Images must have the
    model's shape. Gives float32 (n, height, width) by the method's name.

    layer: the one that gradcam and layercam look at; by default `networks.last_map`.
    report: is told what each method took.

    Raises InputError for an unknown method or layer, and for gradcam and layercam of a model
    without a map to look at.
    """
    looked_at = require_methods(checkpoint, methods, layer)
    images = dataset.images.astype("float32")
    network = Network(checkpoint, images)
    targets = output_indices(checkpoint, dataset)
    functions = {
        "perturbation": lambda: perturbation(network, images, targets),
        "gradient": lambda: gradient(network, images, targets),
        "smoothgrad": lambda: smoothgrad(network, images, targets, samples),
        "gradcam": lambda: grad_cam(network, images, targets, looked_at),
        "layercam": lambda: layer_cam(network, images, targets, looked_at),
    }
    maps = {}
    for method in methods:
        start = time.perf_counter()
        maps[method] = functions[method]()
        milliseconds = 1000 * (time.perf_counter() - start) / len(images)
        if report:
            where = f" at {looked_at.name}" if method in CLASS_ACTIVATION else ""
            report(f"saliency by {method}{where}: {milliseconds:,.0f} ms an image")
    return maps


def require_methods(
    checkpoint: Checkpoint, methods: Sequence[str], layer: str | None
) -> LayerCost | None:
    """Raise InputError unless the model can be explained so; as `saliency` does, in no time.

    Gives the layer that gradcam and layercam look at, where one of them is asked for.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise InputError(
            f"saliency must be by some of {', '.join(METHODS)}. Received: {unknown[0]!r}"
        )
    if not set(methods) & set(CLASS_ACTIVATION):
        return None
    found = last_map(checkpoint) if layer is None else layer_named(checkpoint, layer)
    if found is None or len(found.output_shape) != 3:
        raise InputError(
            f"{checkpoint.path}: gradcam and layercam look at the maps of a convolution. "
            f"Received: {layer or 'a model without one'}"
        )
    return found


def methods_for(checkpoint: Checkpoint, count: int) -> tuple[tuple[str, ...], list[str]]:
    """(the methods that suit the model and so many images, why others are left out)."""
    methods, notes = list(METHODS), []
    network = checkpoint.sized_model()
    cost = count * perturbation_passes(checkpoint.image_shape) * multiply_adds(network)
    if cost > MOST_MULTIPLY_ADDS:
        methods.remove("perturbation")
        notes.append(
            f"perturbation would take {cost:.0e} multiply-adds and is left out; name it to have it"
        )
    if last_map(checkpoint) is None:
        methods = [method for method in methods if method not in CLASS_ACTIVATION]
        notes.append("gradcam and layercam look at a convolution's maps, of which it has none")
    return tuple(methods), notes


def perturbation(network: Network, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The squared change of the loss when one pixel gets one grey level more.

    The course report's method: a forward pass for each pixel. Of images above 48 pixels a side it
    is a square patch of them that gets it.
    """
    height, width = images.shape[1:3]
    side = -(-max(height, width) // PATCHES)
    rows, columns = -(-height // side), -(-width // side)
    count = rows * columns + 1  # the last is the image itself
    batch = -(-count // max(round(count / _batch_size(images)), 1))
    maps = np.empty((len(images), height, width), np.float32)
    for found, image, target in zip(maps, images, targets, strict=True):
        changed = np.empty(-(-count // batch) * batch)
        for start in range(0, len(changed), batch):
            copies = np.repeat(image[None], batch, axis=0)
            for patch in range(start, min(start + batch, count - 1)):
                row, column = side * (patch // columns), side * (patch % columns)
                copies[patch - start, row : row + side, column : column + side] += 1
            changed[start : start + batch] = network.losses(copies, np.full(batch, target))
        squares = (changed[: count - 1] - changed[count - 1]) ** 2
        grown = squares.reshape(rows, columns).repeat(side, axis=0).repeat(side, axis=1)
        found[:] = grown[:height, :width]
    return maps


def perturbation_passes(image_shape: tuple[int, int, int]) -> int:
    """Forward passes that `perturbation` needs for one image."""
    height, width = image_shape[:2]
    side = -(-max(height, width) // PATCHES)
    return -(-height // side) * -(-width // side) + 1


def gradient(network: Network, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The squared gradient of the loss with respect to a pixel's grey level.

    What `perturbation` comes to for an infinitely small change, by one pass back. After Simonyan,
    Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014, arXiv:1312.6034, who take
    the absolute gradient of the class score.
    """
    return _input_gradient(network, images, targets) ** 2


def smoothgrad(
    network: Network, images: np.ndarray, targets: np.ndarray, samples: int = SAMPLES
) -> np.ndarray:
    """The square of the mean gradient over noisy copies, so that what flickers averages out.

    The noise is normal and drawn by a fixed seed, in pairs of opposite signs; its standard
    deviation is 5% of the image's range: the 10 to 20% of the paper, found on photographs, drown a
    face of 48 pixels. Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing noise by
    adding noise", 2017, arXiv:1706.03825.
    """
    generator = np.random.default_rng(0)
    maps = np.empty(images.shape[:3], np.float32)
    together = max(1, _batch_size(images) // (2 * samples))
    for start in range(0, len(images), together):
        rows = slice(start, start + together)
        spread = NOISE * np.ptp(images[rows], axis=(1, 2, 3))[:, None, None, None, None]
        noise = generator.normal(0, 1, (len(spread), -(-samples // 2), *images.shape[1:])) * spread
        noise = np.concatenate([noise, -noise], axis=1)[:, :samples]
        copies = (images[rows, None] + noise).astype("float32").reshape(-1, *images.shape[1:])
        gradients = _input_gradient(network, copies, np.repeat(targets[rows], samples))
        maps[rows] = gradients.reshape(-1, samples, *maps.shape[1:]).mean(axis=1) ** 2
    return maps


def grad_cam(
    network: Network, images: np.ndarray, targets: np.ndarray, layer: LayerCost
) -> np.ndarray:
    """The layer's maps, weighted by the mean gradient of the score with respect to each.

    Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    The score is the one before the softmax. What speaks against the class is cut off at 0.
    """
    maps, gradients = _layer_gradient(network, images, targets, layer)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    return _grown(np.maximum((weights * maps).sum(axis=-1), 0), images)


def layer_cam(
    network: Network, images: np.ndarray, targets: np.ndarray, layer: LayerCost
) -> np.ndarray:
    """The layer's maps, each place weighted by its own gradient where that is positive.

    Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM: Exploring Hierarchical Class Activation Maps for
    Localization", IEEE Transactions on Image Processing 30, 2021.
    """
    maps, gradients = _layer_gradient(network, images, targets, layer)
    return _grown(np.maximum((np.maximum(gradients, 0) * maps).sum(axis=-1), 0), images)


def _batch_size(images: np.ndarray) -> int:
    return max(1, BATCH_PIXELS // math.prod(images.shape[1:3]))


def _batches(images: np.ndarray, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = _batch_size(images)
    for start in range(0, len(images), size):
        yield images[start : start + size], targets[start : start + size]


def _input_gradient(network: Network, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float32 (n, height, width): of the loss, with respect to a grey level of all channels."""
    batches = _batches(images, targets)
    return np.concatenate([network.input_gradient(*batch).sum(axis=-1) for batch in batches])


def _layer_gradient(
    network: Network, images: np.ndarray, targets: np.ndarray, layer: LayerCost
) -> tuple[np.ndarray, ...]:
    """`Network.layer_gradient` of any number of images."""
    batches = _batches(images, targets)
    found = [network.layer_gradient(layer, *batch) for batch in batches]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _grown(maps: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Maps brought to the size of the images, between the centres of their cells linearly."""
    size = images.shape[1:3]
    grown = ops.image.resize(maps[..., None], size, interpolation="bilinear")
    return ops.convert_to_numpy(grown)[..., 0]
