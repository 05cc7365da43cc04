"""TensorFlow operations in models of tf.keras, as layers and operations of Keras 3.

tf.keras saved an operation such as `x / 255` or `tf.reduce_mean(x, -1)` as a layer with the name of
the function (TFOpLambda), until version 2.3 with that of the graph's operation
(TensorFlowOpLayer). Each becomes what computes the same in Keras 3 on every backend; whatever has
no equal there is refused by its name.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Arithmetic with constants, as (scale, offset).
_ARITHMETIC = {
    "math.truediv": lambda y: (1 / y, 0.0),
    "math.divide": lambda y: (1 / y, 0.0),
    "__operators__.truediv": lambda y: (1 / y, 0.0),
    "math.multiply": lambda y: (y, 0.0),
    "__operators__.mul": lambda y: (y, 0.0),
    "math.add": lambda y: (1.0, y),
    "__operators__.add": lambda y: (1.0, y),
    "math.subtract": lambda y: (1.0, -y),
    "__operators__.sub": lambda y: (1.0, -y),
}
_CONSTANT_FIRST = {  # 255 - x and the like
    "math.multiply": lambda c: (c, 0.0),
    "__operators__.mul": lambda c: (c, 0.0),
    "math.add": lambda c: (1.0, c),
    "__operators__.add": lambda c: (1.0, c),
    "math.subtract": lambda c: (-1.0, c),
    "__operators__.sub": lambda c: (-1.0, c),
}
_OF_TENSORS = {  # operations on several tensors
    "math.add": "Add",
    "math.add_n": "Add",
    "__operators__.add": "Add",
    "math.multiply": "Multiply",
    "__operators__.mul": "Multiply",
    "math.subtract": "Subtract",
    "__operators__.sub": "Subtract",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
}
_FLIPPED_AXES = {"image.flip_up_down": 1, "image.flip_left_right": 2}
_POOLS = {"nn.max_pool2d": "MaxPooling2D", "nn.avg_pool2d": "AveragePooling2D"}
_QUOTIENTS = ("math.truediv", "math.divide", "__operators__.truediv")
# The names of graph operations in tf.keras 2.0 to 2.3.
_GRAPH_OPERATIONS = {
    "RealDiv": "math.truediv",
    "Mul": "math.multiply",
    "Add": "math.add",
    "AddV2": "math.add",
    "AddN": "math.add_n",
    "Sub": "math.subtract",
    "Maximum": "math.maximum",
    "Minimum": "math.minimum",
    "Pow": "math.pow",
    "BiasAdd": "nn.bias_add",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Softmax": "nn.softmax",
    "Sigmoid": "math.sigmoid",
    "Tanh": "math.tanh",
    "Mean": "math.reduce_mean",
    "Max": "math.reduce_max",
    "Min": "math.reduce_min",
    "Sum": "math.reduce_sum",
    "Square": "math.square",
    "Sqrt": "math.sqrt",
    "Abs": "math.abs",
    "Exp": "math.exp",
    "Neg": "math.negative",
    "Cast": "cast",
    "Tile": "tile",
    "ExpandDims": "expand_dims",
    "Reshape": "reshape",
    "Transpose": "transpose",
    "ConcatV2": "concat",
    "ResizeBilinear": "image.resize",
    "ResizeNearestNeighbor": "image.resize",
}
_ACTIVATIONS = {"nn.relu": "relu", "nn.relu6": "relu6", "nn.softmax": "softmax"} | {
    f"{module}.{name}": name
    for module in ("math", "nn")
    for name in ("sigmoid", "tanh", "softplus", "swish", "silu", "elu", "gelu", "leaky_relu")
}
_REDUCTIONS = {
    "math.reduce_mean": "Mean",
    "math.reduce_max": "Max",
    "math.reduce_min": "Min",
    "math.reduce_sum": "Sum",
}
_ELEMENTWISE = {
    "math.square": "Square",
    "math.sqrt": "Sqrt",
    "math.abs": "Absolute",
    "math.exp": "Exp",
    "math.log": "Log",
    "math.negative": "Negative",
}
_BOUNDS = {"math.maximum": "Maximum", "math.minimum": "Minimum"}
_UNCHANGED = ("identity", "stop_gradient")
_TYPES = {"DT_FLOAT": "float32", "DT_HALF": "float16", "DT_UINT8": "uint8", "DT_INT32": "int32"}
_INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")
_NUMPY = "keras.src.ops.numpy"


@dataclass(frozen=True)
class Operation:
    """An operation of tf.keras.

    function: its name in later tf.keras. arguments: besides its tensors. tensors: how many it has.
    axis: converts an axis of the file to one of channels last.

    What it is translated to may have the entries "before" and "after": constants before and after
    its tensors in a call of these one by one.
    """

    function: str
    arguments: dict
    tensors: int
    axis: Callable[[int], int]

    def translated(self, name: str) -> dict | None:
        """The Keras layer or operation, called `name`, that computes the same; None if unknown."""
        key = _slices(self.settings.get("slice_spec"))
        if key and self.tensors == 1 and self.axis(-1) == -1 and not self._of_images():
            return {**_object(_NUMPY, "GetItem", {}, name), "after": [key]}
        if self.function in _QUOTIENTS and not self.settings and self.tensors == 2:
            return {**_object(_NUMPY, "TrueDivide", {}, name), "after": []}
        bound = _numbers(self.settings.get("y"))
        if self.function in _BOUNDS and self.tensors == 1 and bound is not None and not bound.ndim:
            return {**_object(_NUMPY, _BOUNDS[self.function], {}, name), "after": [float(bound)]}
        if self.tensors > 1:
            translated = self._of_tensors()
        else:
            translated = (
                self._arithmetic()
                or self._reduction()
                or self._of_images()
                or self._of_shapes()
                or self._elementwise()
            )
        return translated and _object(*translated, name)

    @property
    def settings(self) -> dict:
        """The arguments that are set; a name has no effect."""
        settings = {key: plain(value) for key, value in self.arguments.items() if key != "name"}
        return {key: value for key, value in settings.items() if value is not None}

    def _of_tensors(self) -> "Translated":
        settings = self.settings
        if self.function == "concat" and isinstance(settings.get("axis"), int):
            return "keras.layers", "Concatenate", {"axis": self.axis(settings["axis"])}
        if self.function in _OF_TENSORS and not settings:
            return "keras.layers", _OF_TENSORS[self.function], {}
        if self.function == "stack" and self.axis(-1) == -1 and set(settings) <= {"axis"}:
            return _NUMPY, "Stack", {"axis": settings.get("axis", 0)}
        return None

    def _arithmetic(self) -> "Translated":
        """With one constant: a number, or one for each channel."""
        y = _numbers(self.settings.get("y"))
        if self.function == "nn.bias_add":
            y = _numbers(self.settings.get("bias"))
            formula = _ARITHMETIC["math.add"]
        else:
            formula = _ARITHMETIC.get(self.function)
        if formula is None or y is None or (self.function in _QUOTIENTS and not y.all()):
            return None
        return self._rescaling(formula, y)

    def _rescaling(self, formula: Callable, constant: np.ndarray) -> "Translated":
        if constant.ndim and self.axis(-1) != -1:
            return None  # whose last axis were the columns of images
        scale, offset = (np.asarray(value).tolist() for value in formula(constant))
        return "keras.layers", "Rescaling", {"scale": scale, "offset": offset}

    def after_constant(self, constant: object, name: str) -> dict | None:
        """The layer for an operation whose first argument is the constant: 255 - x."""
        value, formula = _numbers(plain(constant)), _CONSTANT_FIRST.get(self.function)
        if self.function in _QUOTIENTS and value is not None and value.ndim == 0:
            return {**_object(_NUMPY, "TrueDivide", {}, name), "before": [constant]}
        translated = formula and value is not None and self._rescaling(formula, value)
        return _object(*translated, name) if translated else None

    def _reduction(self) -> "Translated":
        settings = {"keepdims": False, **self.settings}
        axes = settings.pop("axis", None)
        axes = [axes] if isinstance(axes, int) else axes
        if self.function not in _REDUCTIONS or not _are_integers(axes) or len(settings) > 1:
            return None
        axes = sorted(map(self.axis, axes))
        keepdims = bool(settings["keepdims"])
        if self.function == "math.reduce_mean" and axes == [1, 2]:
            return "keras.layers", "GlobalAveragePooling2D", {"keepdims": keepdims}
        return _NUMPY, _REDUCTIONS[self.function], {"axis": axes, "keepdims": keepdims}

    def _of_images(self) -> "Translated":
        settings = self.settings
        if self.function == "image.resize":
            size, method = settings.pop("size", None), settings.pop("method", "bilinear")
            antialias = bool(settings.pop("antialias", False))
            is_plain = not any(settings.values()) and method in _INTERPOLATIONS
            if not is_plain or not _are_integers(size) or len(size) != 2:
                return None
            settings = {"height": size[0], "width": size[1], "interpolation": method}
            return "keras.layers", "Resizing", {**settings, "antialias": antialias}
        if self.function == "image.grayscale_to_rgb":
            return _NUMPY, "Repeat", {"repeats": 3, "axis": -1}
        if self.function == "image.rgb_to_grayscale":
            return "keras.src.ops.image", "RGBToGrayscale", {"data_format": "channels_last"}
        if self.function in _FLIPPED_AXES:
            return _NUMPY, "Flip", {"axis": _FLIPPED_AXES[self.function]}
        if is_channel_reversal(settings.get("slice_spec")):
            return _NUMPY, "Flip", {"axis": -1}
        if self.function in _POOLS and self.axis(-1) == -1:
            return self._pool(_POOLS[self.function])
        return None

    def _pool(self, kind: str) -> "Translated":
        settings = self.settings
        sides, steps = (_pair(settings.get(key)) for key in ("ksize", "strides"))
        padding = str(settings.get("padding")).lower()
        if sides is None or steps is None or padding not in ("same", "valid"):
            return None
        return "keras.layers", kind, {"pool_size": sides, "strides": steps, "padding": padding}

    def _of_shapes(self) -> "Translated":
        """Operations that repeat or rearrange numbers, or change their type."""
        settings, last_is_last = self.settings, self.axis(-1) == -1
        axis = settings.get("axis")
        if self.function == "cast" and isinstance(settings.get("dtype"), str):
            return "keras.src.ops.core", "Cast", {"dtype": settings["dtype"]}
        if self.function == "repeat" and isinstance(axis, int):
            repeats = np.asarray(settings.get("repeats")).ravel().tolist()
            if len(repeats) == 1 and _are_integers(repeats):
                return _NUMPY, "Repeat", {"repeats": repeats[0], "axis": self.axis(axis)}
        if self.function == "squeeze" and last_is_last:
            axes = [axis] if isinstance(axis, int) else axis
            return (_NUMPY, "Squeeze", {"axis": axes}) if _are_integers(axes) else None
        if self.function == "expand_dims" and last_is_last and isinstance(axis, int):
            return _NUMPY, "ExpandDims", {"axis": axis}
        if not last_is_last:
            return None
        if self.function == "tile" and _are_integers(settings.get("multiples")):
            return _NUMPY, "Tile", {"repeats": settings["multiples"]}
        parts = settings.get("num_or_size_splits")
        if self.function == "split" and isinstance(parts, int):
            return _NUMPY, "Split", {"indices_or_sections": parts, "axis": settings.get("axis", 0)}
        if self.function == "pad":
            return self._padding()
        shape, order = settings.get("shape"), settings.get("perm")
        if self.function == "reshape" and _are_integers(shape) and shape[0] == -1:
            return ("keras.layers", "Reshape", {"target_shape": shape[1:]}) if shape[1:] else None
        if self.function.endswith("transpose") and _are_integers(order) and order[0] == 0:
            return "keras.layers", "Permute", {"dims": order[1:]}
        return None

    def _padding(self) -> "Translated":
        """With zeros above, below and beside images."""
        settings = self.settings
        sides, mode = settings.get("paddings"), settings.get("mode", "CONSTANT")
        is_plain = isinstance(sides, list) and len(sides) == 4 and sides[0] == sides[3] == [0, 0]
        if not is_plain or mode != "CONSTANT" or settings.get("constant_values", 0) != 0:
            return None
        return "keras.layers", "ZeroPadding2D", {"padding": sides[1:3]}

    def _elementwise(self) -> "Translated":
        settings = self.settings
        if self.function in ("math.l2_normalize", "nn.l2_normalize"):
            axis, least = settings.get("axis"), settings.get("epsilon", 1e-12)
            if isinstance(axis, int):
                bound = {"order": 2, "epsilon": math.sqrt(least)}
                return "keras.src.ops.nn", "Normalize", {"axis": self.axis(axis), **bound}
        if self.function in _ACTIVATIONS:
            is_plain = not settings or settings == {"axis": -1}
            if is_plain and (self.function != "nn.softmax" or self.axis(-1) == -1):
                return "keras.layers", "Activation", {"activation": _ACTIVATIONS[self.function]}
            return None
        if self.function in _ELEMENTWISE and not settings:
            return _NUMPY, _ELEMENTWISE[self.function], {}
        if self.function == "clip_by_value":
            bounds = [_numbers(settings.get(f"clip_value_{end}")) for end in ("min", "max")]
            if all(bound is not None and bound.ndim == 0 for bound in bounds):
                return _NUMPY, "Clip", {"x_min": float(bounds[0]), "x_max": float(bounds[1])}
        if self.function == "math.pow" and settings.get("y") == 2:
            return _NUMPY, "Square", {}
        return ("keras.layers", "Identity", {}) if self.function in _UNCHANGED else None


Translated = tuple[str, str, dict] | None  # module, class and settings


def _object(module: str, class_name: str, settings: dict, name: str) -> dict:
    config = {**settings, "name": name}
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _numbers(value: object) -> np.ndarray | None:
    """A number or a nested list of them as an array; None for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return None
    return array.astype(float) if array.dtype.kind in "iuf" else None


