"""The course report's DNN: about as many parameters as its CNN, and no convolution.

For 48x48 grey images and 7 classes: 1,838,599 trainable parameters.
Source: "Image Sentiment Classification", a machine learning course report on FER-2013 (2017).
"""

import keras
from keras import layers

from models.head import head

DENSE_UNITS = (512, 512, 512, 256)


def dnn(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build the DNN, for images of any size; see `models` for arguments and result."""
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 255, name="rescale")(images)
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(DENSE_UNITS, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(images, head(x, num_classes), name="dnn")
