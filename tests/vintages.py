"""Checkpoints as each Keras wrote them, written by hand: nothing here asks Keras for a word.

The formats are those of files that Keras 1.2.2 to 3.15 really wrote. A test describes a network in
the vintage's own words and gives weights in the layout of Keras 3, {layer: {kind: array}}; `write`
lays them out, names and orders them as that Keras did.
"""

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

Weights = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Vintage:
    """What wrote a file.

    words: a key of _SETTINGS. container: h5; keras, a zip archive; pair, weights and a JSON file;
    v3 pair, the same with weights as they lie in a zip archive. told: what ferlab calls it.
    """

    version: str
    words: str
    container: str
    told: str
    backend: str = "tensorflow"
    channels_first: bool = False

    def __str__(self) -> str:
        order = "-first" if self.channels_first else ""
        return f"{self.version}-{self.backend}-{self.container}{order}"

    @property
    def major(self) -> int:
        return int(self.version[0])

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", self.version)))

    @property
    def is_new_style(self) -> bool:
        """Whether its objects tell the module they come from."""
        return self.container in ("keras", "v3 pair")


VINTAGES = {
    "keras-1-tf": Vintage("1.2.2", "1", "h5", "Keras 1.2.2"),
    "keras-1-th": Vintage("1.2.2", "1", "h5", "Keras 1.2.2", channels_first=True),
    "keras-1-pair": Vintage("1.2.2", "1", "pair", "Keras 1.2.2"),
    "keras-2.0": Vintage("2.0.8", "2", "h5", "Keras 2.0.8, tensorflow backend"),
    "keras-2.0-pair": Vintage("2.0.8", "2", "pair", "Keras 2.0.8, tensorflow backend"),
    "keras-2.2": Vintage("2.2.4", "2", "h5", "Keras 2.2.4, tensorflow backend"),
    "keras-2.2-first": Vintage(
        "2.2.4", "2", "h5", "Keras 2.2.4, tensorflow backend", channels_first=True
    ),
    "keras-2.2-theano": Vintage("2.2.4", "2", "h5", "Keras 2.2.4, theano backend", "theano"),
    "tf-1.13": Vintage("2.2.4-tf", "2", "h5", "tf.keras 2.2.4, tensorflow backend"),
    "tf-2.3": Vintage("2.4.0", "tf", "h5", "tf.keras 2.4.0, tensorflow backend"),
    "tf-2.15": Vintage("2.15.0", "tf", "h5", "tf.keras 2.15.0, tensorflow backend"),
    "tf-2.13-zip": Vintage("2.13.1", "tf", "keras", "tf.keras 2.13.1"),
    "tf-2.13-v3-pair": Vintage("2.13.1", "tf", "v3 pair", "tf.keras 2.13.1, tensorflow backend"),
    "tf-2.15-zip": Vintage("2.15.0", "tf", "keras", "tf.keras 2.15.0"),
    "tf-2.15-pair": Vintage("2.15.0", "tf", "pair", "tf.keras 2.15.0, tensorflow backend"),
    "tf-2.15-v3-pair": Vintage("2.15.0", "tf", "v3 pair", "tf.keras 2.15.0, tensorflow backend"),
    "keras-3": Vintage("3.5.0", "3", "h5", "Keras 3.5.0, tensorflow backend"),
    "keras-3-zip": Vintage("3.5.0", "3", "keras", "Keras 3.5.0"),
    "keras-3-v3-pair": Vintage("3.5.0", "3", "v3 pair", "Keras 3.5.0, tensorflow backend"),
}

