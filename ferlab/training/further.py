"""The recipe for training a checkpoint further: its own, with more epochs."""

from pathlib import Path

from ferlab import checkpoints
from ferlab.errors import InputError
from ferlab.recipes import Recipe, SemiRecipe, get_recipe, settings


def supervised_recipe(path: Path, epochs: int) -> Recipe:
    """The checkpoint's recipe, or that of the report's CNN, for this total number of epochs.

    Raises InputError for a checkpoint of a semi-supervised training.
    """
    recorded = checkpoints.recorded_recipe(path)
    if isinstance(recorded, SemiRecipe):
        raise InputError(f"{path}: was also trained on unlabelled images; use semi_retrain.py")
    return (recorded or get_recipe("cnn-report")).override(epochs=epochs)


def semi_supervised_recipe(path: Path, epochs: int) -> SemiRecipe:
    """The checkpoint's recipe for this total number of epochs, in one round without a ramp.

    From a supervised recipe, semi-report takes the settings that it accepts.
    """
    recorded = checkpoints.recorded_recipe(path)
    if isinstance(recorded, SemiRecipe):
        return recorded.override(epochs=epochs, rounds=1, ramp_epochs=0)
    recipe = get_recipe("semi-report", SemiRecipe)
    if recorded:
        shared = {
            name: getattr(recorded, name)
            for name, setting in settings(Recipe).items()
            if not setting.supervised_only
        }
        recipe = recipe.override(model=recorded.model, **shared)
    return recipe.override(epochs=epochs, rounds=1, ramp_epochs=0)


def require_same_validation(path: Path, recipe: Recipe) -> None:
    """Raise InputError unless the validation rows are the same as in the checkpoint's training."""
    recorded = checkpoints.recorded_recipe(path)
    if recorded and recipe.validation != recorded.validation:
        raise InputError(
            f"{path}: --validation must be {recorded.validation}, as in its training. "
            f"Received: {recipe.validation}"
        )
