"""Checkpoints of every older Keras answer as they did; NumPy tells what that was."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from vintages import (
    CNN_SHAPE,
    VINTAGES,
    Vintage,
    functional,
    images,
    layer,
    random_weights,
    sequential,
    small_cnn,
    write,
)

from ferlab import checkpoints
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError

SHAPE = (8, 6, 1)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


# What the layers did, on (n, height, width, channels).


def windows(x, rows, columns, same=False, strides=1):
    sides = ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0))
    x = np.pad(x, sides) if same else x
    return sliding_window_view(x, (rows, columns), axis=(1, 2))[:, ::strides, ::strides]


def conv(x, kernel, bias=0.0, **how):
    return np.einsum("nhwcij,ijco->nhwo", windows(x, *kernel.shape[:2], **how), kernel) + bias


def depthwise(x, depthwise_kernel, bias=0.0, **how):
    seen = windows(x, *depthwise_kernel.shape[:2], **how)
    out = np.einsum("nhwcij,ijcm->nhwcm", seen, depthwise_kernel)
    return out.reshape(*out.shape[:3], -1) + bias


def separable(x, depthwise_kernel, pointwise_kernel, bias=0.0, **how):
    return conv(depthwise(x, depthwise_kernel, **how), pointwise_kernel, bias)


def norm(x, gamma, beta, moving_mean, moving_variance, axis=-1):
    shape = [1] * x.ndim
    shape[axis] = -1
    gamma, beta, mean, variance = (
        value.reshape(shape) for value in (gamma, beta, moving_mean, moving_variance)
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def pool(x, size=2):
    n, height, width, channels = x.shape
    x = x[:, : height // size * size, : width // size * size]
    return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))


def flat(x, order="hwc"):
    return (x.transpose(0, 3, 1, 2) if order == "chw" else x).reshape(len(x), -1)


def dense(x, kernel, bias=0.0):
    return x @ kernel + bias


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def gru(x, kernel, recurrent_kernel, bias, gate=hard_sigmoid):
    """x: (n, steps, inputs). A bias of two rows: the reset comes after the multiplication."""
    resets_after = bias.ndim == 2
    outer, inner = bias if resets_after else (bias, np.zeros_like(bias))
    state = np.zeros((len(x), len(recurrent_kernel)))
    for step in x.swapaxes(0, 1):
        given = np.split(step @ kernel + outer, 3, -1)
        kept = np.split(state @ recurrent_kernel + inner, 3, -1)
        update, reset = gate(given[0] + kept[0]), gate(given[1] + kept[1])
        before = (reset * state) @ np.split(recurrent_kernel, 3, -1)[2]
        news = np.tanh(given[2] + (reset * kept[2] if resets_after else before))
        state = update * state + (1 - update) * news
    return state


def lstm(x, gates):
    """gates: {"W_i": ..., "U_i": ..., "b_i": ..., "W_f": ...}."""
    state = memory = np.zeros((len(x), len(gates["b_i"])))
    for step in x.swapaxes(0, 1):
        i, f, c, o = (
            step @ gates[f"W_{gate}"] + state @ gates[f"U_{gate}"] + gates[f"b_{gate}"]
            for gate in "ifco"
        )
        memory = hard_sigmoid(f) * memory + hard_sigmoid(i) * np.tanh(c)
        state = hard_sigmoid(o) * np.tanh(memory)
    return state


def cnn(x, w, order="hwc", axis=-1):
    """What `small_cnn` answers."""
    x = pool(relu(norm(conv(x, **w["conv"]), **w["norm"], axis=axis)))
    return softmax(dense(np.tanh(dense(flat(x, order), **w["hidden"])), **w["scores"]))


# Writing, opening, comparing.


def faces(shape=SHAPE, count=5):
    return np.random.default_rng(9).normal(0, 1, (count, *shape)).astype("float32")


FACES = faces(CNN_SHAPE)  # for `small_cnn`


def assert_answers(path: Path, x, expected, **options) -> checkpoints.Checkpoint:
    checkpoint = checkpoints.load(path, **options)
    assert np.ptp(expected, axis=0).max() > 0.02, "the test would not see a difference"
    found = np.asarray(checkpoint.model(x, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    return checkpoint


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        checkpoints.load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flattened(vintage: Vintage) -> str:
    """The order in which the vintage's Flatten takes an image's axes, as `layer` tells it."""
    return "chw" if vintage.channels_first and vintage.words != "tf" else "hwc"


def conv2d(vintage, name, filters=2, **settings):
    if vintage.words == "1":
        shape = {"nb_filter": filters, "nb_row": 3, "nb_col": 3}
        return layer(vintage, "Convolution2D", name, **shape, **settings)
    return layer(vintage, "Conv2D", name, filters=filters, kernel_size=[3, 3], **settings)


def units(vintage, number=3, name="scores", activation="softmax"):
    word = "output_dim" if vintage.words == "1" else "units"
    return layer(vintage, "Dense", name, activation=activation, **{word: number})


KERNEL = {"kernel": (3, 3, 1, 2), "bias": (2,)}


def assert_network_answers(
    vintage, folder, body, shapes, seen, *, last=None, shape=SHAPE, grey=1, order=None, **written
) -> checkpoints.Checkpoint:
    """Write `body` and a classifier behind it, open it, and compare with NumPy.

    body: layers of a Sequential model, or pairs of a functional one with what the classifier is
    called on as `last`. seen(images, weights): what the body makes of images.
    """
    weights = random_weights(shapes)
    x = faces(shape) * np.float32(grey)
    out = seen(x, weights)
    end = [layer(vintage, "Flatten", "flat")] if out.ndim > 2 else []
    vector = flat(out, order or flattened(vintage)) if out.ndim > 2 else out
    weights |= random_weights({"scores": {"kernel": (vector.shape[1], 3), "bias": (3,)}}, seed=1)
    if last is None:
        config = sequential(vintage, shape, [*body, *end, units(vintage)])
    else:
        end = [(entry, last) for entry in end]
        end.append((units(vintage), "flat" if end else last))
        config = functional(vintage, shape, [*body, *end])
    path = write(vintage, folder, config, weights, **written)
    return assert_answers(path, x, softmax(dense(vector, **weights["scores"])))


def entries(config: dict) -> list[dict]:
    return config["config"] if isinstance(config["config"], list) else config["config"]["layers"]


def setting(config: dict, name: str) -> dict:
    """The settings of the layer of that name, to change."""
    (found,) = [entry["config"] for entry in entries(config) if entry["config"]["name"] == name]
    return found


def changed(vintage: Vintage, folder: Path, layer_name: str, **settings) -> tuple[Path, dict]:
    """A small CNN's file with some of a layer's settings changed, and its weights."""
    config, weights = small_cnn(vintage)
    setting(config, layer_name).update(settings)
    return write(vintage, folder, config, weights), weights


# Every vintage.


@pytest.mark.parametrize("name", VINTAGES)
def test_load_of_every_vintage_keeps_predictions_and_names_the_vintage(name, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, config, weights)
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights, flattened(vintage)))
    assert checkpoint.vintage == vintage.told
    assert (checkpoint.image_shape, checkpoint.num_classes) == (CNN_SHAPE, 3)
    assert (checkpoint.pixels, checkpoint.class_names) == ("unit", None)
    assert checkpoint.record.is_empty


@pytest.mark.parametrize("told", ["1.0.3", "1.0.6", "1.0.7", "1.2.2", None])
@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_running_std_of_keras_1_is_converted_by_version(backend, told, tmp_path):
    """It became the variance in 1.0.6, on Theano in 1.0.8; before 1.0.5 JSON told no version."""
    vintage = dataclasses.replace(VINTAGES["keras-1-pair"], backend=backend, channels_first=True)
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, config, weights)
    text = json.loads((tmp_path / "model.json").read_text())
    text["keras_version"] = told
    (tmp_path / "model.json").write_text(json.dumps(text if told else config))
    std = weights["norm"]["moving_variance"]
    if told in ("1.0.3", None) or (told, backend) == ("1.0.6", "theano"):
        weights["norm"]["moving_variance"] = (std + 1e-3) ** 2 - 1e-3
    elif (told, backend) == ("1.0.7", "theano"):
        weights["norm"]["moving_variance"] = (np.sqrt(std) + 1e-3) ** 2 - 1e-3
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights, "chw"))
    assert checkpoint.vintage == (f"Keras {told}" if told else "Keras 1")


@pytest.mark.parametrize("version", ["2.1.6-tf", "2.0.8"])
def test_keras_version_is_read_from_the_weights_group(version, tmp_path):
    config, weights = small_cnn(VINTAGES["keras-2.0"])
    path = write(VINTAGES["keras-2.0"], tmp_path, config, weights)
    with h5py.File(path, "a") as file:
        del file.attrs["keras_version"], file.attrs["backend"]
        file["model_weights"].attrs["keras_version"] = version
    name = "tf.keras 2.1.6" if version.endswith("tf") else "Keras 2.0.8"
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights))
    assert checkpoint.vintage == f"{name}, tensorflow backend"


# Functional models.

SHAPES = {
    "first": KERNEL,
    "separable": {
        "depthwise_kernel": (3, 3, 2, 2),
        "pointwise_kernel": (1, 1, 4, 4),
        "bias": (4,),
    },
    "norm": dict.fromkeys(NORM, (4,)),
    "short": {"kernel": (1, 1, 2, 4)},
    "depthwise": {"depthwise_kernel": (3, 3, 4, 1), "bias": (4,)},
}


def residual(vintage: Vintage) -> list[tuple]:
    """A shortcut beside a separable convolution, then a depthwise one."""

    def made(kind, name, **settings):
        return layer(vintage, kind, name, **settings)

    size = {"filters": 4, "kernel_size": [3, 3], "padding": "same"}
    return [
        (conv2d(vintage, "first", padding="same"), "images"),
        (made("LeakyReLU", "leaky", alpha=0.2), "first"),
        (made("SeparableConv2D", "separable", **size, depth_multiplier=2), "leaky"),
        (made("BatchNormalization", "norm"), "separable"),
        (made("Conv2D", "short", filters=4, kernel_size=[1, 1], use_bias=False), "leaky"),
        (made("Add", "sum"), ["norm", "short"]),
        (made("DepthwiseConv2D", "depthwise", kernel_size=[3, 3], activation="relu"), "sum"),
        (made("Dropout", "drop", rate=0.5), "depthwise"),
        (made("GlobalAveragePooling2D", "average"), "drop"),
    ]


def residual_outputs(x, w):
    x = conv(x, **w["first"], same=True)
    x = np.where(x > 0, x, 0.2 * x)
    main = norm(separable(x, **w["separable"], same=True), **w["norm"])
    x = relu(depthwise(main + conv(x, **w["short"]), **w["depthwise"]))
    return x.mean((1, 2))


@pytest.mark.parametrize(
    "name",
    ["keras-2.2", "keras-2.2-theano", "tf-2.3", "tf-2.15", "tf-2.13-zip", "tf-2.15-zip"],
)
def test_residual_network_of_separable_and_depthwise_convolutions(name, tmp_path):
    vintage = VINTAGES[name]
    assert_network_answers(
        vintage, tmp_path, residual(vintage), SHAPES, residual_outputs, last="average"
    )


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-1-th"])
def test_merge_layers_of_keras_1(name, tmp_path):
    vintage = VINTAGES[name]

    def merge(name, mode, **settings):
        return layer(vintage, "Merge", name, mode=mode, **settings)

    modes = ("sum", "mul", "ave", "max")
    body = [
        (conv2d(vintage, "a", border_mode="same"), "images"),
        (conv2d(vintage, "b", border_mode="same"), "images"),
        *((merge(mode, mode), ["a", "b"]) for mode in modes),
        (merge("all", "concat", concat_axis=1 if vintage.channels_first else 3), ["a", *modes]),
        (layer(vintage, "MaxPooling2D", "pool"), "all"),
        (layer(vintage, "Flatten", "vector"), "pool"),
        (units(vintage, 4, "d1", "tanh"), "vector"),
        (units(vintage, 4, "d2", "tanh"), "vector"),
        (merge("vectors", "concat", concat_axis=-1), ["d1", "d2"]),
    ]
    half = {"kernel": (120, 4), "bias": (4,)}

    def seen(x, w):
        a, b = conv(x, **w["a"], same=True), conv(x, **w["b"], same=True)
        merged = np.concatenate([a, a + b, a * b, (a + b) / 2, np.maximum(a, b)], -1)
        vector = flat(pool(merged), flattened(vintage))
        return np.tanh(np.concatenate([dense(vector, **w["d1"]), dense(vector, **w["d2"])], -1))

    shapes = {"a": KERNEL, "b": KERNEL, "d1": half, "d2": half}
    assert_network_answers(vintage, tmp_path, body, shapes, seen, last="vectors")


@pytest.mark.parametrize("mode", ["cos", "dot"])
def test_merge_modes_missing_in_keras_3_are_refused_by_name(mode, tmp_path):
    vintage = VINTAGES["keras-1-tf"]
    pair = layer(vintage, "Merge", "angle", mode=mode)
    config = functional(vintage, SHAPE, [(units(vintage), "images"), (pair, ["scores"] * 2)])
    message = refusal(write(vintage, tmp_path, config, {}))
    assert "'angle' (Merge)" in message
    assert repr(mode) in message


# Models within models.

OLD = ["keras-1-tf", "keras-2.0", "keras-2.2", "tf-2.3"]
BASE = {
    "one": KERNEL,
    "norm_one": dict.fromkeys(NORM, (2,)),
    "two": {"kernel": (3, 3, 2, 2), "bias": (2,)},
    "norm_two": dict.fromkeys(NORM, (2,)),
}


def base(vintage, frozen=(), name="base"):
    """Two convolutions with a normalisation each, as a functional model."""
    layers = {
        "one": conv2d(vintage, "one"),
        "norm_one": layer(vintage, "BatchNormalization", "norm_one"),
        "rectified": layer(vintage, "Activation", "rectified", activation="relu"),
        "two": conv2d(vintage, "two"),
        "norm_two": layer(vintage, "BatchNormalization", "norm_two"),
    }
    for frozen_name in frozen:
        layers[frozen_name]["config"]["trainable"] = False
    pairs = zip(layers.values(), ["images", *layers][:-1], strict=True)
    return functional(vintage, SHAPE, list(pairs), name=name)


def base_outputs(x, w):
    x = relu(norm(conv(x, **w["one"]), **w["norm_one"]))
    return norm(conv(x, **w["two"]), **w["norm_two"])


@pytest.mark.parametrize("again", ["", "_1"], ids=["by name", "in order"])
@pytest.mark.parametrize("frozen", [(), ("one", "norm_one"), ("norm_one", "two")], ids=str)
@pytest.mark.parametrize("name", OLD)
def test_nested_model_partly_frozen_has_another_order_of_weights(name, frozen, again, tmp_path):
    vintage = VINTAGES[name]
    assert_network_answers(
        vintage, tmp_path, [base(vintage, frozen)], BASE, base_outputs, again=again
    )


@pytest.mark.parametrize("name", ["tf-2.13-zip", "tf-2.15-zip", "tf-2.15-v3-pair"])
def test_nested_model_in_numbered_groups(name, tmp_path):
    vintage = VINTAGES[name]
    assert_network_answers(vintage, tmp_path, [base(vintage, ("one",))], BASE, base_outputs)


@pytest.mark.parametrize("name", OLD)
def test_nested_sequential_model(name, tmp_path):
    """Until 2.2.3 the inner one had no name in the configuration, only in the file."""
    vintage = VINTAGES[name]
    inner = sequential(vintage, SHAPE, [conv2d(vintage, "one")], name="sequential_7")
    assert_network_answers(
        vintage, tmp_path, [inner], {"one": KERNEL}, lambda x, w: conv(x, **w["one"])
    )


@pytest.mark.parametrize("name", OLD)
def test_node_indices_of_older_keras_count_the_creation_of_a_model(name, tmp_path):
    vintage = VINTAGES[name]
    body = [(base(vintage), "images")]
    assert_network_answers(vintage, tmp_path, body, BASE, base_outputs, last=("base", 1))


def test_shared_model_and_shared_layer(tmp_path):
    vintage = VINTAGES["keras-2.2"]
    body = [
        (conv2d(vintage, "shared", 1, padding="same"), [["images"], [("shared", 0)]]),
        (base(vintage), [[("shared", 0)], [("shared", 1)]]),
        (layer(vintage, "Subtract", "less"), [("base", 1), ("base", 2)]),
    ]

    def seen(x, w):
        once = conv(x, **w["shared"], same=True)
        twice = conv(once, **w["shared"], same=True)
        return base_outputs(once, w) - base_outputs(twice, w)

    shapes = {"shared": {"kernel": (3, 3, 1, 1), "bias": (1,)}, **BASE}
    assert_network_answers(vintage, tmp_path, body, shapes, seen, last="less")


def test_nested_model_in_a_nested_model(tmp_path):
    vintage = VINTAGES["keras-2.2"]
    inner = [layer(vintage, "Flatten", "vector"), units(vintage, 5, "hidden", "tanh")]
    head = sequential(vintage, (4, 2, 2), inner, name="head")
    pairs = [(base(vintage, ("one",)), "images"), (head, [("base", 1)])]
    middle = functional(vintage, SHAPE, pairs, name="middle", output=("head", 1))
    shapes = {"hidden": {"kernel": (16, 5), "bias": (5,)}, **BASE}
    assert_network_answers(
        vintage,
        tmp_path,
        [middle],
        shapes,
        lambda x, w: np.tanh(dense(flat(base_outputs(x, w)), **w["hidden"])),
    )


# Recurrent layers and activations.


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-2.0", "tf-2.15-zip"])
def test_hard_sigmoid_of_older_keras_is_kept_when_saved_again(name, tmp_path):
    vintage = VINTAGES[name]
    layers = [
        layer(vintage, "Flatten", "flat"),
        units(vintage, 6, "hidden", "hard_sigmoid"),
        units(vintage, 3, "last", "linear"),
        layer(vintage, "Activation", "scores", activation="hard_sigmoid"),
    ]
    w = random_weights(
        {"hidden": {"kernel": (48, 6), "bias": (6,)}, "last": {"kernel": (6, 3), "bias": (3,)}}
    )
    x = faces()
    expected = hard_sigmoid(dense(hard_sigmoid(dense(flat(x), **w["hidden"])), **w["last"]))
    path = write(vintage, tmp_path, sequential(vintage, SHAPE, layers), w)
    checkpoint = assert_answers(path, x, expected)
    for suffix in checkpoints.SUFFIXES:
        checkpoints.save(checkpoint.model, tmp_path / f"again{suffix}", TrainingRecord())
        assert_answers(tmp_path / f"again{suffix}", x, expected)


@pytest.mark.parametrize("name", ["keras-2.2", "tf-2.3", "tf-2.15-zip"])
def test_activation_may_be_a_layer(name, tmp_path):
    vintage = VINTAGES[name]
    leaky = layer(vintage, "LeakyReLU", "leaky", alpha=0.1)
    old = assert_network_answers(
        vintage,
        tmp_path,
        [conv2d(vintage, "one", activation=leaky)],
        {"one": KERNEL},
        lambda x, w: np.maximum(conv(x, **w["one"]), 0.1 * conv(x, **w["one"])),
    )
    for suffix in (".h5", ".keras"):
        checkpoints.save(old.model, tmp_path / f"again{suffix}", TrainingRecord())
        assert_answers(tmp_path / f"again{suffix}", faces(), np.asarray(old.model(faces())))


def rows(vintage):
    return layer(vintage, "Reshape", "rows", target_shape=[8, 6])


@pytest.mark.parametrize(
    ("name", "settings", "bias", "gate"),
    [
        ("keras-2.0", {}, (12,), hard_sigmoid),  # which knew no other, and no word for it
        ("keras-2.2", {"reset_after": False}, (12,), hard_sigmoid),
        ("keras-2.2", {"reset_after": True}, (2, 12), hard_sigmoid),
        ("tf-2.3", {}, (2, 12), sigmoid),
    ],
)
def test_gru_with_reset_before_and_after(name, settings, bias, gate, tmp_path):
    vintage = VINTAGES[name]
    assert_network_answers(
        vintage,
        tmp_path,
        [rows(vintage), layer(vintage, "GRU", "gru", units=4, **settings)],
        {"gru": {"kernel": (6, 12), "recurrent_kernel": (4, 12), "bias": bias}},
        lambda x, w: gru(x[..., 0], **w["gru"], gate=gate),
    )


def test_gru_in_both_directions(tmp_path):
    vintage = VINTAGES["keras-2.0"]
    inner = layer(vintage, "GRU", "gru", units=4)
    both = layer(vintage, "Bidirectional", "both", layer=inner, merge_mode="concat")
    kinds = {"kernel": (6, 12), "recurrent_kernel": (4, 12), "bias": (12,)}
    ways = ("forward_gru", "backward_gru")

    def seen(x, w):
        x = x[..., 0]
        own = [{kind: w["both"][f"{way}/{kind}"] for kind in kinds} for way in ways]
        return np.concatenate([gru(x, **own[0]), gru(x[:, ::-1], **own[1])], -1)

    shapes = {"both": {f"{way}/{kind}": kinds[kind] for way in ways for kind in kinds}}
    assert_network_answers(vintage, tmp_path, [rows(vintage), both], shapes, seen)


def test_lstm_of_keras_1_has_separate_gates(tmp_path):
    vintage = VINTAGES["keras-1-tf"]
    sizes = {"W": (6, 4), "U": (4, 4), "b": (4,)}
    gates = {f"{array}_{gate}": sizes[array] for gate in "icfo" for array in sizes}
    body = [rows(vintage), layer(vintage, "LSTM", "lstm", output_dim=4)]
    assert_network_answers(
        vintage, tmp_path, body, {"lstm": gates}, lambda x, w: lstm(x[..., 0], w["lstm"])
    )


# How names and arrays lie in the file.


def scoped(config: dict, weights: dict, names: list[str]) -> tuple[dict, dict]:
    """With names as of a TensorFlow scope: scope/conv."""
    text = json.dumps(config)
    for name in names:
        text = text.replace(f'"{name}"', f'"scope/{name}"')
    return json.loads(text), {f"scope/{name}": arrays for name, arrays in weights.items()}


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-2.0", "tf-2.3", "tf-2.15-zip"])
def test_layer_names_with_a_slash(name, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, *scoped(config, weights, list(weights)))
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights))
    checkpoints.save(checkpoint.model, tmp_path / "again.h5", TrainingRecord())
    assert_answers(tmp_path / "again.h5", FACES, cnn(FACES, weights))


def test_names_with_a_slash_in_functional_and_nested_models(tmp_path):
    vintage = VINTAGES["tf-2.3"]
    inner = base(vintage, ("one",))
    pairs = [(inner, "images"), (layer(vintage, "Flatten", "flat"), [("base", 1)])]
    config = functional(vintage, SHAPE, [*pairs, (units(vintage), "flat")])
    w = random_weights({**BASE, "scores": {"kernel": (16, 3), "bias": (3,)}})
    names = [*w, "base", "flat", "images", "rectified"]
    x = faces()
    expected = softmax(dense(flat(base_outputs(x, w)), **w["scores"]))
    assert_answers(write(vintage, tmp_path, *scoped(config, w, names)), x, expected)


@pytest.mark.parametrize("pieces", [2, 3])
@pytest.mark.parametrize("name", ["keras-2.2", "keras-2.0-pair"])
def test_name_lists_that_were_split(name, pieces, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, config, weights, pieces=pieces)
    with h5py.File(path) as file:
        attributes = file.get("model_weights", file).attrs
        assert f"layer_names{pieces - 1}" in attributes
        assert "layer_names" not in attributes
    assert_answers(path, FACES, cnn(FACES, weights))


def test_attributes_in_bytes_and_weights_of_other_precision(tmp_path):
    """As h5py 2 gave them, and as a network has them that was trained in 64 or saved in 16 bits."""
    vintage = VINTAGES["keras-2.0"]
    config, weights = small_cnn(vintage)
    for name, dtype in (("conv", "float64"), ("hidden", "float16")):
        weights[name] = {kind: array.astype(dtype) for kind, array in weights[name].items()}
    path = write(vintage, tmp_path, config, weights)
    with h5py.File(path, "a") as file:
        for attributes in (file.attrs, file["model_weights"].attrs):
            for key in {"keras_version", "backend", "model_config"} & set(attributes):
                attributes[key] = np.bytes_(attributes[key].encode())
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights))
    assert checkpoint.vintage == vintage.told


def test_training_configuration_is_ignored(tmp_path):
    penalty = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}}
    path, weights = changed(
        VINTAGES["keras-2.2"],
        tmp_path,
        "conv",
        kernel_regularizer=penalty,
        activity_regularizer=penalty,
        kernel_constraint={"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}},
        bias_constraint={"class_name": "NonNeg", "config": {}},
        kernel_initializer={"class_name": "MyInitializer", "config": {"gain": 2}},
    )
    with h5py.File(path, "a") as file:
        training = {"optimizer_config": {"class_name": "MyAdam"}, "loss": "focal_loss"}
        file.attrs["training_config"] = json.dumps(training)
        file["optimizer_weights/Adam/iterations:0"] = 5
    assert_answers(path, FACES, cnn(FACES, weights))


@pytest.mark.parametrize("key", ["kernel_regularizer", "kernel_constraint"])
def test_regularizer_that_is_a_function_is_dropped(key, tmp_path):
    own = {"module": "builtins", "class_name": "function", "config": "mine"}
    own["registered_name"] = "function"
    path, weights = changed(VINTAGES["tf-2.15"], tmp_path, "hidden", **{key: own})
    assert_answers(path, FACES, cnn(FACES, weights))


# The order of an image's axes.

KERAS_1_TH = VINTAGES["keras-1-th"]
KERAS_2_0_FIRST = dataclasses.replace(VINTAGES["keras-2.0"], channels_first=True)
KERAS_2_2_FIRST = VINTAGES["keras-2.2-first"]
THEANO_FIRST = dataclasses.replace(VINTAGES["keras-2.2-theano"], channels_first=True)
TF_FIRST = dataclasses.replace(VINTAGES["tf-2.15"], channels_first=True)
TF_ZIP_FIRST = dataclasses.replace(VINTAGES["tf-2.15-zip"], channels_first=True)


@pytest.mark.parametrize(
    ("vintage", "told", "order"),
    [
        (KERAS_1_TH, None, "chw"),
        (KERAS_2_0_FIRST, None, "chw"),
        (KERAS_2_2_FIRST, "channels_last", "chw"),
        (KERAS_2_2_FIRST, "channels_first", "hwc"),
        (THEANO_FIRST, "channels_first", "hwc"),
        (THEANO_FIRST, None, "chw"),
        (TF_FIRST, "channels_first", "hwc"),
        (TF_ZIP_FIRST, "channels_last", "chw"),
    ],
    ids=str,
)
def test_flatten_of_channels_first(vintage, told, order, tmp_path):
    """Flatten told channels_first put the channels last; any other took the axes as they were."""
    path, weights = changed(
        vintage, tmp_path, "flat", **({"data_format": told} if told else {})
    )  # fmt: skip
    assert_answers(path, FACES, cnn(FACES, weights, order))


def test_flatten_of_channels_first_in_a_functional_model(tmp_path):
    body = [(conv2d(KERAS_2_0_FIRST, "one"), "images")]
    assert_network_answers(
        KERAS_2_0_FIRST,
        tmp_path,
        body,
        {"one": KERNEL},
        lambda x, w: conv(x, **w["one"]),
        last="one",
        order="chw",
    )


@pytest.mark.parametrize(
    ("vintage", "axis", "meant"),
    [
        (VINTAGES["tf-2.3"], [3], -1),
        (VINTAGES["tf-2.3"], {"class_name": "ListWrapper", "config": [3]}, -1),
        (VINTAGES["keras-2.0"], 3, -1),
        (VINTAGES["keras-2.0"], -1, -1),
        (VINTAGES["keras-2.0"], 1, 1),
        (KERAS_1_TH, 1, -1),
        (KERAS_1_TH, -1, 2),  # what Keras 1 did by default: of th, the last axis is the width
        (KERAS_2_0_FIRST, 1, -1),
        (KERAS_2_0_FIRST, 3, 2),
        (TF_FIRST, [1], -1),
    ],
    ids=str,
)
def test_normalization_axis_on_images(vintage, axis, meant, tmp_path):
    size = {-1: 2, 1: 6, 2: 4}[meant]
    assert_network_answers(
        vintage,
        tmp_path,
        [conv2d(vintage, "one"), layer(vintage, "BatchNormalization", "norm", axis=axis)],
        {"one": KERNEL, "norm": dict.fromkeys(NORM, (size,))},
        lambda x, w: norm(conv(x, **w["one"]), **w["norm"], axis=meant),
    )


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("vintage", [KERAS_1_TH, KERAS_2_0_FIRST], ids=str)
def test_normalization_axis_on_vectors(vintage, axis, tmp_path):
    assert_network_answers(
        vintage,
        tmp_path,
        [
            conv2d(vintage, "one"),
            layer(vintage, "Flatten", "vector"),
            layer(vintage, "BatchNormalization", "norm", axis=axis),
        ],
        {"one": KERNEL, "norm": dict.fromkeys(NORM, (48,))},
        lambda x, w: norm(flat(conv(x, **w["one"]), "chw"), **w["norm"]),
    )


def test_normalization_axis_on_images_beside_a_branch_of_vectors(tmp_path):
    """The axis is told from the order of the layers in the file; 2 rows, 4 columns, 2 channels."""
    vintage = KERAS_2_2_FIRST
    body = [
        (conv2d(vintage, "one"), "images"),
        (layer(vintage, "GlobalAveragePooling2D", "vector"), "one"),
        (layer(vintage, "BatchNormalization", "norm", axis=1), "one"),
        (
            layer(vintage, "GlobalMaxPooling2D", "most", data_format="channels_first"),
            "norm",
        ),
        (layer(vintage, "Add", "sum"), ["vector", "most"]),
    ]

    def seen(x, w):
        x = conv(x, **w["one"])
        return x.mean((1, 2)) + norm(x, **w["norm"]).max((1, 2))

    shapes = {"one": KERNEL, "norm": dict.fromkeys(NORM, (2,))}
    assert_network_answers(vintage, tmp_path, body, shapes, seen, last="sum", shape=(4, 6, 1))


def test_reshape_of_channels_first_images_is_refused_by_name(tmp_path):
    body = [
        conv2d(KERAS_1_TH, "one"),
        layer(KERAS_1_TH, "Reshape", "rows", target_shape=[2, 24]),
    ]
    message = refusal(write(KERAS_1_TH, tmp_path, sequential(KERAS_1_TH, SHAPE, body), {}))
    assert "'rows' (Reshape)" in message


# Theano, which convolved where others correlate, and padded otherwise.


@pytest.mark.parametrize("channels_first", [False, True])
def test_theano_backend_of_keras_1_is_recognized_by_weight_names(channels_first, tmp_path):
    vintage = dataclasses.replace(
        VINTAGES["keras-1-tf"], backend="theano", channels_first=channels_first
    )
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, config, weights)
    assert_answers(path, FACES, cnn(FACES, weights, flattened(vintage)))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Conv2D", {"filters": 1, "kernel_size": [2, 2]}),
        ("Conv2D", {"filters": 1, "kernel_size": [3, 4], "strides": [2, 2]}),
        ("MaxPooling2D", {"pool_size": [3, 3], "strides": [2, 2]}),
    ],
)
def test_padding_only_possible_in_theano_is_refused_by_name(kind, settings, tmp_path):
    vintage = VINTAGES["keras-2.2-theano"]
    body = [layer(vintage, kind, "padded", padding="same", **settings)]
    message = refusal(write(vintage, tmp_path, sequential(vintage, SHAPE, body), {}))
    assert f"'padded' ({kind})" in message


@pytest.mark.parametrize("vintage", [VINTAGES["keras-2.2-theano"], THEANO_FIRST], ids=str)
@pytest.mark.parametrize("last", [None, "one"])
def test_padding_of_theano_on_both_sides_of_a_strided_convolution(vintage, last, tmp_path):
    strided = conv2d(vintage, "one", strides=[2, 2], padding="same")
    body = [strided] if last is None else [(strided, "images")]

    def seen(x, w):
        return conv(x, **w["one"], same=True, strides=2)

    assert_network_answers(vintage, tmp_path, body, {"one": KERNEL}, seen, last=last)


def test_conv1d_of_theano(tmp_path):
    vintage = VINTAGES["keras-2.2-theano"]
    settings = {"filters": 4, "kernel_size": [3], "activation": "tanh", "padding": "valid"}
    body = [
        rows(vintage),
        layer(vintage, "Conv1D", "one", **settings),
        layer(vintage, "GlobalMaxPooling1D", "most"),
    ]

    def seen(x, w):
        turned = w["one"]["kernel"][::-1, None]  # the writer leaves three axes as they are
        return np.tanh(conv(x.transpose(0, 1, 3, 2), turned, w["one"]["bias"]))[:, :, 0].max(1)

    shapes = {"one": {"kernel": (3, 6, 4), "bias": (4,)}}
    assert_network_answers(vintage, tmp_path, body, shapes, seen)


def test_time_distributed_convolution_of_theano(tmp_path):
    vintage = VINTAGES["keras-2.2-theano"]
    body = [
        layer(vintage, "Reshape", "parts", target_shape=[2, 4, 6, 1]),
        layer(vintage, "TimeDistributed", "one", layer=conv2d(vintage, "inner")),
        layer(vintage, "Reshape", "whole", target_shape=[32]),
    ]

    def seen(x, w):
        return conv(x.reshape(-1, 4, 6, 1), **w["one"]).reshape(len(x), -1)

    assert_network_answers(vintage, tmp_path, body, {"one": KERNEL}, seen)


# Scaling that a model brings with it.


def operation(function: str, name: str, called_on: str, /, **arguments) -> tuple[dict, None]:
    """A TensorFlow operation in a functional model of tf.keras 2.4 to 2.15."""
    kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
    config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    nodes = [[called_on, 0, 0, arguments]]
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": nodes}, None


def graph_operation(op: str, name: str, called_on: str, /, **constants) -> tuple[dict, None]:
    """The same in a functional model of tf.keras 2.0 to 2.3; constants by the operand's place."""
    node = {"name": name, "op": op, "input": [called_on, f"{name}/y"], "attr": {}}
    places = {place.removeprefix("at_"): value for place, value in constants.items()}
    config = {"name": name, "trainable": True, "node_def": node, "constants": places}
    nodes = [[[called_on, 0, 0, {}]]]
    entry = {"class_name": "TensorFlowOpLayer", "config": config, "inbound_nodes": nodes}
    return {**entry, "name": name}, None


