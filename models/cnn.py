"""The course report's CNN: three blocks of three 3x3 convolutions, three dense layers.

For 48x48 grey images and 7 classes: 1,703,047 trainable parameters, 0.15 G multiply-adds.
Source: "Image Sentiment Classification", a machine learning course report on FER-2013 (2017).
"""

import keras
from keras import layers

from ferlab.errors import InputError
from models.head import head

BLOCK_FILTERS = (32, 64, 128)
CONVOLUTIONS_PER_BLOCK = 3
DENSE_UNITS = (256, 128, 64)


def cnn(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build the CNN, for images of 8x8 or more; see `models` for arguments and result."""
    if min(image_shape[:2]) < 2 ** len(BLOCK_FILTERS):
        raise InputError(f"model cnn requires images of 8x8 or more. Received: {image_shape}")
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 255, name="rescale")(images)
    for block, filters in enumerate(BLOCK_FILTERS, start=1):
        for index in range(1, CONVOLUTIONS_PER_BLOCK + 1):
            x = layers.Conv2D(
                filters, 3, padding="same", activation="relu", name=f"block{block}_conv{index}"
            )(x)
            x = layers.BatchNormalization(name=f"block{block}_norm{index}")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(DENSE_UNITS, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(images, head(x, num_classes), name="cnn")
