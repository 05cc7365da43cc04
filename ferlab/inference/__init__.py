"""Ask a trained model: one checkpoint, several views of an image, or a weighted vote."""

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
