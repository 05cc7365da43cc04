"""Prediction: with one checkpoint, test-time augmentation, or a weighted vote."""

from ferlab.inference.outputs import kind_of, output_kind, with_softmax
from ferlab.inference.predict import Speed, features, output_indices, predict, speed

__all__ = [
    "Speed",
    "features",
    "kind_of",
    "output_indices",
    "output_kind",
    "predict",
    "speed",
    "with_softmax",
]
