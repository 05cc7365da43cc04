"""Pictures of what a network is and sees: its layers, saliency beside the images, its filters."""

import importlib.util
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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

SALIENCY_NAMES = {
    "perturbation": "one grey level more,\nchange squared",
    "gradient": "gradient,\nsquared",
    "smoothgrad": "SmoothGrad,\nsquared",
    "gradcam": "Grad-CAM",
    "layercam": "LayerCAM",
}
OVERLAID = ("gradcam", "layercam")  # coarse: without the face nobody sees what they point at
KERAS_DPI, MOST_LAYERS = 72, 60  # a layer is 130 pixels high at 72 dots per inch
BOXES_A_COLUMN = 18
KIND_COLOURS = {  # by a part of the layer's kind
    "Conv": "#CFE3F1",
    "Dense": "#FBE0CC",
    "Pool": "#CDEBE0",
    "Normalization": "#F7E6F0",
}
LABEL = 0.3  # inches for the line above an image
TITLE = 26  # characters above an image
BRIGHTEST = 99.5  # percentile of a map that gets the brightest colour: single pixels stand out


def save_keras_plot(model: "keras.Model", path: Path) -> bool:
    """Write Keras's own picture of the layers; False where it cannot, without Graphviz or pydot.

    Nor for a model whose names are more than words, which Graphviz would take for its markup, nor
    for one of more layers than fit into a picture that can be read: Keras draws them all in a row.
    """
    from ferlab.backend import keras

    def names(model: keras.Model) -> Iterator[str]:
        for layer in model.layers:
            yield layer.name
            if isinstance(layer, keras.Model):
                yield from names(layer)

    if shutil.which("dot") is None or importlib.util.find_spec("pydot") is None:
        return False
    found = [model.name, *names(model)]
    if len(found) > MOST_LAYERS or not all(re.fullmatch(r"[\w./-]+", name) for name in found):
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
                splines="polyline",  # on right-angled lines Graphviz 2.43 crashes for a ResNet-50
            )
        except AssertionError:  # how pydot says that Graphviz has given up
            return False
        content = picture.read_bytes()
    with files.whole_file(path) as temporary:
        temporary.write_bytes(content)
    return True


