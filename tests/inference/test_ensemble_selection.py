"""Ensemble selection: the guarantees of greedy weights, and how ties are broken."""

import math
import time

import numpy as np
import pytest

from ferlab.errors import InputError
from ferlab.inference.ensemble_selection import select
from ferlab.inference.voting import combine


def correlated(members, count, seed, classes=7):
    """Members who share most of their errors, some better than others."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    truth = np.eye(classes)[labels]
    shared = generator.normal(0, 1.2, truth.shape)
    skills = generator.uniform(1.5, 2.6, members)
    own = generator.normal(0, 0.7, (members, *truth.shape))
    powers = np.exp(1.5 * (skills[:, None, None] * truth + shared + own))
    return powers / powers.sum(axis=2, keepdims=True), labels


def accuracy(probabilities, labels, weights):
    votes = combine(probabilities, list(weights), "soft")
    return (votes.argmax(axis=1) == labels).mean()


def predictions(classes, confidence, count=3):
    """One row per class: this class has the confidence, the others share the rest equally."""
    rows = np.full((len(classes), count), (1 - confidence) / (count - 1))
    rows[np.arange(len(classes)), classes] = confidence
    return rows


def two_classes(first):
    return np.stack([first, 1 - np.asarray(first)], axis=1)


def test_select_gives_all_weight_to_the_only_accurate_member():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 7, 200)
    noise = generator.dirichlet(np.ones(7), (9, 200))
    probabilities = np.insert(noise, 4, predictions(labels, 0.6, 7), axis=0)
    assert select(probabilities, labels) == (0, 0, 0, 0, 1, 0, 0, 0, 0, 0)


def test_select_gives_weight_to_complementary_members():
    labels = np.array([0, 0, 1, 1])
    first = np.concatenate([predictions([0, 0], 0.9), predictions([2, 2], 0.4)])
    second = np.concatenate([predictions([2, 2], 0.4), predictions([1, 1], 0.9)])
    neither = predictions([1, 2, 2, 0], 0.8)
    probabilities = np.stack([first, neither, second])
    for rounds in (1, 2, 50):
        assert select(probabilities, labels, rounds=rounds) == (1, 0, 1)
    more, none, less = select(probabilities[:, [0, 0, 1, 1, 2, 3]], labels[[0, 0, 1, 1, 2, 3]])
    assert more > less > none == 0  # right everywhere as before, and likelier


def test_select_gives_a_weight_above_1_if_that_is_more_accurate():
    # Right everywhere is the vote in which the first has 1.8 to 2.1 times the second's weight.
    labels = np.zeros(8, int)
    first = two_classes([0.6, 0.45, 0.45, 0.4, 0.8, 0.9, 0.9, 0.9])
    second = two_classes([0.32, 0.9, 0.9, 0.71, 0.8, 0.45, 0.45, 0.45])
    probabilities = np.stack([first, second])
    assert [accuracy(probabilities, labels, weights) for weights in [(1, 1), (2, 1), (3, 1)]] == [
        7 / 8,
        1,
        7 / 8,
    ]
    assert select(probabilities, labels, rounds=9) == (2, 1)
    assert select(probabilities, labels, max_weight=1) == (1, 1)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_select_is_never_worse_than_the_best_member_or_equal_weights(kind):
    better = 0
    for seed in range(40):
        probabilities, labels = correlated(2 + seed % 7, 60, seed, classes=3)
        if kind == "hard":  # ties in plenty
            probabilities = np.eye(3)[probabilities.argmax(axis=2)]
        weights = select(probabilities, labels, rounds=10)
        selected = accuracy(probabilities, labels, weights)
        singles = [accuracy(probabilities, labels, one) for one in np.eye(len(weights))]
        equal = accuracy(probabilities, labels, np.ones(len(weights)))
        assert selected >= max(*singles, equal)
        better += selected > max(*singles, equal)
        assert math.gcd(*weights) == 1
        assert min(weights) >= 0
    assert better > 10


def test_select_is_more_accurate_on_held_out_rows():
    probabilities, labels = correlated(12, 8000, seed=5)
    weights = select(probabilities[:, :3000], labels[:3000])
    rest = probabilities[:, 3000:], labels[3000:]
    others = [*np.eye(12), np.ones(12)]
    assert accuracy(*rest, weights) > max(accuracy(*rest, other) for other in others)


def test_select_is_deterministic_and_independent_of_the_order_of_members():
    probabilities, labels = correlated(8, 400, seed=6)
    weights = select(probabilities, labels)
    assert sum(weight > 0 for weight in weights) > 2
    assert select(probabilities, labels) == weights
    assert select(probabilities[::-1], labels) == weights[::-1]
    assert select(probabilities.astype("float32"), labels) == weights


def test_select_ignores_rows_without_a_label():
    probabilities, labels = correlated(6, 300, seed=7)
    some = np.where(np.arange(300) % 3, labels, -1)
    assert select(probabilities, some) == select(probabilities[:, some >= 0], labels[some >= 0])
    assert select(probabilities, some) != select(probabilities, labels)


def test_select_gives_weight_to_the_first_of_equal_members_only():
    labels = np.array([0, 1, 2, 0])
    right, wrong = predictions(labels, 0.7), predictions((labels + 1) % 3, 0.5)
    assert select(np.stack([wrong, right, right]), labels) == (0, 1, 0)
    assert select(np.stack([right]), labels) == (1,)


def test_select_breaks_ties_by_likelihood():
    labels = np.array([0, 1, 2])
    assert select(np.stack([predictions(labels, 0.6), predictions(labels, 0.9)]), labels) == (0, 1)


def test_select_counts_tied_votes_as_the_smaller_label():
    first, second = predictions([0, 0, 1], 1.0, 2), predictions([1, 0, 1], 1.0, 2)
    probabilities = np.stack([first, second, first])
    assert select(probabilities[:2], np.array([1, 0, 1])) == (0, 1)
    assert select(probabilities[:2], np.array([0, 0, 1])) == (1, 0)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_select_keeps_weights_within_the_maximum(limit):
    probabilities, labels = correlated(12, 300, seed=8)
    assert max(select(probabilities, labels)) > 3
    assert max(select(probabilities, labels, max_weight=limit)) <= limit


def test_select_on_bad_input():
    probabilities, labels = correlated(2, 10, seed=9)
    for options in ({"rounds": 0}, {"max_weight": 0}):
        with pytest.raises(InputError, match="1 or more"):
            select(probabilities, labels, **options)
    with pytest.raises(InputError, match="0 of 10"):
        select(probabilities, np.full(10, -1))


def test_select_takes_less_than_a_second():
    probabilities, labels = correlated(25, 3589, seed=10)
    start = time.process_time()  # of this process, however busy the machine
    select(probabilities.astype("float32"), labels)
    assert time.process_time() - start < 1
