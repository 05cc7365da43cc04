"""Pictures of a training: its history."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ferlab.plots.style import BLUE, ORANGE, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history_figure(
    history: Mapping[str, Sequence[float]],
    title: str,
    phases: Sequence[tuple[int, str]] = (),
) -> "Figure":
    """Loss, accuracy and learning rate by epoch, counted from 0; training and validation.

    history: lists by Keras's names, such as val_loss; missing ones are left out. A shorter list,
        which an earlier training did not record, ends at the last epoch.
    phases: (first epoch, name) of each training, if there were several, as in fine-tuning; a
        dotted line marks the start of each.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    panels = {"loss": "cross-entropy loss (nats)", "accuracy": "accuracy"}
    if history.get("learning_rate"):
        panels["learning_rate"] = "learning rate"
    figure = Figure(figsize=(0.6 + 4.2 * len(panels), 4), layout="constrained")
    figure.suptitle(plain(title))
    epochs = max((len(values) for values in history.values()), default=0)
    for axes, (name, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        series = {"training": (name, BLUE, "o-"), "validation": (f"val_{name}", ORANGE, "s-")}
        for rows, (key, colour, line) in series.items():
            values = history.get(key, [])
            if len(values):
                first = epochs - len(values)
                axes.plot(
                    range(first, epochs), values, line, markersize=3.5, color=colour, label=rows
                )
        for begin, phase in phases if len(phases) > 1 else ():
            axes.axvline(begin - 0.5, color="black", linestyle=":", linewidth=1)
            axes.text(
                begin - 0.4,
                0.99,
                plain(phase),
                transform=axes.get_xaxis_transform(),
                rotation=90,
                fontsize=8,
                va="top",
                ha="left",
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if name != "learning_rate":
            axes.legend()
        elif max(history[name]) > 5 * min(history[name]) > 0:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure
