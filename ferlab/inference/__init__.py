"""Ask a trained model: one checkpoint, several views of an image, or a weighted vote."""

from ferlab.inference.predict import (
    Speed,
    data_class_names,
    features,
    note_classes,
    output_indices,
    output_kind,
    predict,
    read_for,
    require_same_task,
    speed,
    with_models_classes,
)

__all__ = [
    "Speed",
    "data_class_names",
    "features",
    "note_classes",
    "output_indices",
    "output_kind",
    "predict",
    "read_for",
    "require_same_task",
    "speed",
    "with_models_classes",
]
