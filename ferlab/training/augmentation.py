"""What is done at random to a training image: Keras's own layers, run inside the training step."""

from ferlab.backend import keras
from ferlab.recipes import Recipe


def augmentation_layers(recipe: Recipe) -> list[keras.layers.Layer]:
    """The recipe's random layers, raw grey levels in and out; none of them acts in evaluation.

    Pixels shifted in from outside repeat the nearest edge, as Keras's ImageDataGenerator has it.
    """
    layers: list[keras.layers.Layer] = []
    if recipe.horizontal_flip:
        layers.append(keras.layers.RandomFlip("horizontal", name="random_flip"))
    if recipe.shift:
        layers.append(
            keras.layers.RandomTranslation(
                recipe.shift, recipe.shift, fill_mode="nearest", name="random_shift"
            )
        )
    if recipe.rotation:
        layers.append(
            keras.layers.RandomRotation(
                recipe.rotation / 360, fill_mode="nearest", name="random_rotation"
            )
        )
    if recipe.zoom:
        layers.append(keras.layers.RandomZoom(recipe.zoom, fill_mode="nearest", name="random_zoom"))
    if recipe.contrast:
        layers.append(keras.layers.RandomContrast(recipe.contrast, name="random_contrast"))
    if recipe.erasing:
        layers.append(
            keras.layers.RandomErasing(
                (1.0, 1.0),
                scale=(0.02, max(recipe.erasing, 0.02)),
                fill_value=128,
                name="random_erasing",
            )
        )
    return _compiled(layers)


def strong_augmentation_layers() -> list[keras.layers.Layer]:
    """What makes a strong view of FixMatch, after the weak one's layers; raw grey levels.

    Turned, zoomed, brighter or darker, more or less contrast, and a patch erased, as RandAugment
    and Cutout do; of their operations those that leave the expression of a grey face what it is.
    """
    return _compiled(
        [
            keras.layers.RandomRotation(15 / 360, fill_mode="nearest", name="random_rotation"),
            keras.layers.RandomZoom(0.15, fill_mode="nearest", name="random_zoom"),
            keras.layers.RandomBrightness(0.2, name="random_brightness"),
            keras.layers.RandomContrast(0.4, name="random_contrast"),
            keras.layers.RandomErasing(
                (1.0, 1.0), scale=(0.02, 0.2), fill_value=128, name="random_erasing"
            ),
        ]
    )


def _compiled(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """The layers, which JAX may compile.

    Those that move pixels say that they cannot be, for the sake of TensorFlow's compiler; a step
    with one of them would then run operation by operation, which on JAX is far slower.
    """
    for layer in layers:
        layer.supports_jit = keras.backend.backend() == "jax"
    return layers
