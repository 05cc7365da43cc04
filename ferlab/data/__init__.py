"""Images with labels: read from CSV files, `.npz` archives and folders, split, and written."""

from ferlab.data import usages
from ferlab.data.csv_files import csv_chunks, write_csv, write_csv_without, write_submission
from ferlab.data.dataset import Dataset, Role, concatenate
from ferlab.data.folders import folder_files, image_files
from ferlab.data.images import fit_image, fit_images, image_header, read_image
from ferlab.data.sources import read, read_parts, require_readable, write_npz
from ferlab.data.truth import read_truth, with_truth

__all__ = [
    "Dataset",
    "Role",
    "concatenate",
    "csv_chunks",
    "fit_image",
    "fit_images",
    "folder_files",
    "image_files",
    "image_header",
    "read",
    "read_image",
    "read_parts",
    "read_truth",
    "require_readable",
    "usages",
    "with_truth",
    "write_csv",
    "write_csv_without",
    "write_npz",
    "write_submission",
]