# What a layer's configuration holds beside what a test says, as it stands in the files.
# `layer` puts the vintage's own way to say it in the place of an initialiser's null.
_KERAS_1 = json.loads("""{
"InputLayer": {"input_dtype": "float32", "sparse": false},
"Convolution2D": {"init": "glorot_uniform", "activation": "linear", "border_mode": "valid",
  "subsample": [1, 1], "dim_ordering": "tf", "W_regularizer": null, "b_regularizer": null,
  "activity_regularizer": null, "W_constraint": null, "b_constraint": null, "bias": true},
"BatchNormalization": {"epsilon": 0.001, "mode": 0, "axis": 3, "gamma_regularizer": null,
  "beta_regularizer": null, "momentum": 0.99},
"MaxPooling2D": {"pool_size": [2, 2], "border_mode": "valid", "strides": [2, 2],
  "dim_ordering": "tf"},
"Dropout": {"p": 0.5},
"Dense": {"init": "glorot_uniform", "activation": "linear", "W_regularizer": null,
  "b_regularizer": null, "activity_regularizer": null, "W_constraint": null,
  "b_constraint": null, "bias": true},
"LSTM": {"return_sequences": false, "go_backwards": false, "stateful": false, "unroll": false,
  "consume_less": "cpu", "init": "glorot_uniform", "inner_init": "orthogonal",
  "forget_bias_init": "one", "activation": "tanh", "inner_activation": "hard_sigmoid",
  "W_regularizer": null, "U_regularizer": null, "b_regularizer": null, "dropout_W": 0.0,
  "dropout_U": 0.0},
"Merge": {"mode_type": "raw", "concat_axis": -1, "dot_axes": -1, "output_shape": null,
  "output_shape_type": "raw", "output_mask": null, "output_mask_type": "raw", "arguments": {}}
}""")
_KERAS_2 = json.loads("""{
"InputLayer": {"sparse": false},
"Conv2D": {"strides": [1, 1], "padding": "valid", "data_format": "channels_last",
  "dilation_rate": [1, 1], "activation": "linear", "use_bias": true, "kernel_initializer": null,
  "bias_initializer": null, "kernel_regularizer": null, "bias_regularizer": null,
  "activity_regularizer": null, "kernel_constraint": null, "bias_constraint": null},
"DepthwiseConv2D": {"strides": [1, 1], "padding": "valid", "data_format": "channels_last",
  "dilation_rate": [1, 1], "activation": "linear", "use_bias": true, "bias_initializer": null,
  "bias_regularizer": null, "activity_regularizer": null, "bias_constraint": null,
  "depth_multiplier": 1, "depthwise_initializer": null, "depthwise_regularizer": null,
  "depthwise_constraint": null},
"BatchNormalization": {"axis": -1, "momentum": 0.99, "epsilon": 0.001, "center": true,
  "scale": true, "beta_initializer": null, "gamma_initializer": null,
  "moving_mean_initializer": null, "moving_variance_initializer": null,
  "beta_regularizer": null, "gamma_regularizer": null, "beta_constraint": null,
  "gamma_constraint": null},
"MaxPooling2D": {"pool_size": [2, 2], "padding": "valid", "strides": [2, 2],
  "data_format": "channels_last"},
"GlobalAveragePooling2D": {"data_format": "channels_last"},
"Dropout": {"rate": 0.5, "noise_shape": null, "seed": null},
"Dense": {"activation": "linear", "use_bias": true, "kernel_initializer": null,
  "bias_initializer": null, "kernel_regularizer": null, "bias_regularizer": null,
  "activity_regularizer": null, "kernel_constraint": null, "bias_constraint": null},
"GRU": {"return_sequences": false, "go_backwards": false, "stateful": false, "unroll": false,
  "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": true,
  "kernel_initializer": null, "recurrent_initializer": null, "bias_initializer": null,
  "kernel_regularizer": null, "recurrent_regularizer": null, "bias_regularizer": null,
  "activity_regularizer": null, "kernel_constraint": null, "recurrent_constraint": null,
  "bias_constraint": null, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 0}
}""")
_KERAS_2["SeparableConv2D"] = _KERAS_2["Conv2D"] | json.loads("""{
  "depth_multiplier": 1, "depthwise_initializer": null, "pointwise_initializer": null,
  "depthwise_regularizer": null, "pointwise_regularizer": null, "depthwise_constraint": null,
  "pointwise_constraint": null}""")
