"""A small residual network: few channels at high resolution, many at low resolution.

For 48x48 grey images and 7 classes: 1,580,327 trainable parameters, 0.15 G multiply-adds. Two
3x3 convolutions at full resolution, three stages of 3x3 convolutions at a half, a quarter and an
eighth of it, global average pooling.

Sources: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385 (residual
blocks and their initialization); Lin et al. 2014, "Network In Network", arXiv 1312.4400 (global
average pooling instead of dense layers, which allows images of any size).
"""

import keras
from keras import layers

from ferlab.errors import InputError
from models.head import head

STEMS = ("full", "strided")
STEM_FILTERS = 32  # a multiple of 16: with 24, batch normalization takes five times as long
STAGE_FILTERS = (48, 128, 224)
STAGE_BLOCKS = (1, 1, 1)  # two convolutions each, after the first convolution of the stage
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
    """Build the ResNet, for images of 8x8 or more; see `models` for arguments and result.

    stem: "full", two 3x3 convolutions and pooling, or "strided", one 5x5 convolution of stride 2,
        which is about twice as fast on a CPU and less accurate.
    pooling: how the last stage's feature maps are pooled, one of POOLINGS; "flatten" ties the
        network to one image size.
    """
    smallest = 2 ** len(stage_filters)
    if min(image_shape[:2]) < smallest:
        raise InputError(
            f"model resnet requires images of {smallest}x{smallest} or more. "
            f"Received: {image_shape}"
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
    pool = {
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }[pooling]
    x = pool(name="features")(x)
    return keras.Model(images, head(x, num_classes), name="resnet")


def _residual_block(x, filters: int, name: str):
    shortcut = x
    x = _convolution(x, filters, f"{name}_1")
    x = _convolution(x, filters, f"{name}_2", activation=None)
    x = layers.Add(name=f"{name}_sum")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(
    x, filters: int, name: str, *, kernel_size: int = 3, strides: int = 1, activation="relu"
):
    """A convolution without bias, then batch normalization and the activation."""
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
