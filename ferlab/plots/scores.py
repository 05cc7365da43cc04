"""Pictures of scores: by class, by confidence, and of several models side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ferlab.evaluation.calibration import Reliability
from ferlab.evaluation.metrics import Estimate, Measure, Scores
from ferlab.plots.style import BLUE, GREEN, GREY, LONGEST_NAME, ORANGE, SERIES, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MARKERS = "osD^vPX"
LEGIBLE = 12  # models whose lines can be distinguished in one panel
FEW = 20  # images; the accuracy of a bin with fewer is uncertain


def class_scores_figure(scores: Scores, class_names: tuple[str, ...], title: str) -> "Figure":
    """Recall, precision and F1 of each class with their 95% intervals."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    size = len(class_names)
    figure = Figure(figsize=(9, 1.8 + 0.55 * size), layout="constrained")
    axes = figure.subplots()
    for shift, name, label, colour in (
        (-0.22, "recall", "recall (correct, of the true class)", BLUE),
        (0.0, "precision", "precision (correct, of the predicted class)", ORANGE),
        (0.22, "f1", "F1 (harmonic mean)", GREEN),
    ):
        measures = [getattr(score, name) for score in scores.classes]
        _dots(
            axes, np.arange(size) + shift, measures, colour, MARKERS[int(shift / 0.22) + 1], label
        )
    axes.set_yticks(
        range(size),
        [
            f"{plain(name, LONGEST_NAME)} ({score.rows:,})"
            for name, score in zip(class_names, scores.classes, strict=True)
        ],
    )
    axes.set_ylim(size - 0.5, -0.5)
    for place in range(1, size):
        axes.axhline(place - 0.5, color=GREY, linewidth=0.5)
    axes.set_xlim(-0.02, 1.02)  # so that dots at the ends are not cut
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of images, with its 95% interval")
    axes.set_ylabel("class (support)")
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(plain(title))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def reliability_figure(columns: Sequence[tuple[str, Reliability, Estimate]]) -> "Figure":
    """Accuracy by confidence, and below it the number of images; a column for each set.

    columns: title, reliability and expected calibration error of each set of probabilities.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    count = len(columns)
    figure = Figure(figsize=(1 + 4.6 * count, 6), layout="constrained")
    panels = figure.subplots(
        2, count, squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1)
    )
    for (title, bins, error), above, below in zip(columns, *panels, strict=True):
        _draw_reliability(above, bins)
        above.set_title(
            f"{plain(title)}: calibration error {error.value:.3f}\n"
            f"(95% interval {error.low:.3f} to {error.high:.3f})",
            fontsize=10,
        )
        width = np.diff(bins.edges)
        middle = bins.edges[:-1] + width / 2
        below.bar(middle, bins.counts, width=width, color=GREY, edgecolor="white")
        below.set_xlabel("confidence (probability of the most probable class)")
        below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
    panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("images")
    return figure


def _draw_reliability(axes: "Axes", bins: Reliability) -> None:
    """Bars of the accuracy in each bin, faint where it has few images, and its mean confidence."""
    width = np.diff(bins.edges)
    middle = bins.edges[:-1] + width / 2
    filled = bins.counts > 0
    for drawn, alpha, label in ((bins.counts >= FEW, 1.0, "accuracy"), (filled, 0.3, None)):
        axes.bar(
            middle[drawn],
            bins.accuracies[drawn],
            width=width[drawn],
            edgecolor="white",
            color=BLUE,
            alpha=alpha,
            label=label,
        )
    confidences, accuracies = bins.confidences[filled], bins.accuracies[filled]
    axes.vlines(confidences, accuracies, confidences, color=ORANGE, linewidth=2)
    label = "mean confidence, and its gap"
    axes.plot(confidences, confidences, "o", color=ORANGE, markersize=4, label=label)
    axes.plot((0, 1), (0, 1), ":", color="black", label="perfectly calibrated")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="upper left")


def comparison_figure(
    names: Sequence[str],
    measures: Mapping[str, Sequence[Measure | float | None]],
    val_accuracies: Sequence[Sequence[float]],
    multiply_adds: Sequence[int],
    title: str,
) -> "Figure":
    """Models side by side: measures, validation accuracy by epoch, and cost.

    names: names of the models, from top to bottom.
    measures: for each measure, by name, a share from 0 to 1 for each model, drawn with its
        interval if it has one; None is left out. The first measure is also drawn against the cost.
    val_accuracies: validation accuracy of each model by epoch, empty if unknown.
    multiply_adds: multiply-adds per image of each model. Not drawn if all are equal.

    For more than 12 models only the measures are drawn, since their lines would be
    indistinguishable.
    """
    from matplotlib.figure import Figure

    count = len(names)
    colours, kinds = len(SERIES), len(MARKERS)
    styles = [  # another marker when the colours repeat
        (SERIES[index % colours], MARKERS[(index + index // colours) % kinds])
        for index in range(count)
    ]
    with_epochs = count <= LEGIBLE and any(len(values) > 1 for values in val_accuracies)
    with_cost = (
        count <= LEGIBLE and len(set(multiply_adds)) > 1 and any(next(iter(measures.values())))
    )
    below = [name for name, is_drawn in (("epochs", with_epochs), ("cost", with_cost)) if is_drawn]
    above_inches = 1.3 + (0.25 + 0.22 * len(measures)) * count
    figure = Figure(figsize=(10.5, above_inches + (4.8 if below else 0)), layout="constrained")
    figure.suptitle(plain(title))
    # Subfigures, so that long names above do not narrow the panels below.
    parts = figure.subfigures(2, 1, height_ratios=(above_inches, 4.8)) if below else [figure]
    panels = {"measures": parts[0].subplots()}
    if below:
        panels |= parts[1].subplot_mosaic([below])

    _draw_measures(panels["measures"], names, measures)
    if with_epochs:
        _draw_epochs(panels["epochs"], names, val_accuracies, styles)
    if with_cost:
        name, values = next(iter(measures.items()))
        _draw_cost(panels["cost"], names, values, multiply_adds, styles)
        panels["cost"].set_ylabel(name)
    if below:
        handle_of = {}
        for name in below:
            handles, labels = panels[name].get_legend_handles_labels()
            handle_of = dict(zip(labels, handles, strict=True)) | handle_of
        parts[1].legend(
            handle_of.values(),
            handle_of.keys(),
            loc="outside lower center",
            ncols=2 if max(map(len, names)) > 24 else 3,
            fontsize=9,
        )
    return figure


def _draw_measures(
    axes: "Axes", names: Sequence[str], measures: Mapping[str, Sequence[Measure | float | None]]
) -> None:
    count = len(names)
    shifts = (np.arange(len(measures)) - (len(measures) - 1) / 2) * 0.6 / max(1, len(measures))
    series = zip(measures.items(), shifts, (BLUE, ORANGE, GREEN, "black"), strict=False)
    for number, ((name, values), shift, colour) in enumerate(series):
        _dots(axes, np.arange(count) + shift, values, colour, MARKERS[number], name, numbers=True)
    axes.set_yticks(range(count), map(plain, names))
    axes.set_ylim(count - 0.5, -0.5)
    for place in range(1, count):
        axes.axhline(place - 0.5, color=GREY, linewidth=0.5)
    _percent_axis(axes.xaxis)
    axes.set_xlabel("share of images, with its 95% interval")
    axes.margins(x=0.12)  # for the numbers
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(measures))


def _draw_epochs(
    axes: "Axes",
    names: Sequence[str],
    val_accuracies: Sequence[Sequence[float]],
    styles: Sequence[tuple[str, str]],
) -> None:
    from matplotlib.ticker import MaxNLocator

    for values, name, (colour, marker) in zip(val_accuracies, names, styles, strict=True):
        if len(values):
            epochs = range(len(values))
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=plain(name))
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _percent_axis(axes.yaxis)
    axes.grid(alpha=0.3)


def _draw_cost(
    axes: "Axes",
    names: Sequence[str],
    values: Sequence[Measure | float | None],
    multiply_adds: Sequence[int],
    styles: Sequence[tuple[str, str]],
) -> None:
    for value, cost, name, (colour, marker) in zip(
        values, multiply_adds, names, styles, strict=True
    ):
        if value is not None:
            share = _ends(value)[0]
            axes.plot(cost, share, marker, color=colour, markersize=8, label=plain(name))
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.2)
    axes.set_xlabel("multiply-adds per image")
    _percent_axis(axes.yaxis)
    axes.grid(alpha=0.3)


def _percent_axis(axis: "Axis") -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1))  # decimals as the steps need


def _ends(measure: Measure | float) -> tuple[float, float, float]:
    """(value, low, high)"""
    if isinstance(measure, float):
        return measure, measure, measure
    return measure.value, measure.low, measure.high


def _dots(
    axes: "Axes",
    places: np.ndarray,
    measures: Sequence[Measure | float | None],
    colour: str,
    marker: str,
    label: str,
    *,
    numbers: bool = False,
) -> None:
    """A dot with its interval at each position on the y axis; nothing for None."""
    known = [(y, *_ends(one)) for y, one in zip(places, measures, strict=True) if one is not None]
    if not known:
        return
    y, value, low, high = np.transpose(known)
    axes.errorbar(
        value,
        y,
        xerr=(value - low, high - value),
        fmt=marker,
        markersize=5,
        capsize=2.5,
        linewidth=1.2,
        color=colour,
        label=label,
    )
    if numbers:
        for place, share, end in zip(y, value, high, strict=True):
            axes.annotate(
                f"{share:.1%}",
                (end, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=colour,
            )
