"""A small residual network: narrow where the images are large, wide where they are small.

For 48x48 grey images and 7 classes: 1,580,327 trainable parameters, 0.15 G multiply-adds. Two
3x3 convolutions at full size, then stages of 3x3 ones at a half, a quarter and an eighth of the
side, and the mean over the places of the last.

Sources: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385 (residual
blocks, their initialisation); Lin et al. 2014, "Network In Network", arXiv 1312.4400 (the mean in
place of dense layers, which also lets the network take images of any size).
"""

import keras
from keras import layers

from ferlab.errors import InputError

STEMS = ("full", "strided")
STEM_FILTERS = 32  # multiples of 16: with 24 batch normalisation takes five times as long
STAGE_FILTERS = (48, 128, 224)
STAGE_BLOCKS = (1, 1, 1)  # residual blocks of two convolutions, after the stage's first one
POOLINGS = ("average", "max", "flatten")


def resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    stem: str = STEMS[0],
    stem_filters: int = STEM_FILTERS,
    stage_filters: tuple[int, ...] = STAGE_FILTERS,
    stage_blocks: tuple[int, ...] = STAGE_BLOCKS,
    pooling: str = "average",
) -> keras.Model:
    """Images of any size from 8x8; see the package for the contract of a builder.

    stem: full has two 3x3 convolutions before it halves the sides; strided, one 5x5 of stride 2,
        about twice as fast on a processor and less accurate.
    pooling: what joins the places of the last stage, one of POOLINGS; flatten for one size alone.
    """
    smallest = 2 ** len(stage_filters)
    if min(image_shape[:2]) < smallest:
        raise InputError(
            f"model resnet needs images of {smallest}x{smallest} or more. Received: {image_shape}"
        )
    for setting, value, known in (("stem", stem, STEMS), ("pooling", pooling, POOLINGS)):
        if value not in known:
            raise InputError(f"{setting} must be one of {', '.join(known)}. Received: {value!r}")
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(images)
    if stem == "strided":
        x = _convolution(x, stem_filters, "stem", kernel_size=5, strides=2)
    else:
        x = _convolution(x, stem_filters, "stem_1")
        x = _convolution(x, stem_filters, "stem_2")
        x = layers.MaxPooling2D(2, name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate(zip(stage_filters, stage_blocks, strict=True), 1):
        if stage > 1:
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = _convolution(x, filters, f"stage{stage}_entry")
        for block in range(1, blocks + 1):
            x = _residual_block(x, filters, f"stage{stage}_block{block}")
    join = {
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }[pooling]
    x = join(name="features")(x)
    outputs = layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model(images, outputs, name="resnet")


def _residual_block(x, filters: int, name: str):
    shortcut = x
    x = _convolution(x, filters, f"{name}_1")
    x = _convolution(x, filters, f"{name}_2", activation=None)
    x = layers.Add(name=f"{name}_sum")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(
    x, filters: int, name: str, *, kernel_size: int = 3, strides: int = 1, activation="relu"
):
    """A convolution and batch normalisation, whose shift takes the place of biases."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x
