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

_STRIP_PIXELS = 2**18  # converted at once


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
        except MemoryError as error:
            raise InputError(f"{path}: does not fit into memory") from error
        except Exception as error:  # Pillow's plugins raise almost any error for a damaged file
            raise InputError(f"{path}: is not an image: {_reason(path, error)}") from error


def fit_image(image: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Convert an image of any mode to uint8 (height, width, channels); it is turned in place.

    Grey levels of more than 8 bits are scaled by their range. Rotates by EXIF orientation, puts
    transparent images on white, converts to luminance for one channel and to RGB for three, and
    resizes with antialiasing, ignoring the aspect ratio.
    """
    height, width, channels = image_shape
    ImageOps.exif_transpose(image, in_place=True)
    image = _in_eight_bits(image, "L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image_shape)


def _in_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """The image in the mode L or RGB, on white.

    Converted a strip of rows at a time: whole copies of a large image would fill the memory.
    """
    is_deep = image.mode.startswith(("I", "F"))  # convert("L") would clip at 255
    limits = _limits(image) if is_deep else (0, 0)
    result = Image.new(mode, image.size)
    for top, strip in _strips(image):
        if is_deep:
            strip = Image.fromarray(_eight_bits(np.asarray(strip), *limits))
        if strip.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        result.paste(strip.convert(mode), (0, top))
    return result


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(the row where it begins, the strip) of an image cut into strips of rows."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _limits(image: Image.Image) -> tuple[float, float]:
    """The grey levels of an image that become 0 and 255, by the range that its levels are in.

    Integers: 8, 10, 12 or 16 bits, or up to their maximum. Floats: also 0 to 1, -1 to 1, or
    between their extremes. What would be almost black goes up to its maximum. Raises ValueError
    for negative integers, NaN and infinity.
    """
    extremes = [(levels.min(), levels.max(), levels.dtype.kind) for levels in _levels(image)]
    is_float = extremes[0][2] == "f"
    low = float(np.min([extreme[0] for extreme in extremes]))  # NaN if any is
    high = float(np.max([extreme[1] for extreme in extremes]))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("grey levels must be finite")
    if not is_float and low < 0:
        raise ValueError(f"grey levels must not be negative. Received: {low}")
    if is_float and high <= 1:
        low, top = (0.0, 1.0) if low >= 0 else (min(low, -1.0), 1.0)
    else:
        low = min(low, 0)
        top = next((depth for depth in _DEPTHS if low == 0 and high <= depth), high)
    return low, high if low == 0 < high < top * _DARK else top


def _levels(image: Image.Image) -> Iterator[np.ndarray]:
    return (np.asarray(strip) for _, strip in _strips(image))


def _eight_bits(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey levels as uint8, 0 where they are `low` and 255 where they are `high`."""
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
