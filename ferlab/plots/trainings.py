"""Pictures of a training: its history."""

from typing import TYPE_CHECKING

from ferlab.plots.style import BLUE, ORANGE, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history_figure(history: dict[str, list[float]], title: str) -> "Figure":
    """Loss and accuracy by epoch, training and validation; epochs are counted from 0."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(plain(title))
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