def _are_integers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def graph_operation(config: dict) -> tuple[str, dict]:
    """(function, arguments) by their names in later tf.keras, of a TensorFlowOpLayer.

    Its constants are listed by position.
    """
    node = config["node_def"]
    node = json.loads(node) if isinstance(node, str) else node
    function, attributes = _GRAPH_OPERATIONS.get(node["op"], node["op"]), node.get("attr") or {}
    constants = {int(place): value for place, value in (config.get("constants") or {}).items()}
    if function == "cast":
        return function, {"dtype": _TYPES.get(attributes["DstT"]["type"])}
    if not constants:
        return function, {}
    ((place, value),) = constants.items()
    if function == "concat":
        return function, {"axis": value}
    if place != 1 and not (place == 0 and function in ("math.multiply", "math.add")):
        return node["op"], {}
    if function in _REDUCTIONS:
        return function, {"axis": value, "keepdims": bool(attributes.get("keep_dims", {}).get("b"))}
    if function == "image.resize":
        if not attributes.get("half_pixel_centers", {}).get("b"):
            return node["op"], {}
        method = "bilinear" if node["op"] == "ResizeBilinear" else "nearest"
        return function, {"size": value, "method": method}
    keys = {
        "nn.bias_add": "bias",
        "tile": "multiples",
        "expand_dims": "axis",
        "reshape": "shape",
        "transpose": "perm",
    }
    return function, {keys.get(function, "y"): value}


