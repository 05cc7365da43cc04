"""Random augmentation of training images, by Keras layers inside the training step.

A layer is one line in `LAYERS` and one field in `ferlab/recipes.py`. Mixup and CutMix, which blend
whole batches with their targets, are in `ferlab/data/batches.py`.
"""

from collections.abc import Callable

from ferlab.backend import keras
from ferlab.recipes import Recipe

GREY_LEVELS = (0, 255)


def _flip(_: float) -> keras.layers.Layer:
    return keras.layers.RandomFlip("horizontal", name="random_flip")


def _shift(fraction: float) -> keras.layers.Layer:
    """Pixels from outside repeat the nearest edge, as in Keras's former ImageDataGenerator."""
    return keras.layers.RandomTranslation(
        fraction, fraction, fill_mode="nearest", name="random_shift"
    )


def _rotation(degrees: float) -> keras.layers.Layer:
    return keras.layers.RandomRotation(degrees / 360, fill_mode="nearest", name="random_rotation")


def _zoom(fraction: float) -> keras.layers.Layer:
    return keras.layers.RandomZoom(fraction, fill_mode="nearest", name="random_zoom")


def _brightness(fraction: float) -> keras.layers.Layer:
    return keras.layers.RandomBrightness(fraction, GREY_LEVELS, name="random_brightness")


def _contrast(fraction: float) -> keras.layers.Layer:
    return keras.layers.RandomContrast(fraction, name="random_contrast")


def _sharpness(fraction: float) -> keras.layers.Layer:
    """Keras's factor is 0 for a blurred image, 0.5 for the image itself and 1 for a sharp one."""
    ends = (0.5 - fraction / 2, 0.5 + fraction / 2)
    return keras.layers.RandomSharpness(ends, GREY_LEVELS, name="random_sharpness")


def _erasing(fraction: float) -> keras.layers.Layer:
    smallest = 0.02
    return keras.layers.RandomErasing(
        (1.0, 1.0),
        scale=(smallest, max(fraction, smallest)),
        fill_value=128,
        name="random_erasing",
    )


LAYERS: dict[
    str, Callable[[float], keras.layers.Layer]
] = {  # by setting, in the order of application
    "horizontal_flip": _flip,
    "shift": _shift,
    "rotation": _rotation,
    "zoom": _zoom,
    "brightness": _brightness,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "erasing": _erasing,
}


def augmentation_layers(recipe: Recipe) -> list[keras.layers.Layer]:
    """The recipe's random layers, in order; raw grey levels in and out.

    They are inactive in evaluation.
    """
    values = {name: getattr(recipe, name) for name in LAYERS}
    return _compiled([LAYERS[name](value) for name, value in values.items() if value])


def strong_augmentation_layers() -> list[keras.layers.Layer]:
    """The layers of FixMatch's strong view, to follow those of the weak view.

    Rotation, zoom, brightness, contrast and erasing: the operations of RandAugment and Cutout that
    preserve the expression of a grey face.
    """
    strengths = {
        "rotation": 15.0,
        "zoom": 0.15,
        "brightness": 0.2,
        "contrast": 0.4,
        "erasing": 0.2,
    }
    return _compiled([LAYERS[name](value) for name, value in strengths.items()])


def _compiled(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Mark the layers as supporting JIT compilation on JAX.

    Keras marks layers that move pixels as unsupported, because of TensorFlow's XLA. A training step
    with one of them would then run uncompiled, which is far slower on JAX.
    """
    for layer in layers:
        layer.supports_jit = keras.backend.backend() == "jax"
    return layers