MEANS = [-103.939, -116.779, -123.68]
REVERSED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
SCALINGS = {
    "x / 255 - 0.5": (
        [
            operation("math.truediv", "over", "images", y=255.0, name=None),
            operation("math.subtract", "scaled", "over", y=0.5, name=None),
        ],
        lambda x: x / 255 - 0.5,
    ),
    "preprocess_input of Inception": (
        [
            operation("math.truediv", "over", "images", y=127.5, name=None),
            operation("math.subtract", "scaled", "over", y=1.0, name=None),
        ],
        lambda x: x / 127.5 - 1,
    ),
    "operations of a graph": (
        [
            graph_operation("RealDiv", "over", "images", at_1=255.0),
            graph_operation("AddV2", "scaled", "over", at_0=-0.5),
        ],
        lambda x: x / 255 - 0.5,
    ),
    "times and plus": (
        [
            operation("math.multiply", "over", "images", y=0.01, name=None),
            operation("__operators__.add", "scaled", "over", y=-1.0, name=None),
        ],
        lambda x: 0.01 * x - 1,
    ),
    "preprocess_input of ResNet": (
        [
            operation("__operators__.getitem", "bgr", "images", slice_spec=REVERSED),
            operation("nn.bias_add", "means", "bgr", bias=MEANS, data_format="NHWC"),
            operation("math.multiply", "scaled", "means", y=0.01, name=None),
        ],
        lambda x: 0.01 * (x[..., ::-1] + np.array(MEANS)),
    ),
}


