"""Several views of an image, over which a prediction is averaged.

The mean over an image, its mirror image and crops of both: Krizhevsky et al. 2012, "ImageNet
Classification with Deep Convolutional Neural Networks", section 4.1 (ten-crop). Their crops are
smaller than the image; here each view keeps the image's size, so that every network can take it,
and is moved by a twelfth of its side (4 of 48 pixels) into a corner, the nearest edge repeated.
"""

from collections.abc import Iterator

import numpy as np

VIEWS = {"none": 1, "flip": 2, "ten-crop": 10}
SHIFT = 12  # the part of a side by which a corner's crop is moved


def views(images: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """Each of the VIEWS[name] views of all images, (n, height, width, channels) like them."""
    places = [(0, 0)]
    if name == "ten-crop":
        down, right = (max(1, side // SHIFT) for side in images.shape[1:3])
        places += [(y, x) for y in (-down, down) for x in (-right, right)]
    for y, x in places:
        moved = _moved(images, y, x)
        yield moved
        if name != "none":
            yield moved[:, :, ::-1]


def _moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images moved by so many pixels; the nearest edge fills what is uncovered."""
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[:, rows[:, None], columns[None]]
