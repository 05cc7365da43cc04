"""Training: the only module that compiles and fits models."""

from ferlab.training.callbacks import duration, snapshot_name
from ferlab.training.fit import NEW, Result, Start, fit, set_seed, train
from ferlab.training.objectives import FixMatch, Objective, PseudoLabelled, Supervised, Teacher
from ferlab.training.publishing import checkpoint_of, publish

__all__ = [
    "NEW",
    "FixMatch",
    "Objective",
    "PseudoLabelled",
    "Result",
    "Start",
    "Supervised",
    "Teacher",
    "checkpoint_of",
    "duration",
    "fit",
    "publish",
    "set_seed",
    "snapshot_name",
    "train",
]