_KERAS_2["BatchNormalizationV1"] = _KERAS_2["BatchNormalization"]
_SINCE_TF = {"Flatten": {"data_format": "channels_last"}}
_SETTINGS = {
    "1": _KERAS_1,
    "2": _KERAS_2,
    "tf": {
        **{
            kind: {"dtype": "float32", **settings, **({"groups": 1} if "Conv2D" in kind else {})}
            for kind, settings in {**_KERAS_2, **_SINCE_TF}.items()
        },
        "InputLayer": {"dtype": "float32", "sparse": False, "ragged": False},
        "GRU": {**_KERAS_2["GRU"], "recurrent_activation": "sigmoid", "reset_after": True},
    },
    "3": {
        **_KERAS_2,
        **_SINCE_TF,
        "InputLayer": {"dtype": "float32", "sparse": False, "ragged": False},
        "Conv2D": {**_KERAS_2["Conv2D"], "groups": 1},
        "BatchNormalization": {**_KERAS_2["BatchNormalization"], "synchronized": False},
    },
}
_POLICY_3 = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}
_CNN = {  # one network, twice: the words of Keras 1, and those since Keras 2
    "1": [
        ("Convolution2D", "conv", {"nb_filter": 4, "nb_row": 3, "nb_col": 3}),
        ("BatchNormalization", "norm", {}),
        ("Activation", "relu", {"activation": "relu"}),
        ("MaxPooling2D", "pool", {}),
        ("Dropout", "drop", {"p": 0.25}),
        ("Flatten", "flat", {}),
        ("Dense", "hidden", {"output_dim": 6, "activation": "tanh", "input_dim": 48}),
        ("Dense", "scores", {"output_dim": 3, "activation": "softmax", "input_dim": 6}),
    ],
    "2": [
        ("Conv2D", "conv", {"filters": 4, "kernel_size": [3, 3]}),
        ("BatchNormalization", "norm", {}),
        ("Activation", "relu", {"activation": "relu"}),
        ("MaxPooling2D", "pool", {}),
        ("Dropout", "drop", {"rate": 0.25}),
        ("Flatten", "flat", {}),
        ("Dense", "hidden", {"units": 6, "activation": "tanh"}),
        ("Dense", "scores", {"units": 3, "activation": "softmax"}),
    ],
}
CNN_SHAPE = (10, 8, 1)
_CNN_WEIGHTS = {
    "conv": {"kernel": (3, 3, 1, 4), "bias": (4,)},
    "norm": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (4,)),
    "hidden": {"kernel": (48, 6), "bias": (6,)},
    "scores": {"kernel": (6, 3), "bias": (3,)},
}


def random_weights(shapes: dict[str, dict[str, tuple]], seed: int = 0) -> Weights:
    """Weights of {layer: {kind: shape}}, such that outputs differ from image to image."""
    rng = np.random.default_rng(seed)

    def draw(kind: str, shape: tuple) -> np.ndarray:
        if kind in ("gamma", "moving_variance"):
            return rng.uniform(0.4, 3.0, shape).astype("float32")
        inputs = np.prod(shape[:-1]) if len(shape) > 1 else 4
        return rng.normal(0, 2 / np.sqrt(inputs), shape).astype("float32")

    return {
        layer: {kind: draw(kind, shape) for kind, shape in kinds.items()}
        for layer, kinds in shapes.items()
    }


def small_cnn(vintage: Vintage, seed: int = 0) -> tuple[dict, Weights]:
    """A convolution, a normalisation, a pooling and two dense layers: (configuration, weights)."""
    kinds = {"BatchNormalization": "BatchNormalizationV1"} if vintage.version == "2.2.4-tf" else {}
    layers = [
        layer(vintage, kinds.get(kind, kind), name, **settings)
        for kind, name, settings in _CNN["1" if vintage.words == "1" else "2"]
    ]
    return sequential(vintage, CNN_SHAPE, layers), random_weights(_CNN_WEIGHTS, seed)


def layer(vintage: Vintage, kind: str, name: str, **settings) -> dict:
    """A layer's entry in a configuration: `settings` and all that the vintage writes besides."""
    config = {"name": name, "trainable": True, **_SETTINGS[vintage.words].get(kind, {})}
    for key in config:
        if key.endswith("_initializer"):
            config[key] = _initializer(vintage)
    if vintage.channels_first:
        formats = {"dim_ordering": "th", "data_format": "channels_first"}
        config |= {key: value for key, value in formats.items() if key in config}
    if kind.startswith("BatchNormalization"):
        default = 3 if vintage.words in ("1", "tf") else -1
        axis = 1 if vintage.channels_first else default
        config["axis"] = [axis] if vintage.words == "tf" else axis
    if vintage.words == "3" and kind != "InputLayer":
        config["dtype"] = _POLICY_3
    return _told(vintage, {"class_name": kind, "config": {**config, **settings}})


def _initializer(vintage: Vintage) -> dict:
    if vintage.words == "2":
        settings = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}
        return {"class_name": "VarianceScaling", "config": settings}
    initializer = {"class_name": "GlorotUniform", "config": {"seed": None}}
    if vintage.version == "2.4.0":
        return initializer
    return {"module": "keras.initializers", **initializer, "registered_name": None}


def _told(vintage: Vintage, entry: dict, module: str = "keras.layers") -> dict:
    return {"module": module, **entry, "registered_name": None} if vintage.is_new_style else entry


def _batch_shape(vintage: Vintage, shape: tuple) -> list:
    if vintage.channels_first and len(shape) == 3:
        shape = (shape[2], *shape[:2])
    return [None, *shape]


def images(vintage: Vintage, shape: tuple, name: str = "images") -> dict:
    """The entry of an InputLayer; shape is (height, width, channels) whatever the vintage's."""
    entry = layer(vintage, "InputLayer", name)
    del entry["config"]["trainable"]
    key = "batch_shape" if vintage.words == "3" else "batch_input_shape"
    entry["config"][key] = _batch_shape(vintage, shape)
    return entry


