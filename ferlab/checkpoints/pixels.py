"""Pixel scales: how grey levels are scaled before they enter a model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ferlab.errors import InputError

if TYPE_CHECKING:
    import keras

PIXEL_SCALES = {
    "unit": "x / 255",
    "raw": "0 to 255",
    "symmetric": "x / 127.5 - 1",
    "standardized": "each image minus its mean, divided by its standard deviation",
    "caffe": "BGR minus the ImageNet means, as for Keras's VGG and ResNet-50",
}
_IMAGENET_MEANS = (103.939, 116.779, 123.68)  # B, G, R, in grey levels


def require_scale(where: str, pixels: str, image_shape: tuple[int, int, int]) -> None:
    """Raise InputError for a scale that is unknown or does not suit images of that shape."""
    if pixels not in PIXEL_SCALES:
        raise InputError(
            f"{where}: pixels must be one of {', '.join(PIXEL_SCALES)}. Received: {pixels!r}"
        )
    if pixels == "caffe" and image_shape[-1] != 3:
        raise InputError(f"{where}: pixels caffe requires images of 3 channels. Received: 1")


def plausible_scales(image_shape: tuple[int, int, int]) -> list[str]:
    """The scales that suit images of that shape."""
    return [pixels for pixels in PIXEL_SCALES if pixels != "caffe" or image_shape[-1] == 3]


def on_raw_pixels(
    model: "keras.Model", pixels: str, image_shape: tuple[int, int, int]
) -> "keras.Model":
    """A model that takes raw grey levels: layers that scale them, then `model` itself.

    The variables are shared with `model`.
    """
    if pixels == "raw":
        return model
    from ferlab.backend import keras

    images = keras.Input(image_shape, name="images")
    if pixels == "unit":
        scaled = keras.layers.Rescaling(1 / 255, name="rescale")(images)
    elif pixels == "symmetric":
        scaled = keras.layers.Rescaling(1 / 127.5, -1, name="rescale")(images)
    elif pixels == "standardized":
        layer = keras.layers.LayerNormalization(
            axis=[1, 2, 3], center=False, scale=False, epsilon=1e-6, name="standardize"
        )
        scaled = layer(images)
    else:
        layer = keras.layers.Conv2D(3, 1, trainable=False, name="rgb_to_bgr_less_means")
        scaled = layer(images)
        layer.set_weights([np.eye(3)[None, None, ::-1], -np.array(_IMAGENET_MEANS)])
    return keras.Model(images, model(scaled), name=f"raw_{model.name}")


def takes_raw_pixels(model: "keras.Model") -> bool:
    """Whether the model scales grey levels itself, before any layer with weights."""
    for kind in _kinds(model):
        if kind in ("Rescaling", "Normalization"):
            return True
        keeps_scale = kind in ("InputLayer", "Resizing", "CenterCrop", "ZeroPadding2D", "Permute")
        if not (keeps_scale or kind.startswith("Random")):
            return False
    return False


def _kinds(model: "keras.Model") -> Iterator[str]:
    """The class names of the layers in order, with nested models expanded."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _kinds(layer)
        else:
            yield type(layer).__name__
