"""Training: the only place that compiles and fits a model."""

from ferlab.training.fit import (
    Result,
    checkpoint_of,
    checkpoint_settings,
    duration,
    fit,
    publish,
    require_epochs,
    set_seed,
    snapshot_name,
)

__all__ = [
    "Result",
    "checkpoint_of",
    "checkpoint_settings",
    "duration",
    "fit",
    "publish",
    "require_epochs",
    "set_seed",
    "snapshot_name",
]
