"""Checkpoints: a Keras model in a file, from any version of Keras, and how to use it."""

from ferlab.checkpoints.checkpoint import Checkpoint, load
from ferlab.checkpoints.containers import architecture_of, require_checkpoint
from ferlab.checkpoints.guard import asking, batch_size_within_memory
from ferlab.checkpoints.metadata import (
    METADATA_ATTRIBUTE,
    METADATA_MEMBER,
    SUFFIXES,
    read_record,
    read_training_rows,
    recorded_recipe,
    update_record,
)
from ferlab.checkpoints.pixels import PIXEL_SCALES, plausible_scales
from ferlab.checkpoints.record import LearnedFrom, TrainingRecord, git_commit
from ferlab.checkpoints.saving import save, suffix_for

__all__ = [
    "METADATA_ATTRIBUTE",
    "METADATA_MEMBER",
    "PIXEL_SCALES",
    "SUFFIXES",
    "Checkpoint",
    "LearnedFrom",
    "TrainingRecord",
    "architecture_of",
    "asking",
    "batch_size_within_memory",
    "git_commit",
    "load",
    "plausible_scales",
    "read_record",
    "read_training_rows",
    "recorded_recipe",
    "require_checkpoint",
    "save",
    "suffix_for",
    "update_record",
]
