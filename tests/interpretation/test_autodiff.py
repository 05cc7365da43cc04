"""Gradients by the backend against those known by hand."""

import numpy as np
from keras import ops

from ferlab.interpretation import autodiff


def test_the_gradient_of_each_row_and_what_else_is_computed():
    def squares(x, factor):
        return ops.sum(factor * x**2), (x + 1, factor)

    x = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)
    gradient, (more, factor) = autodiff.gradient(squares)(x, np.float32(3))
    np.testing.assert_allclose(gradient, 6 * x)
    np.testing.assert_array_equal(more, x + 1)
    assert factor == 3
    assert type(gradient) is type(more) is np.ndarray


def test_what_a_sum_does_not_depend_on_has_gradient_0():
    gradient, _ = autodiff.gradient(lambda x, y: (ops.sum(y), y))(
        np.ones(3, np.float32), np.ones(2)
    )
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_a_compiled_function_takes_any_number_of_rows():
    doubled = autodiff.compiled(lambda x: 2 * x)
    for count in (1, 4, 2):
        np.testing.assert_array_equal(doubled(np.ones((count, 2))), np.full((count, 2), 2.0))
