"""Texts and numbers in the pictures."""

import io
import shutil

import keras
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from keras import layers
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ferlab import plots
from ferlab.evaluation import costs, metrics
from ferlab.plots import style
from models import build_model


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def residual_model(name="conv"):
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(images)
    y = layers.Conv2D(4, 1, name="branch")(x)
    pooled = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="add")([x, y]))
    return keras.Model(images, layers.Dense(3, activation="softmax", name="dense")(pooled))


def test_layers_figure_shows_every_layer():
    model = build_model("cnn", (48, 48, 1), 7)
    shown = texts(plots.layers_figure(costs.layer_costs(model), "title"))
    for layer in model.layers[1:]:
        assert layer.name in shown
    assert "Conv2D, relu: 320 parameters, 663,552 multiply-adds" in shown
    assert "Dense, softmax: 455 parameters, 448 multiply-adds" in shown
    assert shown.count("48x48x32") == 6


def test_layers_figure_has_an_arrow_for_each_connection():
    layers_ = costs.layer_costs(residual_model())
    inputs = {layer.name: layer.inputs for layer in layers_}
    assert inputs["add"] == ("conv", "branch")
    assert inputs["conv"] == ()
    from matplotlib.text import Annotation

    arrows = plots.layers_figure(layers_, "title").findobj(Annotation)
    assert len(arrows) == sum(map(len, inputs.values())) == 5


@pytest.mark.parametrize("name", ["conv", "<b>conv", 'conv"];x'])
def test_keras_plot_requires_graphviz_and_plain_names(name, tmp_path):
    drawn = plots.save_keras_plot(residual_model(name), tmp_path / "model.png")
    assert drawn == (tmp_path / "model.png").exists()
    assert drawn == (name == "conv" and shutil.which("dot") is not None)


def test_keras_plot_without_graphviz_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not plots.save_keras_plot(residual_model(), tmp_path / "model.png")
    assert not list(tmp_path.iterdir())


def curves(figure, panel):
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in figure.axes[panel].lines
        if not line.get_label().startswith("_")
    }


def test_history_figure_shows_both_phases_and_the_learning_rate():
    history = {
        "loss": [3.0, 2.0, 1.0],
        "accuracy": [0.1, 0.2, 0.3],
        "val_loss": [3.5, 2.5, 1.5],
        "val_accuracy": [0.1, 0.15, 0.2],
        "learning_rate": [1e-4, 1e-4],  # the first training did not record it
    }
    phases = [[0, "head"], [1, "all layers"]]
    figure = plots.history_figure(history, "title", phases)
    assert curves(figure, 0)["validation"] == ([0, 1, 2], [3.5, 2.5, 1.5])
    assert curves(figure, 2)["training"] == ([1, 2], [1e-4, 1e-4])
    shown = texts(figure)
    assert shown.count("head") == shown.count("all layers") == 3
    assert len(plots.history_figure({"loss": [1.0], "accuracy": [0.5]}, "title").axes) == 2
    assert "head" not in texts(plots.history_figure(history, "title", phases[:1]))


def test_confusion_matrix_shows_recall_precision_and_pairs():
    counts = np.array([[8, 2], [1, 9]])
    shown = texts(plots.confusion_matrix_figure(counts, ("happy", "sad$"), "title", ["a pair"]))
    assert {"8\n80%", "2\n20%", "1\n10%", "9\n90%", "\na pair"} <= set(shown)
    assert "happy\n80.0%" in shown  # recall
    assert "happy\n88.9%" in shown  # precision
    assert any(r"sad\$" in text for text in shown)


def test_confusion_matrix_shows_a_dash_for_undefined_shares():
    counts = np.array([[5, 0, 5], [0, 0, 0], [1, 0, 9]])
    names = ("happy", "sad", "a very long name of a class that leaves no room")
    shown = texts(plots.confusion_matrix_figure(counts, names, "title"))
    assert "sad\n\N{EN DASH}" in shown  # neither recall nor precision
    assert "sad\n0.0%" not in shown
    assert "0\n0%" in shown  # happy is never predicted as sad
    assert shown.count("0") == 3
    assert not any(name in text for text in shown for name in names[2:])


def test_saliency_figure_shows_maps_beside_or_over_the_image():
    images = np.arange(2 * 6 * 6, dtype=np.uint8).reshape(2, 6, 6, 1)
    maps = {"fine": np.ones((2, 6, 6)), "coarse": np.zeros((2, 6, 6))}
    figure = plots.saliency_figure(images, ["first", "second"], maps, "title", overlaid=["coarse"])
    panels = [axes for axes in figure.axes if axes.images][:6]
    for row in range(2):
        np.testing.assert_array_equal(panels[3 * row].images[0].get_array(), images[row, :, :, 0])
    assert [len(axes.images) for axes in panels] == [1, 1, 2] * 2
    assert {"first", "second", "fine", "coarse"} <= set(texts(figure))


