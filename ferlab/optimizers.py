"""Muon for convolutional networks, and the optimizer of a recipe.

Source of Muon: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon/. Updates are scaled so that AdamW's learning rates can be
used: Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from collections.abc import Sequence

from ferlab import backend
from ferlab.backend import keras
from ferlab.recipes import Recipe

ops = keras.ops


@keras.saving.register_keras_serializable("ferlab")
class Muon(keras.optimizers.Muon):
    """Keras's Muon, applied to convolution kernels too, which Keras leaves to AdamW.

    A kernel is treated as a matrix: its last axis, the filters, by all other axes. Its momentum
    updates are orthogonalized. Other variables, and the layers in `exclude_layers`, use AdamW.

    The configuration equals that of Keras's Muon, so Keras can load the checkpoint without ferlab.
    """

    def _should_use_adamw(self, variable) -> bool:
        if len(variable.shape) < 3:
            return super()._should_use_adamw(variable)
        return any(keyword in variable.path for keyword in self.exclude_layers)

    def _muon_update_step(self, gradient, variable, lr, m) -> None:
        self.assign(m, self.momentum * m + gradient)
        step = gradient + self.momentum * m if self.nesterov else m
        matrix = ops.reshape(step, (-1, variable.shape[-1]))
        dtype = "bfloat16" if backend.has_bfloat16() else variable.dtype  # precise enough here
        scale = self.rms_rate * max(matrix.shape) ** 0.5
        matrix = ops.cast(matrix / (ops.norm(matrix) + 1e-7), dtype)
        matrix = ops.cast(self.zeropower_via_newtonschulz5(matrix, self.ns_steps), variable.dtype)
        self.assign_sub(variable, lr * scale * ops.reshape(matrix, variable.shape))


def build(
    recipe: Recipe,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    without_muon: Sequence[str],
) -> keras.optimizers.Optimizer:
    """A new optimizer for the recipe. without_muon: names of layers that Muon leaves to AdamW."""
    settings = {
        "learning_rate": learning_rate,
        "weight_decay": _weight_decay(recipe),
        "use_ema": bool(recipe.ema),
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings)
    if recipe.optimizer == "muon":
        return Muon(
            adam_weight_decay=settings["weight_decay"],
            exclude_layers=list(without_muon),
            **settings,
        )
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    return kinds[recipe.optimizer](**settings)


def rebuild(
    saved: keras.optimizers.Optimizer,
    recipe: Recipe,
    saved_recipe: Recipe,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
) -> keras.optimizers.Optimizer:
    """A new optimizer with the settings of a saved one; its state is not copied.

    Weight decay and EMA momentum are the recipe's where they differ from the saved recipe's.
    """
    config = {**saved.get_config(), "learning_rate": learning_rate}
    if recipe.weight_decay != saved_recipe.weight_decay:
        decays = config.keys() & {"weight_decay", "adam_weight_decay"}
        config.update(dict.fromkeys(decays, _weight_decay(recipe)))
    if recipe.ema != saved_recipe.ema:
        config["ema_momentum"] = recipe.ema
    return type(saved).from_config(config)


def _weight_decay(recipe: Recipe) -> float | None:
    """The value for Keras: None for no weight decay, except for AdamW, which requires a number."""
    return recipe.weight_decay or (0.0 if recipe.optimizer == "adamw" else None)
