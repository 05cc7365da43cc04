"""Prediction: with one checkpoint, test-time augmentation, or a weighted vote."""

from ferlab.inference.predict import (
    Speed,
    features,
    output_indices,
    output_kind,
    predict,
    speed,
)

__all__ = [
    "Speed",
    "features",
    "output_indices",
    "output_kind",
    "predict",
    "speed",
]
