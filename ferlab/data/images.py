"""Images from files or memory, converted to a model's image shape."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.errors import InputError


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an image file and convert it to uint8 (height, width, channels).

    Reads the first frame of an animation. Raises InputError for a file that is not a valid image.
    """
    height, width, channels = image_shape
    with files.open_to_read(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                # Decoding a JPEG at reduced size is faster; twice the target size is enough.
                side = 2 * max(height, width)
                image.draft("L" if channels == 1 else "RGB", (side, side))
                return fit_image(image, image_shape)
        except Exception as error:  # Pillow's plugins raise almost any error for a damaged file
            raise InputError(f"{path}: is not an image: {_reason(path, error)}") from error


def image_header(path: str | Path) -> tuple[int, int, str] | None:
    """(width, height, Pillow's mode) from an image file's header; None for other files."""
    with files.open_to_read(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                return (*image.size, image.mode)
        except Exception:  # Pillow's plugins raise almost any error for a damaged file
            return None


def fit_image(image: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Convert an image of any mode to uint8 (height, width, channels).

    Rotates by EXIF orientation, puts transparent images on white, converts to luminance for one
    channel and to RGB for three, and resizes with antialiasing, ignoring the aspect ratio.
    """
    height, width, channels = image_shape
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # convert("L") would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image_shape)


def fit_images(dataset: Dataset, image_shape: tuple[int, int, int]) -> Dataset:
    """The dataset with all images converted to (height, width, channels) if necessary."""
    if dataset.image_shape == image_shape:
        return dataset
    images = np.empty((len(dataset), *image_shape), np.uint8)
    for target, image in zip(images, dataset.images, strict=True):
        grey = image.shape[-1] == 1
        target[:] = fit_image(Image.fromarray(image[:, :, 0] if grey else image), image_shape)
    return dataclasses.replace(dataset, images=images)


def _reason(path: str | Path, error: Exception) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return " ".join(str(error).split()) or type(error).__name__
    kind = files.sniff(path) or "text"
    return "damaged" if kind.endswith("image") else kind