def sequential(
    vintage: Vintage, shape: tuple | None, layers: list[dict], name: str = "sequential_1"
) -> dict:
    """A Sequential model's configuration; shape None leaves its images' shape unsaid."""
    layers = [{**entry, "config": entry["config"]} for entry in layers]
    if shape is not None:
        if vintage.words != "3" and _layers(layers[0]["config"]) is None:
            told = {"batch_input_shape": _batch_shape(vintage, shape)}
            layers[0]["config"] = {**layers[0]["config"], **told}
        if vintage.words in ("tf", "3"):
            layers.insert(0, images(vintage, shape, f"{name}_input"))
    if vintage.number < (2, 2, 3):
        return {"class_name": "Sequential", "config": layers}
    entry = {"class_name": "Sequential", "config": {"name": name, "layers": layers}}
    return _told(vintage, entry, "keras")


def functional(
    vintage: Vintage, shape: tuple, layers: list[tuple], name: str = "model_1", output=None
) -> dict:
    """A functional model's configuration, of pairs: an entry, and what the layer is called on.

    That is the name of a layer, (name, node), a list of these, or a list of lists for a layer
    that is called more than once; `images` is the input. An entry that brings its `inbound_nodes`
    stands as it is. output: the name of the last layer, or (name, node).
    """
    entries = [{"name": "images", **images(vintage, shape), "inbound_nodes": []}]
    for entry, called_on in layers:
        if called_on is None:
            entries.append(entry)
            continue
        calls = called_on if isinstance(called_on, list) else [called_on]
        calls = calls if isinstance(calls[0], list) else [calls]
        nodes = [[_reference(vintage, tensor) for tensor in call] for call in calls]
        entries.append({"name": name_of(entry), **entry, "inbound_nodes": nodes})
    last = output or entries[-1]["name"]
    last = [last, 0] if isinstance(last, str) else list(last)
    kind = "Functional" if vintage.words in ("tf", "3") else "Model"
    module = "keras.src.models.functional" if vintage.major == 3 else "keras.src.engine.functional"
    config = {
        "name": name,
        "layers": entries,
        "input_layers": [["images", 0, 0]],
        "output_layers": [[*last, 0]],
    }
    return _told(vintage, {"class_name": kind, "config": config}, module)


def _reference(vintage: Vintage, tensor: str | tuple) -> list:
    name, node = (tensor, 0) if isinstance(tensor, str) else tensor
    return [name, node, 0] if vintage.words == "1" else [name, node, 0, {}]


def name_of(entry: dict) -> str:
    config = entry["config"]
    return config.get("name", "unnamed") if isinstance(config, dict) else "sequential_44"


def _layers(config: dict | list) -> list[dict] | None:
    """The entries of a model's layers, None for a layer."""
    return config if isinstance(config, list) else config.get("layers")


def write(vintage: Vintage, folder: Path, config: dict, weights: Weights, **options) -> Path:
    """Write the vintage's file, or pair of files, and return the path of the one with weights."""
    if vintage.container == "h5":
        path = folder / "model.h5"
        with h5py.File(path, "w") as file:
            file.attrs["keras_version"] = vintage.version
            if vintage.major > 1:
                file.attrs["backend"] = vintage.backend
            file.attrs["model_config"] = json.dumps(config)
            fill(file.create_group("model_weights"), vintage, config, weights, **options)
    elif vintage.container == "keras":
        path = folder / "model.keras"
        write_archive(path, config, stored_layers(vintage, config, weights), vintage.version)
    else:
        told = {"keras_version": vintage.version}
        told |= {"backend": vintage.backend} if vintage.major > 1 else {}
        (folder / "model.json").write_text(json.dumps({**config, **told}))
        path = folder / ("model.h5" if vintage.container == "pair" else "model.weights.h5")
        if vintage.container == "pair":
            with h5py.File(path, "w") as file:
                fill(file, vintage, config, weights, **options)
        else:
            path.write_bytes(stored_layers(vintage, config, weights))
    return path


def write_archive(path: Path, config: dict | str, weights: bytes, version: str = "3.5.0") -> Path:
    """A `.keras` archive."""
    with zipfile.ZipFile(path, "w") as archive:
        told = {"keras_version": version, "date_saved": "2024-01-01@00:00:00"}
        archive.writestr("metadata.json", json.dumps(told))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return path