@pytest.mark.parametrize("name", ["tf-2.3", "tf-2.15"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_leading_arithmetic_means_raw_pixels(scaling, name, tmp_path):
    operations, scaled = SCALINGS[scaling]
    checkpoint = assert_network_answers(
        VINTAGES[name],
        tmp_path,
        operations,
        {},
        lambda x, w: scaled(x),
        last="scaled",
        shape=(8, 6, 3),
        grey=255,
    )
    assert checkpoint.pixels == "raw"
    x = faces((8, 6, 3)) * np.float32(255)
    expected = np.asarray(checkpoint.model(x))
    np.testing.assert_allclose(checkpoint.raw_pixel_model()(x), expected)
    checkpoints.save(checkpoint.model, tmp_path / "again.keras", TrainingRecord())
    assert assert_answers(tmp_path / "again.keras", x, expected).pixels == "raw"


@pytest.mark.parametrize("place", ["front", "nested", "later"])
def test_rescaling_layer_means_raw_pixels_only_in_front(place, tmp_path):
    vintage = VINTAGES["tf-2.15"]
    rescaling = layer(vintage, "Rescaling", "rescaling", scale=1 / 255, offset=0.0)
    flip = layer(vintage, "RandomFlip", "flip", mode="horizontal", seed=None)
    body = {
        "front": [flip, rescaling, conv2d(vintage, "one")],
        "nested": [sequential(vintage, SHAPE, [flip, rescaling]), conv2d(vintage, "one")],
        "later": [conv2d(vintage, "one"), rescaling],
    }[place]

    def seen(x, w):
        return conv(x, **w["one"]) / 255 if place == "later" else conv(x / 255, **w["one"])

    checkpoint = assert_network_answers(
        vintage, tmp_path, body, {"one": KERNEL}, seen, grey=255, shape=SHAPE
    )
    assert checkpoint.pixels == ("unit" if place == "later" else "raw")
    assert checkpoints.load(checkpoint.path, pixels="symmetric").pixels == "symmetric"


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name) for name in ("tf-2.3", "tf-2.15")),
        "tf-2.15-zip",
    ],
)
def test_adapted_normalization_means_raw_pixels(name, tmp_path):
    vintage = VINTAGES[name]
    config = {"axis": [-1], "mean": None, "variance": None}
    body = [layer(vintage, "Normalization", "normalization", **config), conv2d(vintage, "one")]
    adapted = {"normalization": {"mean": (1,), "moving_variance": (1,), "count": ()}}
    weights = random_weights({**adapted, "one": KERNEL, "scores": {"kernel": (48, 3)}})
    mean, variance = np.float32([127]), np.float32([3900])  # of grey levels
    weights["normalization"] = {"mean": mean, "variance": variance, "count": np.int64(320)}
    scores = layer(vintage, "Dense", "scores", units=3, activation="softmax", use_bias=False)
    config = sequential(vintage, SHAPE, [*body, layer(vintage, "Flatten", "flat"), scores])
    grey = 255 * faces()
    seen = conv((grey - mean) / np.sqrt(variance), **weights["one"])
    expected = softmax(dense(flat(seen), **weights["scores"]))
    path = write(vintage, tmp_path, config, weights)
    assert assert_answers(path, grey, expected).pixels == "raw"


