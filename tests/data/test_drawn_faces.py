"""Drawn faces are repeatable and varied, and a model must use more than single pixels."""

import numpy as np
import pytest

from ferlab.data.drawn_faces import (
    ACTION_UNITS,
    LABEL_NOISE,
    PROTOTYPES,
    STYLES,
    draw_face,
    drawn_faces,
    expression_of,
    lips,
    random_action_units,
    random_face,
)
from ferlab.errors import InputError
from ferlab.labels import EMOTIONS


@pytest.fixture(scope="module")
def train():
    """2000 faces and their true emotions."""
    return drawn_faces(2000, seed=0, label_noise=0)


def expressions(emotion, count=300):
    """Expressions of faces that show `emotion`."""
    rng = np.random.default_rng(emotion)
    return [random_face(emotion, rng).expression for _ in range(count)]


def test_drawn_faces_of_a_longer_set_start_with_the_shorter_one():
    images, labels = drawn_faces(20, seed=5)
    longer_images, longer_labels = drawn_faces(30, seed=5)
    np.testing.assert_array_equal(longer_images[:20], images)
    np.testing.assert_array_equal(longer_labels[:20], labels)


def test_drawn_faces_differ_between_seeds():
    some, others = drawn_faces(200, seed=0)[0], drawn_faces(200, seed=1)[0]
    assert len({image.tobytes() for image in (*some, *others)}) == 400


@pytest.mark.parametrize("size", [24, 48, 64])
def test_drawn_faces_have_the_documented_shapes_and_types(size):
    images, labels = drawn_faces(7, seed=0, size=size)
    assert images.shape == (7, size, size, 1)
    assert images.dtype == np.uint8
    assert labels.shape == (7,)
    assert labels.dtype == np.int64
    assert draw_face(3, np.random.default_rng(0), size=size).shape == (size, size)


def test_drawn_faces_of_count_zero_are_empty_arrays():
    images, labels = drawn_faces(0, seed=0)
    assert images.shape == (0, 48, 48, 1)
    assert labels.shape == (0,)


@pytest.mark.slow
def test_drawn_faces_use_all_grey_levels_and_none_is_empty(train):
    images, _ = train
    assert images.min() == 0
    assert images.max() == 255
    assert images.std(axis=(1, 2, 3)).min() > 5


@pytest.mark.slow
def test_drawn_faces_are_balanced(train):
    counts = np.bincount(train[1], minlength=len(EMOTIONS))
    assert counts.min() > 0.8 * 2000 / 7
    assert counts.max() < 1.2 * 2000 / 7


@pytest.mark.slow
def test_label_noise_is_as_documented_and_does_not_change_images(train):
    images, truth = train
    noisy_images, labels = drawn_faces(2000, seed=0)
    np.testing.assert_array_equal(noisy_images, images)
    wrong = labels != truth
    assert abs(wrong.mean() - LABEL_NOISE) < 3 * np.sqrt(LABEL_NOISE * (1 - LABEL_NOISE) / 2000)
    assert set(labels[wrong]) == set(range(7))


def test_label_noise_of_one_makes_every_label_wrong():
    truth = drawn_faces(50, seed=0, label_noise=0)[1]
    assert not np.any(drawn_faces(50, seed=0, label_noise=1)[1] == truth)


@pytest.mark.parametrize(("count", "seed", "noise"), [(-1, 0, 0.0), (1, -1, 0.0), (1, 0, 1.5)])
def test_drawn_faces_refuse_impossible_values(count, seed, noise):
    with pytest.raises(InputError, match="Received"):
        drawn_faces(count, seed, label_noise=noise)


def test_styles_are_as_frequent_as_their_shares():
    rng = np.random.default_rng(0)
    styles = [random_face(i % 7, rng).style for i in range(1400)]
    for name, style in STYLES.items():
        assert abs(styles.count(name) / 1400 - style.share) < 0.05, name


def test_prototypes_use_known_action_units():
    assert tuple(PROTOTYPES) == EMOTIONS
    assert {unit for units in PROTOTYPES.values() for unit in units} <= set(ACTION_UNITS)


def test_random_action_units_outside_the_prototype_are_weak():
    rng = np.random.default_rng(0)
    for emotion in range(7):
        for _ in range(100):
            units = random_action_units(emotion, rng)
            others = set(units) - set(PROTOTYPES[EMOTIONS[emotion]])
            assert len(others) <= 1
            assert all(units[unit] < 0.3 for unit in others)


@pytest.mark.parametrize(
    ("unit", "what", "direction"),
    [
        (1, "inner_brow", 1),
        (2, "outer_brow", 1),
        (4, "inner_brow", -1),
        (5, "upper_lid", 1),
        (7, "lower_lid", 1),
        (9, "nose_wrinkle", 1),
        (12, "mouth_corners", 1),
        (15, "mouth_corners", -1),
        (20, "mouth_width", 1),
        (23, "mouth_width", -1),
        (25, "opening", 1),
        (26, "opening", 1),
    ],
)
def test_expression_of_moves_what_the_action_unit_is_named_after(unit, what, direction):
    neutral = expression_of({}, np.random.default_rng(0))
    moved = expression_of({unit: 1.0}, np.random.default_rng(0))
    assert direction * (getattr(moved, what) - getattr(neutral, what)) > 0.03


def test_expressions_differ_between_emotions():
    def average(emotion, what):
        return np.mean([getattr(face, what) for face in expressions(EMOTIONS.index(emotion))])

    assert average("happy", "mouth_corners") > 0.15 > -0.1 > average("sad", "mouth_corners")
    assert average("angry", "inner_brow") < -0.1 < 0.1 < average("sad", "inner_brow")
    assert average("surprise", "opening") > 0.3 > 0.02 > average("neutral", "opening")
    assert average("fear", "mouth_width") > 1.2 * average("surprise", "mouth_width")
    assert average("disgust", "nose_wrinkle") > 0.6


def test_lips_never_cross():
    rng = np.random.default_rng(0)
    for i in range(700):
        upper, lower = lips(random_face(i % 7, rng))
        assert np.all(lower[:, 1] >= upper[:, 1] - 1e-9)


@pytest.mark.slow
def test_drawn_faces_require_edges_not_single_pixels(train):
    """A linear model on pixels is far worse than the same model on local edge directions."""
    from sklearn.linear_model import RidgeClassifier

    images, labels = train
    test_images, test_labels = drawn_faces(700, seed=1, label_noise=0)

    def accuracy(features, alpha):
        model = RidgeClassifier(alpha=alpha).fit(features(images), labels)
        return model.score(features(test_images), test_labels)

    def pixels(faces):
        return faces.reshape(len(faces), -1) / 255

    assert accuracy(pixels, alpha=1000) < 0.45
    assert accuracy(edge_histograms, alpha=10) > 0.68


def edge_histograms(images):
    """Histograms of oriented gradients in 8x8 cells."""
    pixels = images[..., 0].astype(np.float32) / 255
    down, across = np.gradient(pixels, axis=(1, 2))
    strength = np.hypot(down, across)
    direction = np.arctan2(down, across) % np.pi * 8 / np.pi
    planes = []
    for i in range(8):
        off = np.abs(direction - i)
        planes.append(strength * np.maximum(1 - np.minimum(off, 8 - off), 0))
    cells = np.stack(planes, 1).reshape(len(images), 8, 8, 6, 8, 6).sum(axis=(3, 5))
    return np.sqrt(cells).reshape(len(images), -1)
