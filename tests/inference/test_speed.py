"""Timing a model, by a clock that the model itself moves."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from ferlab import inference


class Model:
    """Takes 0.1, 0.2, 0.3, 0.4 and 0.5 seconds a batch, in turn."""

    def __init__(self):
        self.now, self.shapes = 0.0, []

    def predict_on_batch(self, images):
        self.now += 0.1 * (1 + len(self.shapes) % 5)
        self.shapes.append(images.shape)


@pytest.mark.parametrize(("seconds", "batches"), [(0.1, 5), (2.9, 10)])
def test_speed_is_per_image_in_milliseconds(seconds, batches, monkeypatch):
    module = importlib.import_module("ferlab.inference.predict")
    monkeypatch.setattr(module, "WARM_UP", 5)
    model = Model()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: model.now))
    facts = {"image_shape": (48, 48, 1), "path": "model.h5"}
    checkpoint = SimpleNamespace(raw_pixel_model=lambda: model, **facts)
    speed = inference.speed(checkpoint, batch_size=4, seconds=seconds)
    assert (speed.batch_size, speed.batches) == (4, batches)
    assert set(model.shapes) == {(4, 48, 48, 1)}
    assert speed.median == pytest.approx(300 / 4)
    times = 100 * np.resize(np.arange(1, 6), batches)
    assert [speed.low, speed.high] == pytest.approx(list(np.percentile(times, (25, 75)) / 4))