def resized(x, height, width):
    """Every pixel as a square of pixels."""
    return x.repeat(height // x.shape[1], axis=1).repeat(width // x.shape[2], axis=2)


ALONE = {  # operations on one tensor: function, arguments, what it does
    "truediv by a list": ("math.truediv", {"y": [0.5, 2.0, 4.0]}, lambda x: x / [0.5, 2, 4]),
    "multiply by a list": ("math.multiply", {"y": [0.5, 2.0, 4.0]}, lambda x: x * [0.5, 2, 4]),
    "an array": (
        "math.subtract",
        {"y": {"class_name": "ndarray", "type": "ndarray", "value": [0.1, 0.2, 0.3]}},
        lambda x: x - [0.1, 0.2, 0.3],
    ),
    "mean of channels": (
        "math.reduce_mean",
        {"axis": -1, "keepdims": True},
        lambda x: x.mean(-1, keepdims=True),
    ),
    "max of channels": (
        "math.reduce_max",
        {"axis": [3], "keepdims": True},
        lambda x: x.max(-1, keepdims=True),
    ),
    "mean of images": ("math.reduce_mean", {"axis": [1, 2]}, lambda x: x.mean((1, 2))),
    "sum of rows": ("math.reduce_sum", {"axis": 1, "keepdims": False}, lambda x: x.sum(1)),
    "cast": ("cast", {"dtype": "int32", "name": None}, np.trunc),
    "rgb to grey": (
        "image.rgb_to_grayscale",
        {},
        lambda x: (x @ [0.2989, 0.587, 0.114])[..., None],
    ),
    "resize": (
        "image.resize",
        {"size": [16, 12], "method": "nearest", "preserve_aspect_ratio": False},
        lambda x: resized(x, 16, 12),
    ),
    "repeat": ("repeat", {"repeats": 2, "axis": 1}, lambda x: x.repeat(2, axis=1)),
    "tile": ("tile", {"multiples": [1, 2, 1, 1]}, lambda x: np.tile(x, (1, 2, 1, 1))),
    "maximum": ("math.maximum", {"y": 0.1}, lambda x: np.maximum(x, 0.1)),
    "minimum": ("math.minimum", {"y": 0.1}, lambda x: np.minimum(x, 0.1)),
    "clip": (
        "clip_by_value",
        {"clip_value_min": -0.5, "clip_value_max": 0.5},
        lambda x: x.clip(-0.5, 0.5),
    ),
    "square": ("math.square", {}, np.square),
    "power": ("math.pow", {"y": 2}, np.square),
    "transpose": ("compat.v1.transpose", {"perm": [0, 2, 1, 3]}, lambda x: x.swapaxes(1, 2)),
    "reshape": ("reshape", {"shape": [-1, 4, 12, 3]}, lambda x: x.reshape(-1, 4, 12, 3)),
    "expand": ("expand_dims", {"axis": 1}, lambda x: x[:, None]),
    "pad": (
        "compat.v1.pad",
        {"paddings": [[0, 0], [1, 0], [2, 1], [0, 0]], "mode": "CONSTANT", "constant_values": 0},
        lambda x: np.pad(x, [(0, 0), (1, 0), (2, 1), (0, 0)]),
    ),
    "flip": ("image.flip_left_right", {}, lambda x: x[:, :, ::-1]),
    "length": (
        "math.l2_normalize",
        {"axis": -1},
        lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
    ),
    "slice": (
        "__operators__.getitem",
        {
            "slice_spec": [
                {"start": None, "stop": None, "step": None},
                {"start": 2, "stop": None, "step": None},
                {"class_name": "__ellipsis__"},
                {"start": 0, "stop": 1, "step": None},
            ]
        },
        lambda x: x[:, 2:, :, :1],
    ),
    "max pool": (
        "nn.max_pool2d",
        {"ksize": 2, "strides": 2, "padding": "VALID"},
        pool,
    ),
    "identity": ("identity", {"name": None}, lambda x: x),
}


@pytest.mark.parametrize("name", ["tf-2.15", "tf-2.15-zip"])
@pytest.mark.parametrize("what", ALONE)
def test_operation_on_a_tensor_computes_the_same(what, name, tmp_path):
    function, arguments, expected = ALONE[what]
    assert_network_answers(
        VINTAGES[name],
        tmp_path,
        [operation(function, "changed", "images", **arguments)],
        {},
        lambda x, w: np.asarray(expected(x)),
        last="changed",
        shape=(8, 6, 3),
        grey=2,
    )


def of_two(function, name, first, second):
    entry, _ = operation(function, name, first, y=[second, 0, 0], name=None)
    return entry, None


PAIRS_OF_TENSORS = {
    "math.multiply": np.multiply,
    "math.truediv": np.divide,
    "math.subtract": np.subtract,
    "math.minimum": np.minimum,
}


@pytest.mark.parametrize("function", PAIRS_OF_TENSORS)
def test_operation_on_two_tensors_of_which_one_is_broadcast(function, tmp_path):
    """The attention of CBAM: images times the mean of their channels."""
    mean = {"axis": -1, "keepdims": True}
    assert_network_answers(
        VINTAGES["tf-2.15"],
        tmp_path,
        [
            operation("math.reduce_mean", "mean", "images", **mean),
            of_two(function, "both", "images", "mean"),
        ],
        {},
        lambda x, w: PAIRS_OF_TENSORS[function](x, x.mean(-1, keepdims=True)),
        last="both",
        shape=(8, 6, 3),
    )


def test_constant_divided_by_an_image(tmp_path):
    entry, _ = operation("math.truediv", "inverse", "images")
    entry["inbound_nodes"] = [["_CONSTANT_VALUE", -1, 2.0, {"y": ["images", 0, 0], "name": None}]]
    body = [(entry, None), operation("math.minimum", "bounded", "inverse", y=3.0, name=None)]
    assert_network_answers(
        VINTAGES["tf-2.15"],
        tmp_path,
        body,
        {},
        lambda x, w: np.minimum(2 / x, 3.0),
        last="bounded",
        shape=SHAPE,
    )


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "expected"),
    [
        ("Mean", {"at_1": [3]}, {"keep_dims": {"b": True}}, lambda x: x.mean(-1, keepdims=True)),
        ("Max", {"at_1": -1}, {"keep_dims": {"b": False}}, lambda x: x.max(-1)),
        ("RealDiv", {"at_1": [0.5, 2.0, 4.0]}, {}, lambda x: x / [0.5, 2, 4]),
        ("Cast", {}, {"DstT": {"type": "DT_INT32"}}, np.trunc),
        ("Square", {}, {}, np.square),
        ("Tile", {"at_1": [1, 2, 1, 1]}, {}, lambda x: np.tile(x, (1, 2, 1, 1))),
    ],
)
def test_graph_operation_computes_the_same(op, constants, attributes, expected, tmp_path):
    entry, _ = graph_operation(op, "changed", "images", **constants)
    entry["config"]["node_def"]["attr"] = attributes
    assert_network_answers(
        VINTAGES["tf-2.3"],
        tmp_path,
        [(entry, None)],
        {},
        lambda x, w: np.asarray(expected(x)),
        last="changed",
        shape=(8, 6, 3),
        grey=2,
    )


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("math.multiply", {"y": [[1.0], [2.0, 3.0]]}),
        ("math.truediv", {"y": 0.0}),
        ("math.reduce_mean", {}),
        ("math.reduce_mean", {"axis": ["conv", 0, 0]}),
        ("image.resize", {"size": [4, 4], "method": "area"}),
        ("image.resize", {"size": [4, 4], "preserve_aspect_ratio": True}),
        ("repeat", {"repeats": [1, 2], "axis": 1}),
        ("compat.v1.pad", {"paddings": [[0, 0], [1, 1], [1, 1], [0, 0]], "mode": "REFLECT"}),
        ("linalg.matmul", {"y": 3.0}),
    ],
)
def test_operation_that_would_be_guessed_is_refused_by_name(function, arguments, tmp_path):
    body = [operation(function, "odd", "images", **arguments)]
    vintage = VINTAGES["tf-2.15"]
    message = refusal(write(vintage, tmp_path, functional(vintage, SHAPE, body), {}))
    assert "'odd'" in message


