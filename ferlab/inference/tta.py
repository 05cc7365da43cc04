"""Test-time augmentation: views of an image, over which predictions are averaged.

An image, its mirror image and crops of both: Krizhevsky et al. 2012, "ImageNet Classification with
Deep Convolutional Neural Networks", section 4.1 (ten-crop). Their crops are smaller than the image;
here a view has the image's size, as networks require, and is shifted towards a corner by a twelfth
of its side (4 of 48 pixels), with the nearest edge repeated.
"""

from collections.abc import Iterator

import numpy as np

VIEWS = {"none": 1, "flip": 2, "ten-crop": 10}
SHIFT = 12  # a crop is shifted by 1/SHIFT of a side


def views(images: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """Yield VIEWS[name] times all images in another view, each (n, height, width, channels)."""
    shifts = [(0, 0)]
    if name == "ten-crop":
        down, right = (max(1, side // SHIFT) for side in images.shape[1:3])
        shifts += [(y, x) for y in (-down, down) for x in (-right, right)]
    for y, x in shifts:
        shifted = _shifted(images, y, x)
        yield shifted
        if name != "none":
            yield shifted[:, :, ::-1]


def _shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images shifted by these numbers of pixels; the nearest edge is repeated."""
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[:, rows[:, None], columns[None]]
