"""The pixel scale that a model implies: by what its graph does to images before its first weights.

A few images in each scale are passed through the graph, layers and operations alike, up to the
first layer with weights. Networks learn from numbers of about 1 or from grey levels, so what enters
that layer shows the scale. Batch normalization and `Normalization` have recorded the mean and
variance of their inputs, which show it even if the graph scales nothing.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ferlab.checkpoints.pixels import plausible_scales, scaled

if TYPE_CHECKING:
    import keras

RANDOM = 4  # images, followed by a black and a white one
LARGEST_PROBE = 256  # pixels a side; the graph is asked about larger images by smaller ones
LAYERS_TO_STATISTICS = 3  # layers with weights before the first batch normalization, at most
_WIDTHS = ((0.3, 20.0), (150.0, 300.0))  # of the values that networks learn from
_KEEP_PIXELS = ("LayerNormalization", "GroupNormalization", "RMSNormalization")
_WITH_STATISTICS = ("BatchNormalization", "Normalization")
_DEPENDS_ON_WEIGHTS = object()  # in place of a tensor


def implied_scale(model: "keras.Model", image_shape: tuple[int, int, int]) -> str | None:
    """The key of PIXEL_SCALES for the images that the model takes; None if it cannot be known.

    image_shape: (height, width, channels) of these images.
    """
    if "int" in str(model.inputs[0].dtype):
        return "raw"  # integers from 0 to 1 would be black and white
    scales, images = plausible_scales(image_shape), _images(image_shape)
    try:
        entries = [_entries(model, scaled(images, pixels)) for pixels in scales]
        verdicts = {
            *_verdicts(_by_statistics, scales, [entry.statistics for entry in entries]),
            *_verdicts(_by_values, scales, [entry.values for entry in entries]),
        } - {None}
        if not verdicts:
            return _by_first_batch_normalization(model, images, scales)
    except Exception:  # a foreign graph can make Keras raise anything
        return None
    return verdicts.pop() if len(verdicts) == 1 else None


@dataclass(frozen=True)
class _Statistics:
    """Values that enter a normalization, and the statistics that it has recorded of its inputs.

    values: float (n, ..., channels). mean, variance: float (channels,), or one for all channels.
    are_moving: whether they began at 0 and 1, from which few steps of training lead little away.
    """

    values: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    are_moving: bool


@dataclass
class _Entries:
    """What enters the layers with weights; layers_to_pass: how many of them to run as well."""

    layers_to_pass: int = 0
    values: list[np.ndarray] = field(default_factory=list)
    statistics: list[_Statistics] = field(default_factory=list)


def _verdicts(
    judge: Callable[[dict], str | None], scales: Sequence[str], by_scale: Sequence[list]
) -> list[str | None]:
    """The verdict on each place of the graph; by_scale: for each scale what enters these places."""
    return [judge(dict(zip(scales, place, strict=True))) for place in zip(*by_scale, strict=True)]


def _images(image_shape: tuple[int, int, int]) -> np.ndarray:
    """Random images, a black and a white one, float (n, height, width, channels), from 0 to 1.

    The random ones have amplitudes of 1 / frequency, a mean of about 0.5 and a deviation of about
    0.25, as photographs do.
    """
    height, width = (min(side, LARGEST_PROBE) for side in image_shape[:2])
    shape = (RANDOM, height, width, image_shape[-1])
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=shape), axes=(1, 2))
    down, right = np.fft.fftfreq(height), np.fft.fftfreq(width)
    frequency = np.hypot(down[:, None], right)[None, :, :, None]
    waves = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / max(height, width)), axes=(1, 2)).real
    low, high = waves.min(axis=(1, 2, 3), keepdims=True), waves.max(axis=(1, 2, 3), keepdims=True)
    images = np.clip(1.5 * (waves - low) / np.maximum(high - low, 1e-6) - 0.25, 0, 1)
    return np.concatenate([images, np.zeros((1, *shape[1:])), np.ones((1, *shape[1:]))])


def _entries(model: "keras.Model", images: np.ndarray, layers_to_pass: int = 0) -> _Entries:
    from ferlab.backend import keras

    entries = _Entries(layers_to_pass)
    _run(model, keras.ops.convert_to_tensor(images, dtype=model.inputs[0].dtype), entries)
    return entries


def _run(model: "keras.Model", inputs: Any, entries: _Entries) -> Any:
    graph = getattr(model, "_functional", None) or model  # a Sequential model has one
    return graph._run_through_graph(
        inputs, operation_fn=lambda operation: functools.partial(_call, operation, entries)
    )


def _call(operation: Any, entries: _Entries, *args: Any, **kwargs: Any) -> Any:
    """The outputs of an operation in prediction, if they do not depend on weights."""
    from ferlab.backend import keras

    leaves = keras.tree.flatten((args, kwargs))
    values = [_array(leaf) for leaf in leaves if keras.ops.is_tensor(leaf)]
    unknown = [_DEPENDS_ON_WEIGHTS for _ in operation._inbound_nodes[0].output_tensors]
    if any(leaf is _DEPENDS_ON_WEIGHTS for leaf in leaves):
        entries.values += values
        return unknown
    if isinstance(operation, keras.Model):
        return _run(operation, args, entries)
    if statistics := _statistics(operation, values):
        entries.statistics.append(statistics)
        return unknown
    if _has_learned(operation):
        if not entries.layers_to_pass:
            entries.values += values
            return unknown
        entries.layers_to_pass -= 1
    if getattr(operation, "_call_has_training_arg", False):
        kwargs["training"] = False
    return operation(*args, **kwargs)


def _array(tensor: Any) -> np.ndarray:
    from ferlab.backend import keras

    return np.asarray(keras.ops.convert_to_numpy(tensor)).astype("float64")


def _statistics(operation: Any, values: list[np.ndarray]) -> _Statistics | None:
    """What a normalization has recorded; None for others, and for one that was never adapted."""
    if type(operation).__name__ not in _WITH_STATISTICS or len(values) != 1:
        return None
    are_moving = type(operation).__name__ == "BatchNormalization"
    prefix = "moving_" if are_moving else ""
    mean, variance = (_array(getattr(operation, f"{prefix}{of}")) for of in ("mean", "variance"))
    if not mean.any() and (variance == 1).all():
        return None
    return _Statistics(values[0], mean, variance, are_moving)


def _has_learned(operation: Any) -> bool:
    """Whether it has weights that suit one scale of its inputs only."""
    kind = type(operation).__name__
    if not getattr(operation, "weights", None) or kind in (*_KEEP_PIXELS, "Normalization"):
        return False
    is_pointwise = set(getattr(operation, "kernel_size", ())) == {1}
    has_few_filters = getattr(operation, "filters", 0) in (1, 3)
    is_conversion = is_pointwise and has_few_filters and not operation.trainable
    return not is_conversion  # such as that of RGB to BGR less the means


def _by_statistics(entries: dict[str, _Statistics]) -> str | None:
    """The scale in which images have the mean and variance that a normalization has recorded."""
    distances = {}
    for pixels, each in entries.items():
        random = each.values[:RANDOM]
        deviation = max(random.std(), 1e-12)
        distances[pixels] = abs(math.log(math.sqrt(max(each.variance.mean(), 1e-12)) / deviation))
        distances[pixels] += 0.5 * abs(each.mean.mean() - random.mean()) / deviation
    for common, rare in (("raw", "caffe"), ("unit", "symmetric")):
        if abs(distances[common] - distances.get(rare, math.inf)) < 0.3:
            del distances[rare]
    best, second = sorted(distances, key=distances.__getitem__)[:2]
    is_clear = distances[best] < 2 and distances[second] - distances[best] > 0.2
    is_far_from_0 = best == "symmetric" and np.abs(entries[best].mean).max() > 0.1
    may_be_initial = entries[best].are_moving and (best == "standardized" or is_far_from_0)
    return best if is_clear and not may_be_initial else None


def _by_values(entries: dict[str, np.ndarray]) -> str | None:
    """The scale in which the values that enter a layer are of a size to learn from."""
    random = {pixels: values[:RANDOM] for pixels, values in entries.items()}
    if not np.ptp(entries["raw"], axis=0).any():
        return None  # a constant
    if np.abs(random["raw"] - random["unit"]).max() < 0.05 * np.ptp(random["raw"]):
        return "raw"  # normalized for each image, so that either scale will do
    levels = {pixels: len(np.unique(values.round(6))) for pixels, values in random.items()}
    fitting = [
        pixels
        for pixels in ("raw", "unit", "symmetric")
        if _is_to_learn_from(*_range(entries[pixels]))
        and levels[pixels] > max(levels.values()) / 4  # others are clipped
    ]
    if {"raw", "unit"} <= {*fitting}:
        return None  # the images enter as they are
    if fitting:
        return fitting[0]
    low, high = _range(entries["raw"])
    return "raw" if 0 < high - low < 100 else None


def _range(values: np.ndarray) -> tuple[float, float]:
    """The lowest and highest values of a black and a white image, without those of the padding."""
    black, white = values[-2:]
    differs = np.isfinite(black) & np.isfinite(white) & (black != white)
    ends = np.concatenate([black[differs], white[differs], [0.0] if not differs.any() else []])
    return float(ends.min()), float(ends.max())


def _is_to_learn_from(low: float, high: float) -> bool:
    """Whether a range is about 1 or 255 wide and begins or ends at 0, or lies around it."""
    width = high - low
    if not any(least <= width <= most for least, most in _WIDTHS):
        return False
    return min(abs(low), abs(high)) <= 1e-3 * width or -0.93 <= low / width <= -0.07


def _by_first_batch_normalization(
    model: "keras.Model", images: np.ndarray, scales: Sequence[str]
) -> str | None:
    """`raw` or `caffe` if grey levels have the variances that a batch normalization has recorded.

    Their variance is 65,025 times that of x / 255, more than different images explain. None for
    other scales, whose variances are too similar.
    """
    distances = {}
    for pixels in scales:
        entries = _entries(model, scaled(images, pixels), LAYERS_TO_STATISTICS)
        if not entries.statistics:
            return None
        first = entries.statistics[0]
        random = first.values[:RANDOM]
        axes = tuple(range(random.ndim - 1))
        variance = random.var(axis=axes)
        is_alive = (variance > 1e-9) & (first.variance > 1e-9)  # not behind a ReLU that is never on
        if not is_alive.any():
            return None
        ratio = np.median(np.log(first.variance[is_alive] / variance[is_alive]))
        if pixels == "unit" and ratio < 7:
            return None
        if pixels in ("raw", "caffe") and abs(ratio) < 4:
            offset = np.abs(first.mean - random.mean(axis=axes)) / np.sqrt(first.variance)
            distances[pixels] = float(np.median(offset[is_alive]))
    return min(distances, key=distances.__getitem__) if distances else None