# Layers that Keras 3 has not, or has otherwise.


@pytest.mark.parametrize("name", ["tf-2.3", "tf-2.15", "tf-2.15-zip"])
def test_random_height_and_width_do_nothing_in_prediction(name, tmp_path):
    vintage = VINTAGES[name]
    settings = {"factor": 0.2, "interpolation": "bilinear", "seed": None}
    body = [
        layer(vintage, "RandomHeight", "taller", **settings),
        layer(vintage, "RandomWidth", "wider", **settings),
        conv2d(vintage, "one"),
    ]
    assert_network_answers(
        vintage, tmp_path, body, {"one": KERNEL}, lambda x, w: conv(x, **w["one"])
    )


@pytest.mark.parametrize(
    ("height", "width", "cropped"),
    [
        (8, 6, lambda x: x),
        (4, 3, lambda x: x.reshape(-1, 4, 2, 3, 2, 1).mean((2, 4))),  # bilinear
        (6, 6, lambda x: x[:, 1:7]),
        (8, 2, lambda x: x[:, :, 2:4]),
    ],
)
def test_random_crop_takes_the_middle_in_prediction(height, width, cropped, tmp_path):
    vintage = VINTAGES["tf-2.15"]
    crop = layer(vintage, "RandomCrop", "crop", height=height, width=width, seed=None)
    assert_network_answers(vintage, tmp_path, [crop], {}, lambda x, w: cropped(x))


