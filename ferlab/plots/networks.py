"""Pictures of a network: its layers, saliency maps, images that maximize its filters."""

import importlib.util
import math
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab import files
from ferlab.evaluation.costs import LayerCost
from ferlab.plots.style import plain

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KERAS_DPI, MAX_LAYERS = 72, 60  # a layer is 130 pixels high at 72 dots per inch
BOXES_PER_COLUMN = 18
BOX_WIDTH, BOX_HEIGHT, BOX_STEP, COLUMN_GAP = 3.6, 0.46, 0.66, 0.75  # inches
KIND_COLOURS = {  # by a substring of the layer's kind
    "Conv": "#CFE3F1",
    "Dense": "#FBE0CC",
    "Pool": "#CDEBE0",
    "Normalization": "#F7E6F0",
}
LABEL_HEIGHT = 0.3  # inches for the line above an image
LABEL_LENGTH = 26  # characters above an image
BRIGHTEST = 99.5  # percentile of a map in the brightest colour, as single pixels can be much higher


def save_keras_plot(model: "keras.Model", path: Path) -> bool:
    """Write Keras's own picture of the layers; False if it cannot draw one.

    It requires Graphviz and pydot, names without special characters, which Graphviz would read as
    markup, and at most 60 layers, since Keras draws them all in one column.
    """
    from ferlab.backend import keras

    def names(model: keras.Model) -> Iterator[str]:
        for layer in model.layers:
            yield layer.name
            if isinstance(layer, keras.Model):
                yield from names(layer)

    if shutil.which("dot") is None or importlib.util.find_spec("pydot") is None:
        return False
    all_names = [model.name, *names(model)]
    if len(all_names) > MAX_LAYERS or not all(re.fullmatch(r"[\w./-]+", x) for x in all_names):
        return False
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "model.png"
        try:
            keras.utils.plot_model(
                model,
                picture,
                show_shapes=True,
                show_layer_names=True,
                show_layer_activations=True,
                expand_nested=True,
                dpi=KERAS_DPI,
                splines="polyline",  # Graphviz 2.43 crashes on a ResNet-50 with right-angled lines
            )
        except AssertionError:  # raised by pydot when Graphviz fails
            return False
        content = picture.read_bytes()
    with files.whole_file(path) as temporary:
        temporary.write_bytes(content)
    return True


def layers_figure(layers: Sequence[LayerCost], title: str) -> "Figure":
    """Every layer as a box, in columns read downwards, with arrows from its inputs.

    A box shows the layer's name, kind and activation, output shape, parameters and multiply-adds
    per image.
    """
    from matplotlib.figure import Figure

    columns = max(1, round(len(layers) / BOXES_PER_COLUMN))
    rows = -(-len(layers) // columns)
    size = (columns * (BOX_WIDTH + COLUMN_GAP) + 0.2, rows * BOX_STEP + 0.75)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(-size[1] + 0.5, 0.5))
    axes.set_axis_off()
    axes.text(0.3, 0.25, plain(title), fontsize=11, va="center")
    corners = {}
    for index, layer in enumerate(layers):
        column, row = divmod(index, rows)
        corners[layer.name] = (column * (BOX_WIDTH + COLUMN_GAP) + 0.3, -row * BOX_STEP - 0.1)
    for layer in layers:
        _box(axes, layer, corners[layer.name])
        for source in layer.inputs:
            if source in corners and source != layer.name:
                _arrow(axes, corners[source], corners[layer.name])
    return figure


def _box(axes: "Axes", layer: LayerCost, corner: tuple[float, float]) -> None:
    """A layer's box, at its top left corner."""
    from matplotlib.patches import FancyBboxPatch

    left, top = corner
    colour = next((c for kind, c in KIND_COLOURS.items() if kind in layer.kind), "#F2F2F2")
    bottom_left = (left, top - BOX_HEIGHT)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch(bottom_left, BOX_WIDTH, BOX_HEIGHT, style, facecolor=colour, edgecolor="k")
    )
    name = layer.name if len(layer.name) <= 34 else f"...{layer.name[-31:]}"
    shape = "x".join(map(str, layer.output_shape))
    right = left + BOX_WIDTH - 0.08
    axes.text(left + 0.08, top - 0.13, plain(name), fontsize=8, weight="bold", va="center")
    axes.text(right, top - 0.13, shape, fontsize=8, ha="right", va="center")
    axes.text(left + 0.08, top - 0.33, _description(layer), fontsize=7.5, va="center")


def _description(layer: LayerCost) -> str:
    """'Conv2D, relu: 320 parameters, 737,280 multiply-adds'."""
    activation = getattr(getattr(layer.layer, "activation", None), "__name__", "linear")
    kind = layer.kind if activation == "linear" else f"{layer.kind}, {activation}"
    costs = []
    if layer.parameters:
        costs.append(f"{layer.parameters:,} parameters")
    if layer.multiply_adds:
        costs.append(f"{layer.multiply_adds:,} multiply-adds")
    return plain(f"{kind}: {', '.join(costs)}" if costs else kind)