@pytest.mark.parametrize("count", [1, 7, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_figure_has_a_tile_and_a_label_for_each_image(count, channels):
    images = np.random.default_rng(0).uniform(100, 110, (count, 6, 6, channels))
    figure = plots.filters_figure(images, [f"unit {index}" for index in range(count)], "title")
    assert {f"unit {index}" for index in range(count)} <= set(texts(figure))
    (shown,) = figure.axes[0].images
    sheet = np.asarray(shown.get_array(), float)
    assert sheet.min() == 0  # full contrast
    assert plots.png(figure).startswith(b"\x89PNG")


def test_comparison_figure_shows_every_model_and_only_known_values():
    share = metrics.proportion(30, 100)
    figure = plots.comparison_figure(
        ["a", "b", "c"],
        {"accuracy": [share, 0.5, None], "macro F1": [0.25, share, share]},
        [[0.1, 0.2], [], [0.3, 0.4, 0.5]],
        [10, 1000, 1000],
        "three",
    )
    measures, *below = (axes for part in figure.subfigs for axes in part.axes)
    assert [text.get_text() for text in measures.get_yticklabels()] == ["a", "b", "c"]
    shown = [container.lines[0].get_xdata().tolist() for container in measures.containers]
    assert shown == [[0.3, 0.5], [0.25, 0.3, 0.3]]
    epochs, cost = below
    assert [line.get_ydata().tolist() for line in epochs.lines] == [[0.1, 0.2], [0.3, 0.4, 0.5]]
    assert [line.get_xdata()[0] for line in cost.lines] == [10, 1000]
    alone = plots.comparison_figure(["a"], {"accuracy": [share]}, [[]], [10], "one")
    assert len(alone.axes) == 1


def test_comparison_figure_has_distinct_styles_and_no_lines_for_too_many_models():
    names, shares = [f"m{index}" for index in range(13)], [metrics.proportion(30, 100)] * 13
    work, curves = list(range(1, 14)), [[0.1, 0.2]] * 13
    twelve = plots.comparison_figure(
        names[:12], {"accuracy": shares[:12]}, curves[:12], work[:12], "twelve"
    )
    _, epochs, _ = (axes for part in twelve.subfigs for axes in part.axes)
    assert len({(line.get_color(), line.get_marker()) for line in epochs.lines}) == 12
    thirteen = plots.comparison_figure(names, {"accuracy": shares}, curves, work, "thirteen")
    assert len(thirteen.axes) == 1


SCRIPTS = {  # class names, and the font with them
    "Chinese": (("生氣", "開心"), "Noto Sans CJK"),
    "Japanese": (("怒り", "ヨロコビ"), "Noto Sans CJK"),
    "Korean": (("화남", "행복"), "Noto Sans CJK"),
    "Arabic": (("\u063a\u0627\u0636\u0628", "\u0633\u0639\u064a\u062f"), None),
    "Hindi": (("गुस्सा", "खुश"), "Noto Sans Devanagari"),
    "Thai": (("โกรธ", "สุข"), "Noto Sans Thai"),
    "emoji": (("\U0001f914", "\U0001f973"), "Noto Emoji"),
}


def write_font(path, characters, family):
    """A font in which each of these characters is a rectangle of its own width."""
    names = {char: f"g{number}" for number, char in enumerate(characters)}
    glyphs = {}
    for number, name in enumerate([".notdef", *names.values()]):
        pen = TTGlyphPen(None)
        for point, draw in (
            ((100, 0), pen.moveTo),
            ((100, 700), pen.lineTo),
            ((200 + 600 * number // len(characters), 700), pen.lineTo),
            ((200 + 600 * number // len(characters), 0), pen.lineTo),
        ):
            draw(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(char): name for char, name in names.items()})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def confusion_matrix(names):
    return plots.confusion_matrix_figure(np.eye(len(names), dtype=int), names, "a title")


def drawn(figure, report):
    return np.asarray(Image.open(io.BytesIO(style.png(figure, report))).convert("L"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_png_draws_class_names_with_a_font_of_the_machine(script, tmp_path, monkeypatch):
    names, _ = SCRIPTS[script]
    characters = sorted(set("".join(names)))
    half = len(characters) // 2
    write_font(tmp_path / "a.ttf", characters[:half], f"{script} One")
    write_font(tmp_path / "b.ttf", characters[half:], f"{script} Two")
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    notes = []
    monkeypatch.setattr(style, "_font_files", lambda: [])
    boxes = drawn(confusion_matrix(names), notes.append)
    boxed = [*notes]
    notes.clear()
    paths = [str(tmp_path / name) for name in ("a.ttf", "b.ttf", "damaged.ttf")]
    monkeypatch.setattr(style, "_font_files", lambda: paths)
    legible = drawn(confusion_matrix(names), notes.append)
    assert notes == []
    if boxed:  # else Matplotlib's own font has them
        assert boxes.shape == legible.shape
        assert (boxes != legible).any()


@pytest.mark.parametrize("script", SCRIPTS)
def test_png_names_the_font_to_install_once(script, monkeypatch):
    names, font = SCRIPTS[script]
    monkeypatch.setattr(style, "_font_files", lambda: [])
    notes = []
    report = notes.append
    for _ in range(2):
        style.png(confusion_matrix(names), report)
    assert len(notes) == (font is not None)
    assert all(font in note and names[0][0] in note for note in notes)


def test_png_of_a_name_that_is_not_utf8():
    figure = Figure()
    figure.suptitle(plots.style.plain("caf\udce9"))
    notes = []
    style.png(figure, notes.append)
    assert notes == []
    assert texts(figure) == [r"caf\udce9"]
