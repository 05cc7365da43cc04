"""Functions of arrays, compiled and differentiated by the backend that Keras runs on.

Keras 3 has no backend-independent function for either.
"""

from collections.abc import Callable
from typing import Any

from ferlab.backend import keras

# A function of arrays or tensors, float32 unless stated otherwise.
Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """The function on arrays, compiled if the backend can compile, without gradients."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return _on_tensors(tf.function(function, autograph=False))
    if backend == "jax":
        import jax

        return _on_tensors(jax.jit(function))
    if backend == "torch":
        import torch

        return _on_tensors(torch.no_grad()(function))
    return _on_tensors(function)


def gradient(function: Function) -> Function:
    """Turn `function(x, *others) -> (sum, outputs)` into one that returns (gradient, outputs).

    The gradient of the sum with respect to x has the shape of x, and is 0 where the sum does not
    depend on x. If the rows of x are independent, so are their gradients.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def call(x, *others):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total, outputs = function(x, *others)
            return tape.gradient(total, x, unconnected_gradients="zero"), outputs

        return _on_tensors(tf.function(call, autograph=False))
    if backend == "jax":
        import jax

        return _on_tensors(jax.jit(jax.grad(function, has_aux=True)))
    if backend == "torch":
        import torch

        def call(x, *others):
            x = x.detach().requires_grad_()
            total, outputs = function(x, *others)
            (result,) = torch.autograd.grad(total, x, allow_unused=True)
            return torch.zeros_like(x) if result is None else result, outputs

        return _on_tensors(call)
    raise NotImplementedError(f"gradients on the backend {backend}")


def _on_tensors(function: Function) -> Function:
    """The function on NumPy arrays, returning NumPy arrays."""

    def call(*arrays):
        outputs = function(*map(keras.ops.convert_to_tensor, arrays))
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    return call
