"""Views of an image, and predictions over them."""

import numpy as np
import pytest
from support import faces

from ferlab import checkpoints, inference
from ferlab.inference import voting
from ferlab.inference.model_list import Member
from ferlab.inference.tta import VIEWS, views


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_another_of_the_same_shape(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 24, 1), dtype=np.uint8)
    seen = list(views(images, name))
    assert len(seen) == VIEWS[name]
    assert len({view.tobytes() for view in seen}) == VIEWS[name]
    assert {view.shape for view in seen} == {images.shape}
    np.testing.assert_array_equal(seen[0], images)


def test_the_corners_are_moved_by_a_twelfth_and_edges_repeat():
    images = np.arange(48 * 48, dtype="float32").reshape(1, 48, 48, 1)
    up_left = list(views(images, "ten-crop"))[2]
    np.testing.assert_array_equal(up_left[0, :44, :44], images[0, 4:, 4:])
    np.testing.assert_array_equal(up_left[0, 44:, 0], np.repeat(images[0, 47:, 4], 4, axis=0))


def test_a_prediction_is_the_mean_over_the_views(cnn):
    dataset, checkpoint = faces(12), checkpoints.load(cnn)
    by_hand = np.mean(
        [
            np.asarray(checkpoint.raw_pixel_model()(view.astype("float32")))
            for view in views(dataset.images, "ten-crop")
        ],
        axis=0,
    )
    found = inference.predict(checkpoint, dataset, tta="ten-crop")
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert not np.allclose(found, inference.predict(checkpoint, dataset), atol=1e-4)


def test_a_vote_keeps_the_answers_over_views_apart(cnn, tmp_path):
    dataset, members = faces(12), [Member(1, cnn, "here")]
    answers = {
        name: voting.collect(
            members, dataset, batch_size=8, tta=name, cache_dir=tmp_path, report=lambda line: None
        )[0]
        for name in ("none", "flip", "none")
    }
    checkpoint = checkpoints.load(cnn)
    for name, answer in answers.items():
        expected = inference.predict(checkpoint, dataset, tta=name)
        np.testing.assert_allclose(answer, expected, atol=1e-5)
