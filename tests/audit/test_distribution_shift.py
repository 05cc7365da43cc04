import dataclasses

import numpy as np
import pytest
from support import faces

from ferlab import data
from ferlab.audit import distribution_shift
from ferlab.audit.rows import read_rows


@pytest.fixture
def compared(tmp_path):
    """Compare faces with others: a function from a dataset to the one comparison."""
    first = faces(150, seed=31)
    data.write_npz(tmp_path / "a.npz", train=first)

    def compare(dataset, groups=None):
        data.write_npz(tmp_path / "b.npz", train=dataset)
        rows = read_rows([str(tmp_path / "a.npz"), str(tmp_path / "b.npz")])
        n = len(rows.dataset)
        groups = np.arange(n) if groups is None else groups
        (comparison,) = distribution_shift.compare(rows, np.ones(n, dtype=bool), groups)
        return first, comparison

    return compare


def test_compare_tells_darker_images_from_similar_ones(compared):
    other = faces(150, seed=32)
    darker = dataclasses.replace(other, images=(other.images * 0.8).astype(np.uint8))
    first, comparison = compared(darker)
    assert (comparison.first, comparison.second) == ("a.npz", "b.npz")
    assert comparison.auc.value > 0.7
    assert comparison.auc.low < comparison.auc.value < comparison.auc.high
    assert comparison.auc.n == 300
    brightness = comparison.brightness
    assert brightness.first == pytest.approx(first.images.mean(), abs=0.1)
    assert brightness.second == pytest.approx(darker.images.mean(), abs=0.1)
    assert brightness.difference == pytest.approx(brightness.second - brightness.first)
    assert brightness.low < brightness.difference < brightness.high < 0
    assert brightness.effect < -0.5
    assert compared(other)[1].auc.value < 0.6


def test_compare_keeps_copies_in_one_fold(compared):
    _, comparison = compared(faces(150, seed=31), groups=np.arange(300) % 150)
    assert 0.4 < comparison.auc.value < 0.6


def test_compare_gives_the_shares_of_classes(compared):
    other = faces(60, seed=33)
    first, comparison = compared(other)
    np.testing.assert_allclose(
        comparison.first_shares, np.bincount(first.labels, minlength=7) / 150
    )
    np.testing.assert_allclose(
        comparison.second_shares, np.bincount(other.labels, minlength=7) / 60
    )


def test_compare_gives_no_auc_for_few_images(compared):
    assert compared(faces(19, seed=34))[1].auc is None