def _pair(value: object) -> list[int] | None:
    """[rows, columns] of a size that TensorFlow writes as one, two or four numbers."""
    value = [value] * 2 if isinstance(value, int) else value
    if not _are_integers(value) or len(value) not in (2, 4):
        return None
    return value if len(value) == 2 else value[1:3]


def _slices(slices: object) -> list | None:
    """The places that tf.keras wrote for x[...], as Keras 3 writes them; None if there are none."""
    if not isinstance(slices, list):
        return None
    key: list = []
    for place in slices:
        if isinstance(place, int):
            key.append(place)
        elif not isinstance(place, dict):
            return None
        elif place.get("class_name") == "__ellipsis__":
            key.append({"class_name": "__ellipsis__", "config": {}})
        elif set(place) == {"start", "stop", "step"}:
            key.append({"class_name": "__slice__", "config": place})
        else:
            return None
    return key


def is_channel_reversal(slices: object) -> bool:
    """Whether this is x[..., ::-1], which converts RGB to BGR."""
    return (
        isinstance(slices, list)
        and len(slices) == 2
        and slices[0].get("class_name") == "__ellipsis__"
        and slices[1] == {"start": None, "stop": None, "step": -1}
    )


def plain(value: object) -> object:
    """A value without Keras's JSON wrappers of tuples, shapes, lists and arrays."""
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
        return value["items"]
    if value.get("class_name") == "ListWrapper":
        return value["config"]
    if value.get("type") == "ndarray":
        return value["value"]
    return value
