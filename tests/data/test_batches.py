"""Batches: every row once, an order and a blend that follow from (seed, epoch, step) alone."""

import numpy as np
import pytest

from ferlab.data.batches import Batches

BLENDS = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]


def rows_of(count):
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    return images, np.arange(count)


def one_color_each(count, side=12):
    """Images of a single grey level, ten times their number, and the number as the target."""
    levels = (np.arange(count) * 10).astype(np.uint8)
    images = np.broadcast_to(levels.reshape(-1, 1, 1, 1), (count, side, side, 1)).copy()
    return images, np.eye(count, dtype="float32")


def test_batches_hold_every_row_once_in_an_order_of_seed_and_epoch_alone():
    first, second = (Batches(*rows_of(10), 4, seed=3) for _ in range(2))
    first.shuffle(0)
    first.shuffle(5)
    second.shuffle(5)
    drawn = [first[index] for index in range(len(first))]
    assert [len(batch[1]) for batch in drawn] == [4, 4, 2]
    assert sorted(np.concatenate([batch[1] for batch in drawn])) == list(range(10))
    for (one, its_labels), (other, _) in zip(drawn, map(second.__getitem__, range(3)), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one.ravel(), its_labels)


def test_batches_with_steps_are_full_and_repeat_the_rows_evenly():
    batches = Batches(*rows_of(10), 4, seed=3, steps=6)
    batches.shuffle(0)
    drawn = [batches[index] for index in range(len(batches))]
    assert [len(batch[1]) for batch in drawn] == [4] * 6
    labels = np.concatenate([batch[1] for batch in drawn])
    assert sorted(labels[:10]) == sorted(labels[10:20]) == list(range(10))
    assert set(np.bincount(labels)) == {2, 3}
    batches.shuffle(1)
    assert not np.array_equal(labels, np.concatenate([batches[i][1] for i in range(6)]))


@pytest.mark.parametrize("blend", BLENDS, ids="-".join)
def test_blends_follow_from_seed_epoch_and_step_alone(blend):
    straight, resumed, other = (
        Batches(*one_color_each(20), 8, seed=seed, **blend) for seed in (0, 0, 1)
    )
    for epoch in range(3):
        straight.shuffle(epoch)
        for index in range(len(straight)):
            straight[index]
    resumed.shuffle(2)
    other.shuffle(2)
    for index in (2, 0, 1):
        for one, again in zip(straight[index], resumed[index], strict=True):
            assert one.dtype == again.dtype == np.float32
            np.testing.assert_array_equal(one, again)
    assert not np.array_equal(straight[0][0], other[0][0])


@pytest.mark.parametrize("blend", BLENDS, ids="-".join)
def test_blends_give_images_and_targets_the_same_shares(blend):
    batches = Batches(*one_color_each(20), 20, seed=0, **blend)
    for epoch in range(4):
        batches.shuffle(epoch)
        images, targets = batches[0]
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        levels = targets @ (np.arange(20) * 10)
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), levels, atol=1e-2)
        assert ((targets > 0.01) & (targets < 0.99)).any()
        assert images.min() >= 0
        assert images.max() <= 190


def test_mixup_keeps_its_numbers():
    """Those of the first version, so that its trainings can be repeated."""
    batches = Batches(*one_color_each(4, side=1), 4, seed=0, mixup=0.5)
    batches.shuffle(1)
    rows, generator = batches.order, np.random.default_rng((0, 1, 0))
    others = generator.permutation(4)
    share = generator.beta(0.5, 0.5, size=4).astype("float32")[:, None]
    targets = np.eye(4, dtype="float32")[rows]
    np.testing.assert_array_equal(batches[0][1], share * targets + (1 - share) * targets[others])


def test_cutmix_pastes_one_rectangle_of_one_other_image():
    batches = Batches(*one_color_each(20), 20, seed=0, cutmix=1.0)
    batches.shuffle(0)
    images, _ = batches[0]
    areas = []
    for image, own in zip(images[..., 0], batches.order, strict=True):
        pasted = image != own * 10
        rows, columns = pasted.any(axis=1), pasted.any(axis=0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns[None, :])
        assert len(np.unique(image)) <= 2
        assert all(np.abs(np.diff(side.astype(int))).sum() <= 2 for side in (rows, columns))
        areas.append(pasted.mean())
    assert max(areas) > 0.3
    assert len(set(areas)) > 5


def test_cutmix_and_mixup_take_turns_at_random():
    batches = Batches(*one_color_each(8), 8, seed=0, mixup=0.5, cutmix=1.0)
    is_flat = []
    for epoch in range(40):
        batches.shuffle(epoch)
        is_flat.append(bool((np.ptp(batches[0][0], axis=(1, 2, 3)) == 0).all()))
    assert 10 < sum(is_flat) < 30  # images of one level stay so by mixup alone
