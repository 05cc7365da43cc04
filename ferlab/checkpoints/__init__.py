"""Checkpoints: a Keras model in a file, ours or anybody's, with what is needed to use it."""

from ferlab.checkpoints.checkpoint import Checkpoint, load, save
from ferlab.checkpoints.containers import architecture_of
from ferlab.checkpoints.metadata import (
    METADATA_ATTRIBUTE,
    METADATA_MEMBER,
    SUFFIXES,
    read_metadata,
    read_training_rows,
    recorded_recipe,
    update_metadata,
)
from ferlab.checkpoints.pixels import PIXEL_SCALES, plausible_scales

__all__ = [
    "METADATA_ATTRIBUTE",
    "METADATA_MEMBER",
    "PIXEL_SCALES",
    "SUFFIXES",
    "Checkpoint",
    "architecture_of",
    "load",
    "plausible_scales",
    "read_metadata",
    "read_training_rows",
    "recorded_recipe",
    "save",
    "update_metadata",
]
