"""Pictures of data: how many images of each class, grids of examples, sizes of files."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ferlab.plots.style import BLUE, DPI, LONGEST_NAME, ORANGE, SERIES, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 96  # screen pixels per image
CHARACTER = 7  # screen pixels per character of a caption
_GAP, _LINE = 3, 15  # pixels between images; a line of text


def class_counts_figure(counts: Mapping[str, np.ndarray], class_names: tuple[str, ...]) -> "Figure":
    """The share of each class, with a bar and a count for each part of the data.

    counts: int (num_classes,) by the part's name
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    places, thickness = np.arange(len(class_names)), 0.8 / len(counts)
    height = 1.2 + len(class_names) * max(0.4, 0.24 * len(counts))
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    for number, (name, count) in enumerate(counts.items()):
        shares = count / max(count.sum(), 1)
        offset = (number - (len(counts) - 1) / 2) * thickness
        colour = SERIES[number % len(SERIES)]
        label = plain(f"{name}: {count.sum():,}")
        bars = axes.barh(places + offset, shares, thickness * 0.9, color=colour, label=label)
        axes.bar_label(bars, [f"{value:,}" for value in count], padding=3, fontsize=8)
    axes.set_yticks(places, [plain(name, LONGEST_NAME) for name in class_names])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(x=0.1)
    axes.set_xlabel("share of the labelled images, with their number")
    axes.spines[["top", "right"]].set_visible(False)
    if len(counts) > 1:
        figure.legend(loc="outside upper left", ncols=3, fontsize=9)
    return figure


def image_grid_figure(
    images: Sequence[np.ndarray], captions: Sequence[str], *, columns: int, cell: int = CELL
) -> "Figure":
    """Images in a grid, each above its caption of one or more lines.

    images: uint8 (height, width, 1 or 3) of equal height, enlarged by whole pixels; several images
        may share a cell, see `side_by_side`
    cell: maximum height of an image, in screen pixels
    """
    from matplotlib.figure import Figure

    cells = [_screen_pixels(image, cell) for image in images]
    columns = min(columns, len(cells))
    text = _LINE * max(caption.count("\n") + 1 for caption in captions) + 3
    width = max(cell.shape[1] for cell in cells) + _GAP
    height = max(cell.shape[0] for cell in cells) + _GAP + text
    rows = -(-len(cells) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    figure = Figure(figsize=(canvas.shape[1] / DPI, canvas.shape[0] / DPI))
    axes = figure.add_axes((0, 0, 1, 1))
    for number, (pixels, caption) in enumerate(zip(cells, captions, strict=True)):
        top, left = number // columns * height, number % columns * width
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        for line, words in enumerate(caption.split("\n"), start=1):
            baseline = top + pixels.shape[0] + line * _LINE - 3
            axes.text(left, baseline, plain(words, pixels.shape[1] // CHARACTER), fontsize=7.5)
    axes.imshow(canvas, interpolation="nearest")
    axes.axis("off")
    return figure


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one height as one cell of a grid: uint8 (height, width, channels)."""
    gap = np.full((images[0].shape[0], 1, images[0].shape[2]), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


def file_sizes_figure(sizes: np.ndarray, odd: np.ndarray) -> "Figure":
    """Width and height of image files; sizes: int (n, 2), pixels; odd: bool (n,), unusual ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for rows, colour, marker, label in ((~odd, BLUE, "o", "files"), (odd, ORANGE, "x", "unusual")):
        if rows.any():
            axes.plot(
                *sizes[rows].T, marker, color=colour, alpha=0.6, label=f"{label}: {rows.sum():,}"
            )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("width (pixels)")
    axes.set_ylabel("height (pixels)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _screen_pixels(image: np.ndarray, cell: int) -> np.ndarray:
    """uint8 (height, width, 3), at most `cell` high, enlarged by whole pixels where possible."""
    from PIL import Image

    height, width, channels = image.shape
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image).convert("RGB")
    times = cell // height if 2 * height <= cell else cell / height
    kind = Image.Resampling.NEAREST if times == int(times) else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((max(round(width * times), 1), round(height * times)), kind))
