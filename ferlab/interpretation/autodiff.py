"""Functions of arrays, compiled and differentiated by whichever backend Keras runs on.

Keras 3 has no word of its own for either outside of training.
"""

from collections.abc import Callable
from typing import Any

from ferlab.backend import keras

# What a function takes and gives: arrays or tensors, float32 unless it says otherwise.
Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """The function on arrays, compiled where the backend compiles; it keeps no gradients."""
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
    """Of `function(x, *others) -> (a sum, outputs)`: a function that gives (its gradient, outputs).

    The gradient is that of the sum with respect to x, in the shape of x; 0 where the sum does not
    depend on it. Where rows of x do not meet each other, it is each row's own.
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
            (found,) = torch.autograd.grad(total, x, allow_unused=True)
            return torch.zeros_like(x) if found is None else found, outputs

        return _on_tensors(call)
    raise NotImplementedError(f"gradients on the backend {backend}")


def _on_tensors(function: Function) -> Function:
    """Arrays in and out: what comes back has left the backend."""

    def call(*arrays):
        outputs = function(*map(keras.ops.convert_to_tensor, arrays))
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    return call
