"""Timing a model."""

from ferlab import checkpoints, inference
from models import build_model


def test_speed_is_per_image():
    checkpoint = checkpoints.Checkpoint("m.h5", build_model("dnn", (48, 48, 1), 7), None, "raw")
    one, many = (inference.speed(checkpoint, batch_size=size, seconds=0.1) for size in (1, 256))
    for found in (one, many):
        assert 0 < found.low <= found.median <= found.high
        assert found.batches >= 5
    assert many.median < one.median / 4  # a call costs more than a small network
