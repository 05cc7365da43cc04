"""The pictures: matplotlib only, colour-blind safe, legible at the size they are saved."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's palette


def history_figure(history: dict[str, list[float]], title: str) -> "Figure":
    """Loss and accuracy by epoch, training and validation; epochs are counted from 0."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(_plain(title))
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label, colour in (
            (name, "training", BLUE),
            (f"val_{name}", "validation", ORANGE),
        ):
            values = history.get(key, [])
            axes.plot(range(len(values)), values, "o-", markersize=4, color=colour, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy loss" if name == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def confusion_matrix_figure(counts: np.ndarray, class_names: tuple[str, ...], title: str):
    """Counts and row percentages, with recall at the right and precision below.

    counts: int (num_classes, num_classes), rows the true class, columns the predicted.
    """
    from matplotlib.figure import Figure

    size = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    precision = np.diag(counts) / np.maximum(counts.sum(axis=0), 1)
    figure = Figure(figsize=(2.2 + 0.85 * size, 1.8 + 0.75 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[row, column] > 0.55 else "black",
            )
    axes.set_xticks(
        range(size),
        [
            f"{_plain(name)}\n{share:.1%}"
            for name, share in zip(class_names, precision, strict=True)
        ],
    )
    axes.set_yticks(
        range(size),
        [
            f"{_plain(name)}\n{share:.1%}"
            for name, share in zip(class_names, np.diag(shares), strict=True)
        ],
    )
    axes.set_xlabel("predicted class, with its precision")
    axes.set_ylabel("true class, with its recall")
    axes.set_title(_plain(title))
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def _plain(text: str) -> str:
    """A file or a class may have a $ in its name, where matplotlib would begin a formula."""
    return text.replace("$", r"\$")


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