def layers_figure(layers: Sequence[LayerCost], title: str) -> "Figure":
    """Every layer as a box, in columns to be read downwards; arrows say where its input is from.

    A box tells the layer's name, kind and activation, the shape of its output, its parameters and
    its multiply-adds for one image.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    columns = max(1, round(len(layers) / BOXES_A_COLUMN))
    rows = -(-len(layers) // columns)
    width, height, step, gap = 3.6, 0.46, 0.66, 0.75  # inches
    size = (columns * (width + gap) + 0.2, rows * step + 0.75)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(-size[1] + 0.5, 0.5))
    axes.set_axis_off()
    axes.text(0.3, 0.25, plain(title), fontsize=11, va="center")
    places = {
        layer.name: ((index // rows) * (width + gap) + 0.3, -(index % rows) * step - 0.1)
        for index, layer in enumerate(layers)
    }
    for layer in layers:
        left, top = places[layer.name]
        colour = next((c for kind, c in KIND_COLOURS.items() if kind in layer.kind), "#F2F2F2")
        shape = FancyBboxPatch(
            (left, top - height), width, height, "round,pad=0,rounding_size=0.06", fc=colour, ec="k"
        )
        axes.add_patch(shape)
        name = layer.name if len(layer.name) <= 34 else f"...{layer.name[-31:]}"
        axes.text(left + 0.08, top - 0.13, plain(name), fontsize=8, weight="bold", va="center")
        axes.text(
            *(left + width - 0.08, top - 0.13, "x".join(map(str, layer.output_shape))),
            **{"fontsize": 8, "ha": "right", "va": "center"},
        )
        axes.text(left + 0.08, top - 0.33, _what(layer), fontsize=7.5, va="center")
        for source in layer.inputs:
            if source in places and source != layer.name:
                _arrow(axes, places[source], (left, top), width, height, step)
    return figure


def _what(layer: LayerCost) -> str:
    """'Conv2D, relu: 320 parameters, 737,280 multiply-adds'."""
    activation = getattr(getattr(layer.layer, "activation", None), "__name__", "linear")
    kind = layer.kind if activation == "linear" else f"{layer.kind}, {activation}"
    costs = [
        f"{count:,} {what}"
        for count, what in (
            (layer.parameters, "parameters"),
            (layer.multiply_adds, "multiply-adds"),
        )
        if count
    ]
    return plain(": ".join([kind, ", ".join(costs)]) if costs else kind)


def _arrow(
    axes: "Axes",
    source: tuple[float, float],
    target: tuple[float, float],
    width: float,
    height: float,
    step: float,
) -> None:
    """From the box at `source` to the one at `target`, past those between them."""
    (left, top), (target_left, target_top) = source, target
    style = {"arrowstyle": "-|>", "mutation_scale": 8, "lw": 0.8, "color": "k"}
    below = left == target_left and abs(top - target_top - step) < 1e-6
    if below:
        middle = left + width / 2
        ends = (middle, target_top), (middle, top - height)
    elif left == target_left:
        ends = (left + width, target_top - height / 2), (left + width, top - height / 2)
        bend = 0.35 * min(1.0, 2.2 * step / (top - target_top))
        style["connectionstyle"] = f"arc3,rad=-{bend:.3f}"
    else:  # by way of the gap before the target's column
        turn, height_of = target_left - 0.4, (top - height / 2, target_top - height / 2)
        axes.plot((left + width, turn, turn), (*height_of[:1], *height_of), lw=0.8, color="k")
        ends = (target_left, height_of[1]), (turn, height_of[1])
    axes.annotate("", *ends, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def saliency_figure(
    images: np.ndarray, titles: Sequence[str], maps: Mapping[str, np.ndarray], title: str
) -> "Figure":
    """A row for each image: itself, then its map by each method.

    images: uint8 (n, height, width, 1 or 3). maps: float (n, height, width) by the method's name,
    0 or more; each is drawn from 0 to its own 99.5th percentile.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    columns = 1 + len(maps)
    figure = Figure(
        figsize=(max(1.75 * columns, 5), 1.3 + 1.95 * len(images)), layout="constrained"
    )
    figure.suptitle(plain(title), fontsize=11)
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, (image, name) in enumerate(zip(images, titles, strict=True)):
        show_image(panels[row, 0], image)
        panels[row, 0].set_title(
            "\n".join(plain(line, TITLE) for line in name.split("\n")), fontsize=8
        )
        for axes, (method, found) in zip(panels[row, 1:], maps.items(), strict=True):
            top = np.percentile(found[row], BRIGHTEST) or found[row].max() or 1.0
            if method in OVERLAID:
                show_image(axes, image.mean(axis=-1, keepdims=True))  # colours would mix
            axes.imshow(
                found[row],
                cmap="inferno",
                vmin=0,
                vmax=top,
                alpha=0.55 if method in OVERLAID else 1.0,
            )
            axes.set_axis_off()
            if row == 0:
                axes.set_title(SALIENCY_NAMES.get(method, method), fontsize=9)
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


def filters_figure(images: np.ndarray, labels: Sequence[str], title: str) -> "Figure":
    """Images in a grid, each brought to full contrast, with a line above it.

    images: float (n, height, width, 1 or 3), n is 1 or more.
    """
    from matplotlib.figure import Figure

    count, height, width = images.shape[:3]
    columns = min(count, max(1, round(math.sqrt(count * 1.6 * height / width))))
    rows = -(-count // columns)
    tile = min(1.15, max(0.75, 24 / columns)) if count > 1 else 3.6
    gap = max(1, width // 16)
    line = math.ceil(LABEL / tile * width)
    sheet = np.full(
        (rows * (height + line), columns * (width + gap) - gap, images.shape[-1]), 255.0
    )
    size = (max(tile * columns, 4.5), tile * rows * (height + line) / (width + gap) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(plain(title), fontsize=10)
    axes = figure.subplots()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        top = (index // columns) * (height + line) + line
        left = (index % columns) * (width + gap)
        low, high = np.percentile(image, (0.5, 99.5))
        stretched = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
        sheet[top : top + height, left : left + width] = 255 * stretched
        axes.text(
            left + width / 2, top - line * 0.25, plain(label), ha="center", va="bottom", fontsize=7
        )
    show_image(axes, sheet)
    return figure


def show_image(axes: "Axes", image: np.ndarray) -> None:
    """An image, uint8 or float (height, width, 1 or 3) from 0 to 255, without axes."""
    grey = image.shape[-1] == 1
    axes.imshow(
        image[..., 0] if grey else image / 255, cmap="gray" if grey else None, vmin=0, vmax=255
    )
    axes.set_axis_off()