@pytest.mark.parametrize("name", ["tf-2.15", "tf-2.15-zip"])
def test_layers_of_convnext(name, tmp_path):
    vintage = VINTAGES[name]
    scale = layer(vintage, "LayerScale", "scale", init_values=1e-6, projection_dim=2)
    depth = layer(vintage, "StochasticDepth", "depth", drop_path_rate=0.3)
    for entry in (scale, depth):
        if vintage.is_new_style:
            entry["module"] = "keras.src.applications.convnext"
    assert_network_answers(
        vintage,
        tmp_path,
        [conv2d(vintage, "one"), scale, depth],
        {"one": KERNEL, "scale": {"gamma": (2,)}},
        lambda x, w: conv(x, **w["one"]) * w["scale"]["gamma"],
    )


def test_custom_layer_with_the_name_of_convnext_is_refused(tmp_path):
    vintage = VINTAGES["tf-2.15-zip"]
    entry = layer(vintage, "LayerScale", "scale", init_values=1e-6, projection_dim=1)
    entry["module"] = "__main__"
    config = sequential(vintage, SHAPE, [entry])
    message = refusal(write(vintage, tmp_path, config, {"scale": {"gamma": np.ones(1)}}))
    assert "'scale'" in message


def joined_by_backslashes(content: bytes) -> bytes:
    """`model.weights.h5` as tf.keras wrote it on Windows: the parts of a group's name in one."""
    written = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(written, "w") as target:

        def copy(name, entry):
            group, _, last = name.rpartition("/vars")
            if isinstance(entry, h5py.Dataset):
                target[group.replace("/", "\\") + "/vars" + last] = entry[()]
            elif not last and name.endswith("/vars"):
                target.require_group(group.replace("/", "\\") + "/vars")

        source.visititems(copy)
        target.require_group("vars")
    return written.getvalue()


