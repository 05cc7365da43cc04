"""Configurations of older Keras, translated to Keras 3, which then builds the model.

Keras 1.x, Keras 2.0 to 2.15 and tf.keras have other names for the same layers and settings.
Settings without effect on the outputs (initializers, dtypes) are dropped; unknown settings with an
effect raise an error that names them. `channels_first` becomes `channels_last`, the only layout
that every backend runs on a CPU.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field

from ferlab.backend import keras
from ferlab.checkpoints.legacy_operations import Operation, graph_operation, plain
from ferlab.checkpoints.trust import APPLICATION_LAYERS, layer_class, require_known_activation
from ferlab.errors import InputError

MODEL_CLASSES = ("Sequential", "Model", "Functional")
_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
}
_SETTINGS = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "pool_length": "pool_size",
    "stride": "strides",
    "atrous_rate": "dilation_rate",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
    "p": "rate",
    "sigma": "stddev",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_SETTINGS_OF = {  # names with another meaning in other layers
    "LeakyReLU": {"alpha": "negative_slope"},
    "UpSampling1D": {"length": "size"},
    **{kind: {"output_dim": "units"} for kind in ("Dense", "LSTM", "GRU", "SimpleRNN")},
}
# No effect on the outputs of a trained model, such as initializers and implementations.
_WITHOUT_EFFECT = {
    "activity_regularizer",
    "adjustment",
    "alpha_initializer",
    "auto_vectorize",
    "batch_input_shape",
    "batch_shape",
    "batch_size",
    "beta_init",
    "consume_less",
    "dtype",
    "experimental_autocast",
    "force_generator",
    "forget_bias_init",
    "fused",
    "gamma_init",
    "implementation",
    "init",
    "inner_init",
    "input_dim",
    "input_dtype",
    "input_length",
    "input_shape",
    "inputs_dependent",
    "key_shape",
    "lora_rank",
    "optional",
    "quantization_config",
    "query_shape",
    "ragged",
    "renorm_clipping",
    "renorm_momentum",
    "rng_type",
    "seed",
    "sparse",
    "synchronized",
    "unit_forget_bias",
    "value_shape",
    "virtual_batch_size",
    "weights",
    "zero_output_for_mask",
}
_DEFAULTS = {  # values of unknown settings that change nothing
    "groups": 1,
    "renorm": False,
    "keepdims": False,
    "mode": 0,
    "implementation": 0,
}
_OUTPUT_NO_IMAGES = ("Flatten", "Reshape", "Dense", "TimeDistributed")
_IDLE = ("RandomHeight", "RandomWidth")  # not in Keras 3; in prediction they do nothing
_MERGE_MODES = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
}


@dataclass
class Repaired:
    """A configuration translated to Keras 3.

    was_channels_first: its images were (channels, height, width) and now have channels last.
    original_names: a layer's name in the file, by its new name if Keras 3 does not allow the old.
    """

    config: dict
    was_channels_first: bool = False
    original_names: dict[str, str] = field(default_factory=dict)


def repair(
    config: dict,
    where: str,
    *,
    image_shape: tuple[int, int, int] | None = None,
    is_theano: bool = False,
) -> Repaired:
    """Translate a model's configuration to Keras 3. Messages begin with `where`.

    image_shape: for a Sequential model without it, as Keras 2.2 wrote those that begin with an
        InputLayer. is_theano: whether the model was trained on the Theano backend.

    Raises InputError for a layer or setting that Keras 3 does not have, and NoShape.
    """
    repairer = _Repairer(where, _is_channels_first(config), image_shape, is_theano)
    try:
        modern = repairer.model(config)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(f"{where}: its configuration is damaged: {error!r}"[:400]) from error
    return Repaired(modern, repairer.channels_first, repairer.original_names)


class NoShape(InputError):
    """The configuration has no image shape."""


def without_training(config: object) -> object:
    """A Keras 3 configuration without losses, optimizers and their code.

    Settings of random layers, which are inactive in prediction, are dropped if unknown to Keras.
    """
    if isinstance(config, list):
        return [without_training(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {
        key: without_training(value) for key, value in config.items() if key != "compile_config"
    }
    kind = config.get("class_name")
    # Initializers have such names too.
    cls = getattr(keras.layers, str(kind), None) if str(kind).startswith("Random") else None
    if cls is not None and isinstance(config.get("config"), dict):
        known = inspect.signature(cls).parameters
        settings = {key: value for key, value in config["config"].items() if key in known}
        config["config"] = settings | {"name": config["config"].get("name", kind.lower())}
    return config


def _is_channels_first(config: object) -> bool:
    """Whether the first convolution, else the first layer with a data format, is channels_first."""
    by_layer = [*_layouts(config)]
    convolutions = [layout for kind, layout in by_layer if "Conv" in kind]
    layouts = convolutions or [layout for _, layout in by_layer]
    return bool(layouts) and layouts[0] in ("th", "channels_first")


def _layouts(config: object) -> Iterable[tuple[str, str]]:
    """(class name, data format) of every layer that has one, in order."""
    if isinstance(config, list):
        for value in config:
            yield from _layouts(value)
    elif isinstance(config, dict):
        settings = config.get("config")
        if isinstance(settings, dict):
            layout = settings.get("data_format") or settings.get("dim_ordering")
            if layout and config.get("class_name") != "Flatten":
                yield str(config.get("class_name")), layout
        for value in config.values():
            yield from _layouts(value)


def _object(module: str, class_name: str, config: dict) -> dict:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _layer(class_name: str, config: dict) -> dict:
    return _object("keras.layers", class_name, config)


class _Repairer:
    """Translates one model; its methods are named after the part that they translate."""

    def __init__(
        self,
        where: str,
        channels_first: bool,
        image_shape: tuple[int, int, int] | None,
        is_theano: bool,
    ) -> None:
        self.where, self.channels_first, self.image_shape = where, channels_first, image_shape
        self.is_theano = is_theano
        self.original_names: dict[str, str] = {}
        self.shifts: dict[str, int] = {}
        self.in_images = True  # whether the next layer's input is images

    def error(self, message: str) -> InputError:
        return InputError(f"{self.where}: {message}")

    def name(self, name: str) -> str:
        """A name without `/`, which Keras 3 reserves for the paths of variables."""
        if "/" not in name:
            return name
        valid = name.replace("/", "_")
        self.original_names[valid] = name
        return valid

    def model(self, entry: dict) -> dict:
        kind, config = entry["class_name"], entry["config"]
        if kind == "Sequential":
            return self.sequential(config)
        if kind in ("Model", "Functional") and "layers" in config and "input_layers" in config:
            return self.functional(config)
        raise self.error(
            f"its model class {kind!r} is custom code, which a checkpoint does not contain; "
            "only Sequential and functional models can be loaded"
        )

    def sequential(self, config: dict | list) -> dict:
        if isinstance(config, list):  # before Keras 2.2.3
            config = {"layers": config}
        entries = config["layers"]
        name = self.name(config.get("name") or "sequential")
        shape = self.shape(config.get("build_input_shape") or _input_shape(entries))
        if shape is None:
            if self.image_shape is None:
                raise NoShape(f"{self.where}: has no image shape")
            shape = [None, *self.image_shape]
        layers = [
            repaired
            for entry in entries
            if entry["class_name"] != "InputLayer"
            for repaired in (*self.before(entry), self.layer(entry), *self.after(entry))
        ]
        # The name is not used later, but must differ from those of the layers.
        first = _layer("InputLayer", {"batch_shape": shape, "name": f"{name}_images"})
        return _object("keras", "Sequential", {"name": name, "layers": [first, *layers]})

    def shape(self, shape: list | dict | None) -> list | None:
        """A batch shape of the file as (None, height, width, channels)."""
        shape = plain(shape)
        if shape is None:
            return None
        if self.channels_first and len(shape) == 4:
            batch, channels, height, width = shape
            shape = [batch, height, width, channels]
        return [None, *shape[1:]]

    def has_other_layout(self, entry: dict) -> bool:
        """Whether a pooling layer's data format differs from the network's."""
        settings = _settings(entry)
        layout = settings.get("data_format") or settings.get("dim_ordering")
        is_first = layout in ("th", "channels_first")
        return "Pooling" in entry["class_name"] and bool(layout) and is_first != self.channels_first

    def permutation(self, entry: dict, suffix: str, dims: list[int]) -> dict:
        return _layer("Permute", {"dims": dims, "name": f"{self.name_of(entry)}_{suffix}"})

    def after(self, entry: dict) -> Iterable[dict]:
        """The layers to insert after a layer with another data format."""
        if not self.has_other_layout(entry):
            return ()
        return (self.permutation(entry, "back", [3, 1, 2]),)

    def before(self, entry: dict) -> Iterable[dict]:
        """The layers to insert before a layer that depends on the data format."""
        if self.has_other_layout(entry):
            if self.channels_first or entry["class_name"].startswith("Global"):
                raise self.error(f"{_title(entry)} has its channels last, unlike its network")
            return (self.permutation(entry, "permute", [2, 3, 1]),)
        if margins := self.theano_margins(entry):
            name = f"{self.name_of(entry)}_padding"
            return (_layer("ZeroPadding2D", {"padding": margins, "name": name}),)
        if not self.channels_first or entry["class_name"] not in ("Flatten", "Reshape"):
            return ()
        if _settings(entry).get("data_format") == "channels_first":
            return ()  # a Flatten with this setting moves the channels last itself
        if entry["class_name"] == "Reshape":
            raise self.error(f"{_title(entry)} reshapes images of channels_first")
        return (self.permutation(entry, "permute", [3, 1, 2]),)

    def name_of(self, entry: dict) -> str:
        name = entry.get("name") or _settings(entry).get("name")
        return self.name(name) if name else entry["class_name"].lower()

    def functional(self, config: dict) -> dict:
        layers = []
        outputs_images: dict[str, bool] = {}
        self.shifts = {**self.shifts, **_node_shifts(config)}
        for entry in config["layers"]:
            sources = _sources(entry)
            self.in_images = all(outputs_images.get(source, True) for source in sources)
            if entry["class_name"] in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
                layers.append(self.operation(entry))
                outputs_images[entry["name"]] = self.in_images
                continue
            nodes = [self.node(node) for node in entry.get("inbound_nodes") or []]
            if self.has_other_layout(entry):
                raise self.error(f"{_title(entry)} has another data_format than its network")
            for extra in self.before(entry):
                name = extra["config"]["name"]
                layers.append({**extra, "name": name, "inbound_nodes": nodes})
                nodes = [[[name, index, 0, {}]] for index in range(len(nodes))]
            name = self.name_of(entry)
            layers.append({**self.layer(entry), "name": name, "inbound_nodes": nodes})
            outputs_images[entry["name"]] = self.in_images
        settings = {
            "name": self.name(config.get("name") or "model"),
            "trainable": config.get("trainable", True),
            "layers": layers,
        }
        for key in ("input_layers", "output_layers"):
            tensors = [self.tensor(reference) for reference in _as_list_of_lists(config[key])]
            # With a list of one tensor, the model would return a list.
            settings[key] = tensors[0] if len(tensors) == 1 else tensors
        return _object("keras", "Model", settings)

    def node(self, node: list) -> list | dict:
        """A call of a layer: its input tensors, [layer, node, tensor, arguments] each.

        Tensors among the arguments need Keras 3's own form of a call.
        """
        calls = [
            [*self.tensor(call), call[3] if len(call) > 3 else {}]
            for call in _as_list_of_lists(node)
        ]
        arguments = calls[0][3]
        if len(calls) > 1 or not any(map(_is_tensor, arguments.values())):
            return calls
        return {
            "args": [_keras_tensor(calls[0])],
            "kwargs": {
                key: _keras_tensor(self.tensor(value)) if _is_tensor(value) else value
                for key, value in arguments.items()
            },
        }

    def tensor(self, reference: list) -> list:
        """[layer, node, tensor]. In older Keras a model's creation counts as its first node."""
        name, node, tensor = reference[:3]
        return [self.name(name), node - self.shifts.get(name, 0), tensor]

    def operation(self, entry: dict) -> dict:
        """The Keras layer equivalent to a TensorFlow operation that tf.keras saved as a layer."""
        config, name = entry["config"], self.name_of(entry)
        (calls,) = map(_as_list_of_lists, entry["inbound_nodes"])
        if entry["class_name"] == "TensorFlowOpLayer":
            function, arguments = graph_operation(config)
        else:
            function = config.get("function", "").removeprefix("compat.v1.")
            arguments = calls[0][3] if len(calls[0]) > 3 else {}
        second = arguments.get("y")
        tensors = [self.tensor(call) for call in calls if call[0] != "_CONSTANT_VALUE"]
        if _is_tensor(second):
            tensors.append(self.tensor(second))
            arguments = {key: value for key, value in arguments.items() if key != "y"}
        operation = Operation(function, arguments, len(tensors), self.channel_axis)
        if calls[0][0] == "_CONSTANT_VALUE":
            translated = operation.after_constant(calls[0][2], name)
        else:
            translated = operation.translated(name)
        if translated is None or any(call[0] == "_CONSTANT_VALUE" for call in calls[1:]):
            described = function or str(config.get("node_def") or "unknown")[:60]
            raise self.error(f"the layer {name!r} is a TensorFlow operation ({described})")
        keeps_images = translated["config"].get("keepdims", True)
        self.in_images &= keeps_images and translated["class_name"] != "Reshape"
        node: list | dict = [[*tensor, {}] for tensor in tensors]
        if "before" in translated or "after" in translated:
            before, after = translated.pop("before", []), translated.pop("after", [])
            node = {"args": [*before, *map(_keras_tensor, tensors), *after], "kwargs": {}}
        return {**translated, "name": name, "inbound_nodes": [node]}

    def layer(self, entry: dict) -> dict:
        kind = entry["class_name"]
        if kind in MODEL_CLASSES:
            return self.model(entry)
        if kind == "Merge":
            return self.merge(entry)
        if kind == "InputLayer":
            config = entry["config"]
            shape = self.shape(config.get("batch_input_shape") or config.get("batch_shape"))
            return _layer(kind, {"batch_shape": shape, "name": self.name_of(entry)})
        if kind == "ThresholdedReLU":
            settings = {"threshold": entry["config"]["theta"], "name": self.name_of(entry)}
            return _layer("ReLU", settings)
        if kind == "RandomCrop":  # in prediction the middle of the image, resized
            sides = {key: entry["config"][key] for key in ("height", "width")}
            settings = {"crop_to_aspect_ratio": True, "name": self.name_of(entry)}
            return _layer("Resizing", sides | settings)
        if kind in _IDLE:
            return _layer("Identity", {"name": self.name_of(entry)})
        # A custom class may have the name of a Keras layer.
        if ">" in str(entry.get("registered_name")):
            kind = entry["registered_name"]
        kind = _CLASSES.get(kind, kind)
        if kind in _OUTPUT_NO_IMAGES or kind.startswith("Global"):
            self.in_images = False
        home = APPLICATION_LAYERS.get(kind, "").rpartition(".")[2]
        if home and not str(entry.get("module") or home).endswith(home):
            kind = f"{entry['module']}.{kind}"  # a class of the same name
        cls = layer_class(self.where, kind, self.name_of(entry))
        settings = self.settings(kind, entry)
        if self.theano_margins(entry):
            settings["padding"] = "valid"
        settings = {
            key: self.value(key, value, entry)
            for key, value in settings.items()
            if self.is_known(cls, key, value, entry)
        }
        module = APPLICATION_LAYERS.get(kind, "keras.layers")
        return _object(module, kind, {**settings, "name": self.name_of(entry)})

    def theano_margins(self, entry: dict) -> list[int] | None:
        """[rows, columns] of zero padding that reproduces Theano's `same`; None if not needed.

        Theano pads half a window on either side, which differs from Keras 3 if the strides exceed
        1. Raises InputError where zero padding cannot reproduce it.
        """
        config = _settings(entry)
        if not self.is_theano or "same" not in (config.get("padding"), config.get("border_mode")):
            return None
        sides = _as_list(config.get("kernel_size") or [config.get("nb_row"), config.get("nb_col")])
        steps = _as_list(config.get("strides") or config.get("subsample") or 1)
        is_plain = "Pooling" not in entry["class_name"] and "Transpose" not in entry["class_name"]
        if not is_plain or "Deconv" in entry["class_name"] or not all(s and s % 2 for s in sides):
            raise self.error(
                f"{_title(entry)} has Theano's `same` padding, which Keras 3 cannot reproduce here"
            )
        if max(steps) == 1:
            return None
        return [side // 2 for side in (sides * 2)[:2]]

    def settings(self, kind: str, entry: dict) -> dict:
        """A layer's settings by their names in Keras 3."""
        new_names = {**_SETTINGS, **_SETTINGS_OF.get(kind, {})}
        settings = {
            new_names.get(key, key): plain(value)
            for key, value in entry["config"].items()
            if key not in _WITHOUT_EFFECT and not key.endswith("_initializer")
        }
        if "nb_row" in settings:
            settings["kernel_size"] = [settings.pop("nb_row"), settings.pop("nb_col")]
        if "data_format" in settings:
            # Also for `default` and None.
            settings["data_format"] = "channels_last"
            if kind == "Flatten":
                del settings["data_format"]
        if kind == "BatchNormalization":
            settings["axis"] = self.channel_axis(settings.get("axis", -1))
        if kind == "Concatenate":
            settings["axis"] = self.channel_axis(settings.get("axis", -1))
        if kind == "GRU":
            settings.setdefault("reset_after", False)  # the only behaviour before Keras 2.1.4
        if kind == "PReLU" and self.channels_first and settings.get("shared_axes"):
            settings["shared_axes"] = [{1: 3, 2: 1, 3: 2}[axis] for axis in settings["shared_axes"]]
        if kind == "ZeroPadding2D" and isinstance(settings.get("padding"), dict):
            sides = settings["padding"]  # Keras 1: top_pad, bottom_pad, left_pad, right_pad
            settings["padding"] = [
                [sides.get("top_pad", 0), sides.get("bottom_pad", 0)],
                [sides.get("left_pad", 0), sides.get("right_pad", 0)],
            ]
        return settings

    def channel_axis(self, axis: int | list) -> int:
        """The axis with channels last. With channels_first, the last axis is the width."""
        (axis,) = axis if isinstance(axis, list) else [axis]
        if self.channels_first and self.in_images:
            return {1: 3, 2: 1, 3: 2, -3: 3, -2: 1, -1: 2}[axis]
        return axis

    def is_known(self, cls: type, key: str, value: object, entry: dict) -> bool:
        """Whether Keras 3 has this setting; False for one without effect.

        Raises InputError for an unknown setting that may change the outputs.
        """
        known = inspect.signature(cls.__init__).parameters
        if key in known or (key in ("name", "trainable") and "kwargs" in known):
            return True
        if key == "trainable":
            return False
        if value is None or value is False or value == [] or _DEFAULTS.get(key) == value:
            return False
        if key.endswith(("_regularizer", "_constraint")):
            return False
        raise self.error(
            f"{_title(entry)} has the setting {key}={value!r}, which Keras 3 does not know"
        )

    def value(self, key: str, value: object, entry: dict) -> object:
        if key.endswith("_regularizer"):
            return _regularizer(value)
        if key.endswith("_constraint"):
            return _constraint(value)
        if key in ("layer", "backward_layer") and isinstance(value, dict):
            return self.layer(value)
        if "activation" in key and value is not None:
            return self.activation(value, entry)
        return value

    def activation(self, value: str | dict, entry: dict) -> str | dict:
        if isinstance(value, dict):
            if value["class_name"] == "function":
                value = value["config"]
            else:
                return self.layer({"name": f"{self.name_of(entry)}_activation", **value})
        value = {"softmax_v2": "softmax"}.get(value, value)
        if value == "hard_sigmoid":
            return keras.saving.serialize_keras_object(hard_sigmoid)
        require_known_activation(self.where, value, self.name_of(entry))
        return value

    def merge(self, entry: dict) -> dict:
        config = entry["config"]
        mode = config.get("mode")
        if mode not in _MERGE_MODES:
            raise self.error(f"{_title(entry)} merges by {mode!r}, which Keras 3 does not know")
        settings: dict = {"name": self.name_of(entry)}
        if mode == "concat":
            settings["axis"] = self.channel_axis(config.get("concat_axis", -1))
        return _layer(_MERGE_MODES[mode], settings)


def _sources(entry: dict) -> list[str]:
    """The names of a layer's input layers."""
    nodes = entry.get("inbound_nodes") or []
    return [str(call[0]) for node in nodes for call in _as_list_of_lists(node)]


def _is_tensor(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str)


def _keras_tensor(reference: list) -> dict:
    """A reference to a layer's output. Keras ignores its shape."""
    history = {"shape": [None], "dtype": "float32", "keras_history": reference[:3]}
    return {"class_name": "__keras_tensor__", "config": history}


def _settings(entry: dict) -> dict:
    """A layer's settings; none for a nested model, whose configuration may be a list."""
    return entry["config"] if isinstance(entry["config"], dict) else {}


def _title(entry: dict) -> str:
    name = entry.get("name") or _settings(entry).get("name") or ""
    return f"the layer {name!r} ({entry['class_name']})"


def _input_shape(entries: list) -> list | None:
    """The batch shape in the configuration of the first layer, or of the first nested in it."""
    first = entries[0]
    config = first["config"]
    if first["class_name"] in MODEL_CLASSES:
        if first["class_name"] == "Sequential":
            inner = config if isinstance(config, list) else config["layers"]
            return _input_shape(inner)
        ((name, *_),) = _as_list_of_lists(config["input_layers"])
        (inner,) = [entry for entry in config["layers"] if entry.get("name") == name]
        return _input_shape([inner])
    for key in ("batch_input_shape", "batch_shape"):
        if config.get(key) is not None:
            return config[key]
    if isinstance(config.get("layer"), dict):
        return _input_shape([config["layer"]])
    return [None, config["input_dim"]] if config.get("input_dim") else None


def _node_shifts(config: dict) -> dict[str, int]:
    """The offset of the node indices that refer to each layer: largest index + 1 - its nodes."""
    counts = {entry["name"]: len(entry.get("inbound_nodes") or [0]) for entry in config["layers"]}
    largest: dict[str, int] = {}
    nodes = [node for entry in config["layers"] for node in entry.get("inbound_nodes") or []]
    for node in [*nodes, config["output_layers"]]:
        for name, index, *_ in _as_list_of_lists(node):
            largest[name] = max(index, largest.get(name, 0))
    return {name: max(0, index + 1 - counts.get(name, 1)) for name, index in largest.items()}


def _as_list_of_lists(value: list) -> list:
    """[[name, 0, 0]] for both [name, 0, 0] and [[name, 0, 0]]."""
    return [value] if value and isinstance(value[0], str) else value


def _as_list(value: object) -> list:
    return [*value] if isinstance(value, list | tuple) else [value]


def _regularizer(value: object) -> dict | None:
    """L1 and L2 (Keras 1 wrote no `class_name`); None for others, which affect training only."""
    if not isinstance(value, dict):
        return None
    inner = value.get("config", value)
    if not isinstance(inner, dict):
        return None
    rates = {key: float(plain(inner[key])) for key in ("l1", "l2") if inner.get(key)}
    return _object("keras.regularizers", "L1L2", rates) if rates else None


def _constraint(value: object) -> dict | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("config", value)
    largest = inner.get("max_value", inner.get("m")) if isinstance(inner, dict) else None
    if largest is None:
        return None
    settings = {"max_value": largest, "axis": inner.get("axis", 0)}
    return _object("keras.constraints", "MaxNorm", settings)


@keras.saving.register_keras_serializable(package="ferlab")
def hard_sigmoid(x):
    """The hard sigmoid of Keras 1 and 2: 0.2 x + 0.5, clipped to [0, 1]; Keras 3: x / 6 + 0.5."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
