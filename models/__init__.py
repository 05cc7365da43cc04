"""The architectures, one per file. `MODELS` is the registry; `build_model` builds one by name.

A builder takes the image shape (height, width, channels) and the number of classes. It returns an
uncompiled functional model that takes raw pixels, 0 to 255, and outputs a probability for each
class; its last layer is called HEAD, and a pretrained network in it is one layer called BACKBONE.
"""

import keras

from ferlab.errors import InputError, did_you_mean
from models.cnn import cnn
from models.dnn import dnn
from models.head import BACKBONE, HEAD
from models.resnet import resnet

MODELS = {"cnn": cnn, "dnn": dnn, "resnet": resnet}

__all__ = ["BACKBONE", "HEAD", "MODELS", "build_model"]


def build_model(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build `MODELS[name]`.

    Raises InputError for an unknown name, and for images that are too small for the model.
    """
    if name not in MODELS:
        raise InputError(
            f"model must be one of {', '.join(sorted(MODELS))}. Received: {name!r}"
            f"{did_you_mean(name, MODELS)}"
        )
    return MODELS[name](image_shape, num_classes)
