"""Muon for convolutional networks.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon/. Updates are scaled so that AdamW's learning rates can be
used: Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from ferlab import backend
from ferlab.backend import keras

ops = keras.ops


@keras.saving.register_keras_serializable("ferlab")
class Muon(keras.optimizers.Muon):
    """Keras's Muon, applied to convolution kernels too, which Keras leaves to AdamW.

    A kernel is treated as a matrix: its last axis, the filters, by all other axes. Its momentum
    updates are orthogonalized. Other variables, and the layers in `exclude_layers`, use AdamW.

    The configuration equals that of Keras's Muon, so plain Keras can load such a checkpoint.
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
