"""Data with planted copies and odd labels, and the files it is written to."""

import csv
import dataclasses
import io

import numpy as np
from PIL import Image

from ferlab.audit.duplicates import find_copies


def recompressed(image):
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, "JPEG")
    return np.asarray(Image.open(buffer))[:, :, None]


def brighter(image):
    return np.clip(image.astype(int) + 2, 0, 255).astype(np.uint8)


def mirrored(image):
    return image[:, ::-1]


CHANGES = {"exact": np.copy, "jpeg": recompressed, "brighter": brighter, "mirrored": mirrored}


def with_images(dataset, changes):
    """The dataset with the image of some rows replaced: {row: image}."""
    images = dataset.images.copy()
    for row, image in changes.items():
        images[row] = image
    return dataclasses.replace(dataset, images=images)


def with_labels(dataset, changes):
    labels = dataset.labels.copy()
    labels[list(changes)] = list(changes.values())
    return dataclasses.replace(dataset, labels=labels)


def copies_in(dataset, rows=None, **settings):
    """`find_copies` on a dataset; rows: all by default."""
    rows = np.arange(len(dataset)) if rows is None else rows
    return find_copies(dataset.images, dataset.row_digests(), rows, **settings)


def write_kaggle(path, dataset):
    lines = ["emotion,pixels,Usage"]
    for image, label, usage in zip(dataset.images, dataset.labels, dataset.usage, strict=True):
        lines.append(f"{label},{' '.join(map(str, image.ravel()))},{usage}")
    path.write_text("\r\n".join(lines))


def write_folder(root, dataset, name="", suffix="png"):
    for index, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        folder = root / name / dataset.class_names[label] if label >= 0 else root / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:03}.{suffix}")


def removed_rows(folder):
    with (folder / "removed.csv").open() as file:
        return list(csv.DictReader(file))
