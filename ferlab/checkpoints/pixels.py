"""Pixel scales: how grey levels are scaled before they enter a model."""

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


def scaled(images: np.ndarray, pixels: str) -> np.ndarray:
    """Images in a pixel scale, float32. images: float (n, height, width, channels), from 0 to 1."""
    if pixels == "unit":
        values = images
    elif pixels == "raw":
        values = 255 * images
    elif pixels == "symmetric":
        values = 2 * images - 1
    elif pixels == "standardized":
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = images.std(axis=(1, 2, 3), keepdims=True)
        values = (images - mean) / np.maximum(deviation, 1e-6)
    else:
        values = 255 * images[..., ::-1] - np.array(_IMAGENET_MEANS)
    return values.astype("float32")


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
        outputs = keras.layers.Rescaling(1 / 255, name="rescale")(images)
    elif pixels == "symmetric":
        outputs = keras.layers.Rescaling(1 / 127.5, -1, name="rescale")(images)
    elif pixels == "standardized":
        # Over one axis, as Keras loses a list of axes when it opens `.h5`.
        one_axis = keras.layers.Reshape((-1,), name="all_pixels")(images)
        standardize = keras.layers.LayerNormalization(
            center=False, scale=False, epsilon=1e-6, name="standardize"
        )
        outputs = keras.layers.Reshape(image_shape, name="standardized")(standardize(one_axis))
    else:
        layer = keras.layers.Conv2D(3, 1, trainable=False, name="rgb_to_bgr_less_means")
        outputs = layer(images)
        layer.set_weights([np.eye(3)[None, None, ::-1], -np.array(_IMAGENET_MEANS)])
    return keras.Model(images, model(outputs), name=f"raw_{model.name}")
