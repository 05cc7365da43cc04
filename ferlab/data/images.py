"""Images from files or memory, converted to a model's image shape."""

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.errors import InputError

# Pillow's decoders that run in this process. EPS is not among them: it starts Ghostscript, which
# runs whatever program the file contains.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD"),
    *("QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP"),
)
_DEPTHS = (255, 1023, 4095, 65535)  # largest grey levels of 8, 10, 12 and 16 bits
_DARK = 1 / 16  # of the range; an image without brighter pixels is scaled by its maximum


def open_image(file: str | Path | BinaryIO) -> Image.Image:
    """Open an image of one of FORMATS, whatever its name says. Raises what Pillow raises."""
    return Image.open(file, formats=_decoders())


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of files in FORMATS, such as '.png', in lower case."""
    names = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in names if name in FORMATS)


@functools.cache
def _decoders() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an image file and convert it to uint8 (height, width, channels).

    Reads the first frame of an animation. Raises InputError for a file that is not a valid image.
    """
    height, width, channels = image_shape
    with _opened(path) as image:
        # Decoding a JPEG at reduced size is faster; twice the target size is enough.
        side = 2 * max(height, width)
        image.draft("L" if channels == 1 else "RGB", (side, side))
        is_deep = (
            any(";16" in str(tile) for tile in getattr(image, "tile", ()))
            and len(image.getbands()) > 1
        )
        pixels = fit_image(image, image_shape)
        if is_deep and 0 < pixels.max() < 16:  # Pillow keeps the upper 8 bits of 16-bit colours
            raise ValueError("16-bit colours of 12 bits or less; save it with 8 bits a channel")
        return pixels


def image_header(path: str | Path) -> tuple[int, int, str]:
    """(width, height, Pillow's mode) from an image file's header. Raises InputError for others."""
    with _opened(path) as image:
        return (*image.size, image.mode)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image file, without its pixels; errors in the block are InputErrors that name it."""
    with files.open_to_read(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with open_image(file) as image:
                yield image
        except Exception as error:  # Pillow's plugins raise almost any error for a damaged file
            raise InputError(f"{path}: is not an image: {_reason(path, error)}") from error


def fit_image(image: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Convert an image of any mode to uint8 (height, width, channels).

    Grey levels of more than 8 bits are scaled by their range. Rotates by EXIF orientation, puts
    transparent images on white, converts to luminance for one channel and to RGB for three, and
    resizes with antialiasing, ignoring the aspect ratio.
    """
    height, width, channels = image_shape
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # convert("L") would clip at 255
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image_shape)


def _eight_bits(levels: np.ndarray) -> np.ndarray:
    """Grey levels of 16 bits, 32 bits or floats as uint8, by the range that they are in.

    Integers: 8, 10, 12 or 16 bits, or up to their maximum. Floats: also 0 to 1, -1 to 1, or
    between their extremes. What would be almost black goes up to its maximum. Raises ValueError
    for negative integers, NaN and infinity.
    """
    low, high = float(levels.min()), float(levels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("grey levels must be finite")
    if levels.dtype.kind != "f" and low < 0:
        raise ValueError(f"grey levels must not be negative. Received: {low}")
    if levels.dtype.kind == "f" and high <= 1:
        low, top = (0.0, 1.0) if low >= 0 else (min(low, -1.0), 1.0)
    else:
        low = min(low, 0)
        top = next((depth for depth in _DEPTHS if low == 0 and high <= depth), high)
    high = high if low == 0 < high < top * _DARK else top
    scale = min(255 / (high - low), 1e38)  # within float32
    scaled = levels.astype(np.float32) * np.float32(scale) - np.float32(low * scale)
    return np.floor(scaled + np.float32(1e-3)).clip(0, 255).astype(np.uint8)


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
