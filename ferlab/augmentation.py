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
    return layers