def _arrow(axes: "Axes", source: tuple[float, float], target: tuple[float, float]) -> None:
    """Draw an arrow between two boxes, given their top left corners, around other boxes."""
    (left, top), (target_left, target_top) = source, target
    style = {"arrowstyle": "-|>", "mutation_scale": 8, "lw": 0.8, "color": "k"}
    right, middle = left + BOX_WIDTH, top - BOX_HEIGHT / 2
    target_middle = target_top - BOX_HEIGHT / 2
    if left == target_left and abs(top - target_top - BOX_STEP) < 1e-6:  # the next box
        start, end = (left + BOX_WIDTH / 2, top - BOX_HEIGHT), (left + BOX_WIDTH / 2, target_top)
    elif left == target_left:
        start, end = (right, middle), (right, target_middle)
        bend = 0.35 * min(1.0, 2.2 * BOX_STEP / (top - target_top))
        style["connectionstyle"] = f"arc3,rad=-{bend:.3f}"
    else:  # through the gap to the left of the target's column
        turn = target_left - 0.4
        axes.plot((right, turn, turn), (middle, middle, target_middle), lw=0.8, color="k")
        start, end = (turn, target_middle), (target_left, target_middle)
    axes.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def saliency_figure(
    images: np.ndarray,
    captions: Sequence[str],
    maps: Mapping[str, np.ndarray],
    title: str,
    *,
    overlaid: Collection[str] = (),
) -> "Figure":
    """A row for each image: the image, then a map in each column.

    images: uint8 (n, height, width, 1 or 3). captions: above each image.
    maps: float (n, height, width), 0 or more, by the title of the column; each map is scaled from 0
        to its own 99.5th percentile.
    overlaid: titles of the columns that are drawn over the image, for maps too coarse to show
        where in the face they point.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    columns = 1 + len(maps)
    size = (max(1.75 * columns, 5), 1.3 + 1.95 * len(images))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(plain(title), fontsize=11)
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, (image, caption) in enumerate(zip(images, captions, strict=True)):
        show_image(panels[row, 0], image)
        lines = [plain(line, LABEL_LENGTH) for line in caption.split("\n")]
        panels[row, 0].set_title("\n".join(lines), fontsize=8)
        for axes, (column, column_maps) in zip(panels[row, 1:], maps.items(), strict=True):
            is_overlaid = column in overlaid
            if is_overlaid:
                show_image(axes, image.mean(axis=-1, keepdims=True))  # grey: colours would mix
            _show_map(axes, column_maps[row], alpha=0.55 if is_overlaid else 1.0)
            if row == 0:
                axes.set_title(column, fontsize=9)
    scale = figure.colorbar(
        ScalarMappable(cmap="inferno"),
        ax=panels,
        orientation="horizontal",
        aspect=45,
        shrink=0.7,
        fraction=0.02,
        pad=0.01,
    )
    scale.set_ticks([0, 1], labels=["no effect", f"strongest {100 - BRIGHTEST:g}% of the pixels"])
    scale.ax.tick_params(labelsize=8)
    return figure


def _show_map(axes: "Axes", saliency_map: np.ndarray, *, alpha: float) -> None:
    top = np.percentile(saliency_map, BRIGHTEST) or saliency_map.max() or 1.0
    axes.imshow(saliency_map, cmap="inferno", vmin=0, vmax=top, alpha=alpha)
    axes.set_axis_off()


def filters_figure(images: np.ndarray, labels: Sequence[str], title: str) -> "Figure":
    """Images in a grid, each stretched to full contrast, with its label above it.

    images: float (n, height, width, 1 or 3), n at least 1.
    """
    from matplotlib.figure import Figure

    count, height, width = images.shape[:3]
    columns = min(count, max(1, round(math.sqrt(count * 1.6 * height / width))))
    rows = -(-count // columns)
    tile = min(1.15, max(0.75, 24 / columns)) if count > 1 else 3.6  # inches
    gap = max(1, width // 16)
    label_height = math.ceil(LABEL_HEIGHT / tile * width)
    sheet_shape = (rows * (height + label_height), columns * (width + gap) - gap, images.shape[-1])
    sheet = np.full(sheet_shape, 255.0)
    figure_height = tile * rows * (height + label_height) / (width + gap) + 0.7
    figure = Figure(figsize=(max(tile * columns, 4.5), figure_height), layout="constrained")
    figure.suptitle(plain(title), fontsize=10)
    axes = figure.subplots()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(index, columns)
        top, left = row * (height + label_height) + label_height, column * (width + gap)
        low, high = np.percentile(image, (0.5, 99.5))
        stretched = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
        sheet[top : top + height, left : left + width] = 255 * stretched
        middle, baseline = left + width / 2, top - label_height * 0.25
        axes.text(middle, baseline, plain(label), ha="center", va="bottom", fontsize=7)
    show_image(axes, sheet)
    return figure


def show_image(axes: "Axes", image: np.ndarray) -> None:
    """An image, uint8 or float (height, width, 1 or 3) from 0 to 255, without axes."""
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image / 255)
    axes.set_axis_off()
