"""Pictures, from files or from memory, as the pixels that a model takes."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.errors import InputError


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an image file and fit it to (height, width, channels): uint8 of that shape.

    Of an animation, the first frame. Raises InputError for a file that is not a sound image.
    """
    height, width, channels = image_shape
    with files.open_to_read(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                # A JPEG decodes at a fraction of its size for little; twice ours is enough.
                side = 2 * max(height, width)
                image.draft("L" if channels == 1 else "RGB", (side, side))
                return fit_image(image, image_shape)
        except Exception as error:  # a damaged file makes Pillow's plugins raise almost anything
            raise InputError(f"{path}: is not an image: {_reason(path, error)}") from error


def image_header(path: str | Path) -> tuple[int, int, str] | None:
    """(width, height, Pillow's mode) of an image file, not decoded; None for what is no image."""
    with files.open_to_read(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                return (*image.size, image.mode)
        except Exception:  # a damaged file makes Pillow's plugins raise almost anything
            return None


def fit_image(image: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Bring an image of any mode to (height, width, channels): uint8 of that shape.

    Turned upright as its EXIF data says, on white where it is transparent, grey by luminance for
    one channel, RGB for three; stretched with antialiasing.
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
    """The dataset with every image brought to (height, width, channels); itself if they are so."""
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
