"""Test-time augmentation: views of an image, and predictions averaged over them."""

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints, inference
from ferlab.inference import voting
from ferlab.inference.model_list import Member
from ferlab.inference.tta import VIEWS, views


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_distinct_and_of_the_same_shape(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 24, 1), dtype=np.uint8)
    augmented = list(views(images, name))
    assert len(augmented) == VIEWS[name]
    assert len({view.tobytes() for view in augmented}) == VIEWS[name]
    assert {view.shape for view in augmented} == {images.shape}
    np.testing.assert_array_equal(augmented[0], images)


def test_ten_crop_shifts_by_a_twelfth_and_repeats_the_edges():
    images = np.arange(48 * 48, dtype="float32").reshape(1, 48, 48, 1)
    up_left = list(views(images, "ten-crop"))[2]
    np.testing.assert_array_equal(up_left[0, :44, :44], images[0, 4:, 4:])
    np.testing.assert_array_equal(up_left[0, 44:, 0], np.repeat(images[0, 47:, 4], 4, axis=0))


def test_predict_averages_over_the_views(cnn):
    dataset, checkpoint = faces(12, size=24), checkpoints.load(cnn)
    by_hand = np.mean(
        [
            np.asarray(checkpoint.raw_pixel_model()(view.astype("float32")))
            for view in views(dataset.images, "ten-crop")
        ],
        axis=0,
    )
    predicted = inference.predict(checkpoint, dataset, tta="ten-crop")
    np.testing.assert_allclose(predicted, by_hand, atol=1e-5)
    assert not np.allclose(predicted, inference.predict(checkpoint, dataset), atol=1e-4)


def test_collect_caches_predictions_for_each_tta(cnn, tmp_path):
    dataset, members = faces(12, size=24), [Member(1, cnn, "here")]
    predictions = {
        name: voting.collect(
            members, dataset, batch_size=8, tta=name, cache_dir=tmp_path, report=lambda line: None
        )[0]
        for name in ("none", "flip", "none")
    }
    checkpoint = checkpoints.load(cnn)
    for name, probabilities in predictions.items():
        expected = inference.predict(checkpoint, dataset, tta=name)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
