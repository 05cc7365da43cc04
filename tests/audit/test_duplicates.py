import numpy as np
from planted import CHANGES, copies_in, with_images
from support import faces

from ferlab.audit import duplicates
from ferlab.audit.checks import blank_and_flat
from ferlab.data import Dataset
from ferlab.labels import EMOTIONS


def test_find_copies_finds_planted_copies_and_nothing_else():
    drawn = faces(300, seed=1)
    assert not len(copies_in(drawn))
    planted = {
        100 + place: change(drawn.images[place]) for place, change in enumerate(CHANGES.values())
    }
    copies = copies_in(with_images(drawn, planted))
    order = np.argsort(copies.first)
    np.testing.assert_array_equal(copies.first[order], [0, 1, 2, 3])
    np.testing.assert_array_equal(copies.second[order], [100, 101, 102, 103])
    np.testing.assert_array_equal(copies.exact[order], [True, False, False, False])
    np.testing.assert_array_equal(copies.mirrored[order], [False, False, False, True])
    assert (copies.correlation > 0.95).all()
    groups = copies.groups(300)
    assert len(np.unique(groups)) == 296
    np.testing.assert_array_equal(groups[:4], groups[100:104])
    assert len(np.unique(copies.groups(300, exact=True))) == 299


def test_find_copies_equals_a_plain_comparison_whatever_the_blocks(monkeypatch):
    """On chains of noisy images whose correlations are close to the threshold."""
    rng = np.random.default_rng(0)
    drawn = faces(20, seed=2).images.astype(float)
    noisy = np.repeat(drawn, 6, axis=0) + rng.normal(0, 14, (120, 48, 48, 1))
    images = np.clip(noisy, 0, 255).astype(np.uint8)[rng.permutation(120)]
    images[70] = images[3]
    images[90] = images[5, :, ::-1]
    values = images.reshape(120, -1).astype(float)
    values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    flipped = values.reshape(120, 48, 48)[:, :, ::-1].reshape(120, -1)
    best = np.maximum(values @ values.T, values @ flipped.T) / values.shape[1]
    for name, value in {"_ROWS": 16, "_COLUMNS": 32, "_MAX_PAIRS": 8, "_CHUNK": 5000}.items():
        monkeypatch.setattr(duplicates, name, value)
    dataset = Dataset(images, np.zeros(120, np.int64), np.arange(120).astype(str), EMOTIONS)
    for similarity in (0.97, 0.95, 0.9):
        similar = best >= similarity
        expected = np.linalg.matrix_power(similar.astype(float), 64) > 0  # connected by any path
        copies = copies_in(dataset, similarity=similarity)
        groups = copies.groups(120)
        np.testing.assert_array_equal(groups[:, None] == groups, expected)
        assert len(copies) == 120 - len(np.unique(groups))
        assert (copies.first < copies.second).all()
        np.testing.assert_allclose(copies.correlation, best[copies.first, copies.second], atol=1e-5)


def test_find_copies_compares_only_the_given_rows():
    drawn = faces(50, seed=3)
    blank = with_images(
        drawn, {4: 0 * drawn.images[4], 9: 0 * drawn.images[9], 12: drawn.images[2]}
    )
    is_blank, _ = blank_and_flat(blank.images)
    assert np.flatnonzero(is_blank).tolist() == [4, 9]
    copies = copies_in(blank, np.flatnonzero(~is_blank))
    assert (copies.first.tolist(), copies.second.tolist()) == ([2], [12])


def test_thumbnails_are_means_of_areas():
    images = faces(3, seed=5).images
    small = duplicates.thumbnails(images, 12)
    expected = images.reshape(3, 12, 4, 12, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(small, expected, rtol=1e-4)
    wide = np.arange(2 * 5 * 7 * 3, dtype=np.uint8).reshape(2, 5, 7, 3)
    np.testing.assert_allclose(
        duplicates.thumbnails(wide, 4).mean(axis=(1, 2)), wide.mean(axis=(1, 2, 3)), rtol=1e-4
    )
