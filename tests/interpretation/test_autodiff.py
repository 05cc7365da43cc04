"""Gradients by the backend against those known by hand."""

import numpy as np
from keras import ops

from ferlab.interpretation import autodiff


def test_gradient_of_each_row_with_auxiliary_outputs():
    def squares(x, factor):
        return ops.sum(factor * x**2), (x + 1, factor)

    x = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)
    gradient, (auxiliary, factor) = autodiff.gradient(squares)(x, np.float32(3))
    np.testing.assert_allclose(gradient, 6 * x)
    np.testing.assert_array_equal(auxiliary, x + 1)
    assert factor == 3
    assert type(gradient) is type(auxiliary) is np.ndarray


def test_gradient_is_0_for_an_input_without_influence():
    gradient, _ = autodiff.gradient(lambda x, y: (ops.sum(y), y))(
        np.ones(3, np.float32), np.ones(2)
    )
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_compiled_function_accepts_any_number_of_rows():
    doubled = autodiff.compiled(lambda x: 2 * x)
    for count in (1, 4, 2):
        np.testing.assert_array_equal(doubled(np.ones((count, 2))), np.full((count, 2), 2.0))