def fill(group, vintage: Vintage, config: dict, weights: Weights, *, pieces=1, again="") -> None:
    """Weights as HDF5 had them until Keras 3: a group for every layer of the outermost model.

    pieces: into how many attributes a list of names is split, as Keras does above 64 KiB.
    again: what ends the names of variables made a second time in one session, such as `_1`.
    """
    told = vintage.version if vintage.major > 1 else None
    for key, value in (("keras_version", told), ("backend", told and vintage.backend)):
        if value:
            group.attrs[key] = value
    # The InputLayer of a Sequential model is none of its layers.
    layers = _layers(config["config"])
    if config["class_name"] == "Sequential":
        layers = [entry for entry in layers if entry["class_name"] != "InputLayer"]
    _names_into(group, "layer_names", [name_of(entry) for entry in layers], pieces)
    model = name_of(config)
    for entry in layers:
        place = group.create_group(name_of(entry))
        trained, rest = _in_order(entry, weights)
        names = []
        for owner, kind, array in trained + rest:
            names.append(_weight_name(vintage, owner, kind, model, again))
            place[names[-1]] = _laid_out(vintage, kind, array)
        _names_into(place, "weight_names", names, pieces if names else 1)
    if vintage.number >= (2, 6):
        _names_into(group.create_group("top_level_model_weights"), "weight_names", [], 1)


def _names_into(group, key: str, names: list[str], pieces: int) -> None:
    encoded = np.array([name.encode() for name in names])
    if pieces == 1:
        group.attrs[key] = encoded
        return
    for index, piece in enumerate(np.array_split(encoded, pieces)):
        group.attrs[f"{key}{index}"] = piece


def _in_order(entry: dict, weights: Weights) -> tuple[list, list]:
    """(owner, kind, array) of what is trained, and of the rest: Keras wrote the first before."""
    inner = _layers(entry["config"])
    if inner is not None:
        parts = [_in_order(part, weights) for part in inner]
        trained, rest = ([array for part in parts for array in part[at]] for at in (0, 1))
        return trained, rest
    name = name_of(entry)
    own = [(name, kind, array) for kind, array in weights.get(name, {}).items()]
    trained = [part for part in own if not part[1].startswith("moving_")]
    rest = [part for part in own if part[1].startswith("moving_")]
    return (trained, rest) if entry["config"].get("trainable", True) else ([], trained + rest)


_KINDS_1 = {
    "kernel": "W",
    "bias": "b",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}


def _weight_name(vintage: Vintage, owner: str, kind: str, model: str, again: str) -> str:
    number = "" if vintage.backend == "theano" else ":0"
    if vintage.major == 1:
        return f"{owner}_{_KINDS_1.get(kind, kind)}{again}{number}"
    return f"{model}/{owner}/{kind}" if vintage.major == 3 else f"{owner}{again}/{kind}{number}"


def _laid_out(vintage: Vintage, kind: str, array: np.ndarray) -> np.ndarray:
    """A kernel (rows, columns, in, out) as the vintage kept it."""
    if kind == "kernel" and array.ndim == 4:
        if vintage.backend == "theano":  # which convolves, where others correlate
            array = array[::-1, ::-1]
        if vintage.major == 1 and vintage.channels_first:
            array = array.transpose(3, 2, 0, 1)
    return array


def stored_layers(vintage: Vintage, config: dict, weights: Weights) -> bytes:
    """`model.weights.h5`: a group for every layer, named after its class, its arrays numbered.

    Until 2.14 the groups lay elsewhere, and a layer with weights took two of the numbers that tell
    layers of one class apart: conv2d, conv2d_2.
    """
    buffer = io.BytesIO()
    is_early = vintage.number < (2, 15)
    root = "_layer_checkpoint_dependencies" if is_early else "layers"

    def put(group, entries: list[dict]) -> None:
        taken: dict[str, int] = {}
        for entry in entries:
            if entry["class_name"] == "InputLayer" and group.name == f"/{root}":
                continue
            name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", entry["class_name"])
            name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
            number = taken.get(name, 0)
            own = weights.get(name_of(entry), {})
            inner = _layers(entry["config"])
            taken[name] = number + (2 if is_early and (own or inner) else 1)
            place = group.create_group(f"{name}_{number}" if number else name)
            place.create_group("vars")
            if inner is not None:
                put(place.create_group(root), inner)
            for index, array in enumerate(own.values()):
                place[f"vars/{index}"] = array

    with h5py.File(buffer, "w") as file:
        put(file.create_group(root), _layers(config["config"]))
        file.create_group("vars")
    return buffer.getvalue()


def write_record(path, entries):
    """Put a training record, sound or not, into a checkpoint that has none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("ferlab.json", json.dumps(entries))
    else:
        with h5py.File(path, "a") as file:
            file.attrs["ferlab"] = json.dumps(entries)