@pytest.mark.parametrize(
    "name", ["tf-2.13-zip", "tf-2.15-zip", "tf-2.13-v3-pair", "tf-2.15-v3-pair", "keras-3-zip"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_weights_from_windows(name, nested, tmp_path):
    vintage = VINTAGES[name]
    if nested and vintage.major == 3:
        pytest.skip("nested models are written otherwise")
    if nested:
        opened = assert_network_answers(
            vintage, tmp_path, [base(vintage, ("one",))], BASE, base_outputs
        )
        path, x = opened.path, faces()
        expected = np.asarray(opened.model(x))
    else:
        config, weights = small_cnn(vintage)
        path, x, expected = write(vintage, tmp_path, config, weights), FACES, cnn(FACES, weights)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        members["model.weights.h5"] = joined_by_backslashes(members["model.weights.h5"])
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
    else:
        path.write_bytes(joined_by_backslashes(path.read_bytes()))
    assert_answers(path, x, expected)


def test_operation_without_a_layer_is_refused_by_name(tmp_path):
    vintage = VINTAGES["tf-2.3"]
    body = [operation("image.per_image_standardization", "standard", "images")]
    message = refusal(write(vintage, tmp_path, functional(vintage, SHAPE, body), {}))
    assert "'standard'" in message
    assert "image.per_image_standardization" in message


def test_constant_minus_an_image(tmp_path):
    """255 - x: a constant stands in the place of a tensor."""
    entry, _ = operation("math.subtract", "inverted", "images")
    settings = {"y": ["images", 0, 0], "name": None}
    entry["inbound_nodes"] = [["_CONSTANT_VALUE", -1, 255.0, settings]]
    assert_network_answers(
        VINTAGES["tf-2.15"],
        tmp_path,
        [(entry, None), operation("math.truediv", "scaled", "inverted", y=255.0, name=None)],
        {},
        lambda x, w: (255 - x) / 255,
        last="scaled",
        shape=SHAPE,
        grey=255,
    )


@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15", "tf-2.15-zip", "keras-3", "keras-3-zip"])
def test_layer_larger_than_any_stored_array_is_refused_before_it_is_built(name, tmp_path):
    path, _ = changed(VINTAGES[name], tmp_path, "hidden", units=2_000_000_000)
    message = refusal(path)
    assert "'hidden'" in message
    assert "2000000000" in message


@pytest.mark.parametrize(
    ("op", "constants"), [("Rsqrt", {}), ("Sub", {"at_0": 1.0}), ("RealDiv", {"at_0": 1.0})]
)
def test_graph_operation_without_a_layer_is_refused_by_name(op, constants, tmp_path):
    vintage = VINTAGES["tf-2.3"]
    body = [graph_operation(op, "tf_op_layer_one", "images", **constants)]
    message = refusal(write(vintage, tmp_path, functional(vintage, SHAPE, body), {}))
    assert "'tf_op_layer_one'" in message
    assert f"({op})" in message


# A model that does not tell the shape of its images.


@pytest.mark.parametrize(("side", "channels"), [(48, 1), (48, 3), (64, 1)])
@pytest.mark.parametrize("name", ["keras-2.2", "keras-2.0-pair"])
def test_image_shape_follows_from_the_weights_if_missing(name, side, channels, tmp_path):
    vintage = VINTAGES[name]
    layers = [
        conv2d(vintage, "one", 1),
        layer(vintage, "MaxPooling2D", "pool", pool_size=[8, 8], strides=[8, 8]),
        layer(vintage, "Flatten", "flat"),
        units(vintage),
    ]
    inputs = ((side - 2) // 8) ** 2
    one = {"kernel": (3, 3, channels, 1), "bias": (1,)}
    w = random_weights({"one": one, "scores": {"kernel": (inputs, 3), "bias": (3,)}})
    path = write(vintage, tmp_path, sequential(vintage, None, layers), w)
    x = faces((side, side, channels)) / 3
    expected = softmax(dense(flat(pool(conv(x, **w["one"]), 8)), **w["scores"]))
    assert assert_answers(path, x, expected).image_shape == (side, side, channels)


def test_image_shape_missing_and_without_a_match_is_one_line(tmp_path):
    config, weights = small_cnn(VINTAGES["keras-2.2"])  # for 10 x 8 pixels
    del setting(config, "conv")["batch_input_shape"]
    message = refusal(write(VINTAGES["keras-2.2"], tmp_path, config, weights))
    assert "shape" in message
    assert "48, 64, 96, 128, 224" in message


@pytest.mark.parametrize("kind", [None, "TensorShape", "__tuple__"])
@pytest.mark.parametrize("name", ["keras-2.2", "keras-2.2-first", "tf-2.3"])
def test_image_shape_from_the_build_shape(name, kind, tmp_path):
    vintage = VINTAGES[name]
    layers = [conv2d(vintage, "one"), layer(vintage, "Flatten", "flat"), units(vintage)]
    config = sequential(vintage, None, layers)
    shape = [None, 1, 8, 6] if vintage.channels_first else [None, 8, 6, 1]
    shape = {"class_name": kind, "items": shape} if kind else shape
    config["config"]["build_input_shape"] = shape
    w = random_weights({"one": KERNEL, "scores": {"kernel": (48, 3), "bias": (3,)}})
    vector = flat(conv(faces(), **w["one"]), flattened(vintage))
    path = write(vintage, tmp_path, config, w)
    assert_answers(path, faces(), softmax(dense(vector, **w["scores"])))


def test_image_shape_from_the_input_layer(tmp_path):
    vintage = VINTAGES["tf-2.3"]
    layers = [images(vintage, SHAPE), layer(vintage, "Flatten", "flat"), units(vintage)]
    w = random_weights({"scores": {"kernel": (48, 3), "bias": (3,)}})
    path = write(vintage, tmp_path, sequential(vintage, None, layers), w)
    assert_answers(path, faces(), softmax(dense(flat(faces()), **w["scores"])))


# Weights alone, and the architecture beside them.

PAIRS = ["keras-1-pair", "keras-2.0-pair", "tf-2.15-v3-pair", "keras-3-v3-pair"]


@pytest.fixture
def pair(tmp_path, request):
    """(weights, the JSON beside them, what they should give for FACES)."""
    vintage = VINTAGES[getattr(request, "param", "keras-2.0-pair")]
    config, weights = small_cnn(vintage)
    path = write(vintage, tmp_path, config, weights)
    return path, tmp_path / "model.json", cnn(FACES, weights)


def with_another_activation(path: Path) -> str:
    """An architecture that fits the same weights and gives other answers."""
    config = json.loads(path.read_text())
    setting(config, "hidden")["activation"] = "relu"
    return json.dumps(config)


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_architecture_given_by_the_user(pair):
    path, beside, expected = pair
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    beside.rename(elsewhere / "any name.txt")
    assert_answers(path, FACES, expected, architecture=elsewhere / "any name.txt")
    assert "--architecture model.json" in refusal(path)


def test_architecture_beside_with_the_closest_name(pair):
    path, beside, expected = pair
    (path.parent / "other.json").write_text(with_another_activation(beside))
    assert_answers(path, FACES, expected)


def test_architectures_that_match_equally_well_are_refused(pair):
    path, beside, expected = pair
    path = path.rename(path.parent / "weights.h5")
    one, other = path.parent / "arch_a.json", path.parent / "arch_b.json"
    other.write_bytes(beside.read_bytes())
    beside.rename(one)
    assert_answers(path, FACES, expected)  # the same twice is no question
    other.write_text(with_another_activation(one))
    message = refusal(path)
    assert "arch_a.json, arch_b.json" in message
    assert "--architecture" in message
    assert_answers(path, FACES, expected, architecture=one)


def test_architecture_without_the_layers_is_refused(pair):
    path, beside, _ = pair
    config = json.loads(beside.read_text())
    setting(config, "conv").update(name="another", filters=5)
    beside.write_text(json.dumps(config))
    assert "JSON" in refusal(path)
    assert "layers" in refusal(path, architecture=beside)


def test_architecture_is_found_beside_other_json_files(pair):
    path, _, expected = pair
    for name, text in (("model2.json", "{"), ("modem.json", "[1]"), ("modes.json", "{}")):
        (path.parent / name).write_text(text)
    (path.parent / "modek.json").write_bytes(b"\xff\xfe\x00")
    assert_answers(path, FACES, expected)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"backend: tensorflow\nclass_name: Sequential\nconfig:\n- name: conv\n", "JSON"),
        (b"{", "JSON"),
        (b"[]", "configuration"),
        (b'{"labels": ["angry"]}', "configuration"),
        (b"", "an empty file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"[" * 100_000, "JSON"),
        (None, "cannot be read"),
    ],
)
def test_architecture_that_is_another_file_is_refused(pair, content, kind):
    given = pair[0].parent / "given.json"
    if content is not None:
        given.write_bytes(content)
    message = refusal(pair[0], architecture=given)
    assert kind in message
    assert "given.json" in message


@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15-zip", "keras-3"])
def test_architecture_for_a_file_with_its_own_is_refused(name, tmp_path):
    path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
    (tmp_path / "a.json").write_text("{}")
    message = refusal(path, architecture=tmp_path / "a.json")
    assert str(tmp_path / "a.json") in message


# What a file is follows from its content.


@pytest.mark.parametrize("called", ["m.keras", "m.hdf5", "m.model", "m", "m.weights.h5"])
@pytest.mark.parametrize("name", ["keras-1-tf", "tf-2.15", "keras-3"])
def test_hdf5_under_any_name(name, called, tmp_path):
    config, weights = small_cnn(VINTAGES[name])
    path = write(VINTAGES[name], tmp_path, config, weights).rename(tmp_path / called)
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights))
    assert checkpoint.vintage == VINTAGES[name].told


