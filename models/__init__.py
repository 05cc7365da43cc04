"""The architectures, one a file. `MODELS` is the registry; `build_model` the way in.

A builder takes the image shape (height, width, channels) and the number of classes, and returns
an uncompiled functional model whose input is raw grey levels 0 to 255 and whose output is a
probability for each class.
"""

import keras

from ferlab.errors import InputError
from models.cnn import cnn
from models.dnn import dnn
from models.resnet import resnet

MODELS = {"cnn": cnn, "dnn": dnn, "resnet": resnet}


def build_model(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build `MODELS[name]`. Raises InputError for an unknown name or images too small for it."""
    if name not in MODELS:
        raise InputError(f"model must be one of {', '.join(sorted(MODELS))}. Received: {name!r}")
    return MODELS[name](image_shape, num_classes)
