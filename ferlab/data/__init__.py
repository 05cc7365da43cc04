"""Faces and their labels: read from CSV files, `.npz` archives and folders; split; written."""

from ferlab.data.csv_files import csv_chunks, write_csv, write_submission
from ferlab.data.dataset import SCORING_USAGES, TRAINING_USAGES, Dataset, concatenate
from ferlab.data.images import fit_image, fit_images, read_image
from ferlab.data.sources import read, write_npz
from ferlab.data.truth import read_truth, with_truth

__all__ = [
    "SCORING_USAGES",
    "TRAINING_USAGES",
    "Dataset",
    "concatenate",
    "csv_chunks",
    "fit_image",
    "fit_images",
    "read",
    "read_image",
    "read_truth",
    "with_truth",
    "write_csv",
    "write_npz",
    "write_submission",
]