@pytest.mark.parametrize("name", ["tf-2.15-zip", "keras-3-zip"])
def test_zip_named_h5(name, tmp_path):
    config, weights = small_cnn(VINTAGES[name])
    path = write(VINTAGES[name], tmp_path, config, weights).rename(tmp_path / "m.h5")
    assert_answers(path, FACES, cnn(FACES, weights))


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_weights_only_under_any_name(pair):
    path, _, expected = pair
    assert_answers(path.rename(path.parent / "model.bin"), FACES, expected)


# What does not matter, and what is refused by name.


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("tf-2.3", {"class_name": "Policy", "config": {"name": "mixed_float16"}}),
        ("tf-2.3", {"class_name": "PolicyV1", "config": {"name": "mixed_float16"}}),
        (
            "tf-2.15-zip",
            {
                "module": "keras.mixed_precision",
                "class_name": "Policy",
                "config": {"name": "mixed_bfloat16"},
                "registered_name": None,
            },
        ),
    ],
)
def test_mixed_precision_becomes_float32(name, policy, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    for entry in entries(config)[1:]:
        entry["config"]["dtype"] = policy
    assert_answers(write(vintage, tmp_path, config, weights), FACES, cnn(FACES, weights))


@pytest.mark.parametrize(
    ("name", "layer_name", "key", "value"),
    [
        ("keras-1-tf", "norm", "mode", 1),
        ("keras-2.0", "conv", "spectral", True),
        ("keras-2.0", "pool", "ceil_mode", True),
        ("keras-2.2", "hidden", "weight_norm", 2.5),
        ("tf-2.15", "norm", "renorm_mode", "rho"),
        ("tf-2.15-zip", "drop", "inverted", [1]),
    ],
)
def test_unknown_setting_with_an_effect_is_refused_by_name(name, layer_name, key, value, tmp_path):
    message = refusal(changed(VINTAGES[name], tmp_path, layer_name, **{key: value})[0])
    assert f"the layer {layer_name!r} (" in message
    assert f"{key}={value!r}" in message


@pytest.mark.parametrize("value", [None, False, []])
def test_unknown_setting_without_an_effect_is_ignored(value, tmp_path):
    path, weights = changed(VINTAGES["tf-2.15"], tmp_path, "hidden", of_tomorrow=value)
    assert_answers(path, FACES, cnn(FACES, weights))


@pytest.mark.parametrize("kind", ["ScaleShift", "LocallyConnected2D", "Custom>Attention"])
@pytest.mark.parametrize("name", ["keras-1-tf", "keras-2.0", "tf-2.15", "tf-2.15-zip", "keras-3"])
def test_class_missing_in_keras_3_is_refused_by_name(name, kind, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    entries(config).insert(3, layer(vintage, kind, "odd_one"))
    message = refusal(write(vintage, tmp_path, config, weights))
    assert "'odd_one'" in message
    assert repr(kind) in message


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-2.0", "tf-2.15-zip"])
def test_custom_activation_is_refused_by_name(name, tmp_path):
    message = refusal(changed(VINTAGES[name], tmp_path, "hidden", activation="my_swish")[0])
    assert "'my_swish'" in message
    assert "'hidden'" in message


@pytest.mark.parametrize("name", ["tf-2.3", "tf-2.15-zip"])
def test_subclassed_model_is_refused_by_name(name, tmp_path):
    vintage = VINTAGES[name]
    config = {"class_name": "EmotionNet", "config": {"name": "emotion_net", "layers": []}}
    message = refusal(write(vintage, tmp_path, config, {}))
    assert "'EmotionNet'" in message


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-1-th", "keras-2.0", "keras-2.2-theano"])
@pytest.mark.parametrize("layer_name", ["conv", "norm", "hidden"])
def test_weights_of_another_shape_are_refused_by_name(name, layer_name, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    first = next(iter(weights[layer_name]))
    weights[layer_name][first] = weights[layer_name][first][..., :-1]
    message = refusal(write(vintage, tmp_path, config, weights))
    assert f" {layer_name} has" in message


@pytest.mark.parametrize("name", ["keras-1-tf", "keras-2.0", "tf-2.15", "tf-2.15-zip"])
def test_missing_weights_are_refused(name, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    del weights["hidden"]["bias"]
    refusal(write(vintage, tmp_path, config, weights))
    del weights["hidden"]
    refusal(write(vintage, tmp_path, config, weights))


# Saved again, to be trained further.


@pytest.mark.parametrize("suffix", checkpoints.SUFFIXES)
@pytest.mark.parametrize("name", ["keras-1-th", "keras-2.2-theano", "tf-2.15-zip"])
def test_resaved_model_keeps_predictions_and_record(name, suffix, tmp_path):
    vintage = VINTAGES[name]
    config, weights = small_cnn(vintage)
    old = checkpoints.load(write(vintage, tmp_path, config, weights))
    record = TrainingRecord(class_names=("a", "b", "c"), pixels="unit")
    checkpoints.save(old.model, tmp_path / f"again{suffix}", record)
    expected = cnn(FACES, weights, flattened(vintage))
    again = assert_answers(tmp_path / f"again{suffix}", FACES, expected)
    assert again.class_names == ("a", "b", "c")
    assert again.vintage.startswith("Keras 3")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_resaved_nested_model(suffix, tmp_path):
    vintage = VINTAGES["keras-2.0"]
    body = [(base(vintage, ("one",)), "images")]
    old = assert_network_answers(vintage, tmp_path, body, BASE, base_outputs, last=("base", 1))
    checkpoints.save(old.model, tmp_path / f"again{suffix}", TrainingRecord())
    assert_answers(tmp_path / f"again{suffix}", faces(), np.asarray(old.model(faces())))


def test_record_can_be_added_to_a_file_of_any_origin(tmp_path):
    config, weights = small_cnn(VINTAGES["keras-2.0"])
    path = write(VINTAGES["keras-2.0"], tmp_path, config, weights)
    checkpoints.update_record(path, class_names=("a", "b", "c"), pixels="raw")
    checkpoint = assert_answers(path, FACES, cnn(FACES, weights))
    assert (checkpoint.class_names, checkpoint.pixels) == (("a", "b", "c"), "raw")
