"""The limits within which a checkpoint of unknown origin is read, built and asked.

Reading: the HDF5 library works through the file in another process first, which is ended when it
loops or crashes. Building: the layers that a configuration implies are counted before Keras sees
it, and Keras then builds them without allocating a variable, until it is known that the file holds
values for all of them. Asking: memory and multiply-adds for one image are bounded by the shapes of
all outputs. Whatever the libraries raise meanwhile becomes one line that names the file.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from ferlab.errors import InputError

if TYPE_CHECKING:
    import keras

UNPACKED_LIMIT = 4 * 2**30  # bytes of weights; a face classifier has fewer
_UNPACKED_FLOOR, _UNPACKED_RATIO = 64 * 2**20, 20  # bytes; weights compress by a tenth
JSON_LIMIT = 16 * 2**20  # bytes; of 1,000 layers Keras writes about 2 MB
JSON_VALUES = 1_000_000
MOST_OBJECTS = 50_000  # groups, arrays and attributes; a network of 1,000 layers has about 12,000
READING_SECONDS = 5  # plus the time to read the file from a slow disk
_SLOW_DISK = 5 * 2**20  # bytes a second
MOST_CALLS = 20_000  # of layers; NASNetLarge has about 1,000
_CALLS_FLOOR, _CALL_BYTES = 1_000, 8_192  # a call for this many bytes beyond the first ones
_BUILDING_SECONDS = 8  # of processor time, plus the time by size below
_BUILDING_SPEED = 100 * 2**10  # bytes a second
_UNSAVED_ELEMENTS = 2**20  # of variables that Keras does not save, such as states of seeds
LARGEST_OUTPUT = 2**26  # elements of a layer's output for one image: 1024 x 1024 pixels x 64
_OUTPUT_SUM = 2**32  # elements of all outputs for one image
_MULTIPLY_ADDS = 2**40  # for one image; EfficientNetB7 on 600 x 600 pixels takes 2**35
_BATCH_ELEMENTS = 2**28  # elements of the largest output for one batch
# The product of all integers in a layer's settings: with 2**26 inputs it then stays below 2**63
# numbers, at which TensorFlow ends the process. An embedding of 2**20 words in 2**10 has 2**30.
_LARGEST_PRODUCT = 2**36
_LONGEST_SIZE = 8  # integers in a list; longer ones are data, such as the means of channels
DEFAULT_SIDE = 48  # pixels; the image size for a model that takes any
# What precedes the message of a layer in those of Keras, from the outside inwards.
_INTRODUCTIONS = ("Exception encountered:", "Error encountered:")
_NOT_LOADED = re.compile(r"for object <(\w+) name=([^,>]*), built=\w+>:\s+(.*)")


Shape = tuple[int | None, ...]  # of a batch, as Keras has it
Call = tuple["keras.Operation", list[Shape], list[Shape]]


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def reason(error: BaseException) -> str:
    """What Keras complains of, and the layer in which it does, in one line.

    Keras wraps the message of a layer in general advice, once for each model around it.
    """
    text = str(error).strip()
    for introduction in _INTRODUCTIONS:
        text = text.rpartition(introduction)[2].strip() or text
    if not_loaded := _NOT_LOADED.search(text):
        kind, name, problem = not_loaded.groups()
        return f"the layer {name!r} ({kind}): {problem[:300]}"
    lines = text.splitlines() or [type(error).__name__]
    layer = _failed_layer(error)
    return f"the layer {layer}: {lines[0][:300]}" if layer else lines[0][:300]


@contextlib.contextmanager
def full_tracebacks() -> Iterator[None]:
    """Let Keras keep the frames of its layers in tracebacks, from which `reason` takes a name."""
    from ferlab.backend import keras

    if not keras.config.is_traceback_filtering_enabled():
        yield
        return
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        keras.config.enable_traceback_filtering()


def _failed_layer(error: BaseException) -> str:
    """The name and class of the innermost layer that was at work, '' if none was."""
    from ferlab.backend import keras

    label = ""
    while error.__context__ is not None:  # Keras wraps the error of a layer
        error = error.__context__
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = frame.f_locals
        layer, config = values.get("self"), values.get("config")
        if isinstance(layer, keras.Operation) and not isinstance(layer, keras.Model):
            name = vars(layer).get("name") or vars(layer).get("_name")
            label = f"{name!r} ({type(layer).__name__})" if name else label
        elif frame.f_code.co_name == "from_config" and isinstance(config, dict):
            kind, name = getattr(values.get("cls"), "__name__", ""), config.get("name")
            label = f"{name!r} ({kind})" if name and "layers" not in config else label
    return label


# Reading.


@dataclass(frozen=True)
class Survey:
    """What an HDF5 file holds: elements and bytes of all arrays.

    names: the entries of its root group, the first 1,000.
    """

    elements: int
    bytes: int
    names: tuple[str, ...]


def byte_limit(path: Path) -> int:
    """How many bytes of arrays a file may unpack to."""
    unpacked = _UNPACKED_FLOOR + _UNPACKED_RATIO * path.stat().st_size
    return min(UNPACKED_LIMIT, unpacked)


def surveyed(path: Path, member: str = "") -> Survey:
    """Read an HDF5 file, or the one in a zip archive, in another process.

    Raises InputError for a file that is damaged, links to others, unpacks to far more than it
    holds, or keeps the HDF5 library busy for too long.
    """
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _surveyed(str(path.resolve()), str(path), member, byte_limit(path), state)


@functools.lru_cache(maxsize=64)
def _surveyed(path: str, where: str, member: str, limit: int, state: tuple[int, ...]) -> Survey:
    """state: changes when the file does."""
    size = state[2]
    request = {"path": path, "member": member, "byte_limit": limit, "object_limit": MOST_OBJECTS}
    answer = _reader_of(os.getpid()).ask(where, request, READING_SECONDS + size / _SLOW_DISK)
    if "refused" in answer:
        raise InputError(f"{where}: {answer['refused']}")
    if "failed" in answer:
        raise Unreadable(answer["failed"])
    return Survey(**{**answer, "names": tuple(answer["names"])})


class Unreadable(Exception):
    """What the HDF5 or zip library says of a damaged file."""


class _Reader:
    """A process that surveys HDF5 files, started when it is needed and again after it is ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()

    def ask(self, where: str, request: dict, seconds: float) -> dict:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.stop()
                self.start(where)
            process = self.process
            with _ended_after(process, seconds) as ended:
                line = _exchange(process, json.dumps(request))
            if line:
                return json.loads(line)
            self.stop()
        raise InputError(
            f"{where}: reading it takes more than {seconds:.0f} s; it is damaged or hostile"
            if ended.is_set()
            else f"{where}: the HDF5 library cannot read it and crashes; it is damaged or hostile"
        )

    def start(self, where: str) -> None:
        # Not `-I`: h5py may be where only this process's path leads. One thread: it computes
        # nothing, and the memory of others would count towards its limit.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("hdf5_survey.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        with _ended_after(process, 60):
            if not _exchange(process):
                _close(process)
                raise InputError(f"{where}: Python cannot be started to read it")
        self.process = process

    def stop(self) -> None:
        if self.process is not None:
            _close(self.process)
            self.process = None


@functools.cache
def _reader_of(process_id: int) -> _Reader:
    """The reader of this process; a forked process must not share its parent's."""
    reader = _Reader()
    atexit.register(reader.stop)
    return reader


@contextlib.contextmanager
def _ended_after(process: "subprocess.Popen[str]", seconds: float) -> Iterator[threading.Event]:
    """Kill the process if the block takes longer; the event tells whether it did."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()


def _exchange(process: "subprocess.Popen[str]", line: str | None = None) -> str:
    """Write a line if there is one, and read one; '' if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if line is not None:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        return process.stdout.readline()
    except OSError:  # a broken pipe
        return ""


def _close(process: "subprocess.Popen[str]") -> None:
    process.kill()
    with contextlib.suppress(OSError):  # what is left in the buffer of a broken pipe
        process.communicate()


def parsed(text: str | bytes, what: str) -> object:
    """The JSON value of a text. Raises InputError for one that would fill the memory.

    what: begins the message, such as `model.keras: its configuration`.
    """
    if len(text) > JSON_LIMIT:
        raise InputError(f"{what} is too large, more than {JSON_LIMIT // 2**20} MiB")
    marks = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(text.count(mark) for mark in marks) > JSON_VALUES:  # type: ignore[arg-type]
        raise InputError(f"{what} has more than {JSON_VALUES:,} values")
    return json.loads(text)


# Building.


def require_buildable(where: str, config: object, size: int) -> None:
    """Raise InputError for a configuration of impossible sizes or too many calls of layers.

    A nested model is run through again by every call of it, so a short text can imply billions of
    calls. size: bytes of the file; those of a large network hold its weights.
    """
    _require_possible_sizes(where, config)
    calls, most = _calls(config), _most_calls(size)
    if calls > most:
        raise InputError(
            f"{where}: calls its layers {calls:,} times, expected at most {most:,} for a file of "
            "this size"
        )


def _require_possible_sizes(where: str, config: object) -> None:
    """Raise InputError for a layer whose integers multiply to more than any real layer's do."""
    if isinstance(config, list):
        for value in config:
            _require_possible_sizes(where, value)
    elif isinstance(config, dict):
        settings = config.get("config")
        if _is_layer(config) and isinstance(settings, dict):
            sizes = [*_integers(settings)]
            # A list of two or three numbers is a window or an image, an array of them at the least.
            areas = [math.prod(_integers(value)) for value in settings.values() if _is_area(value)]
            largest = max([*sizes, *areas, 0])
            if largest > LARGEST_OUTPUT or math.prod(sizes) > _LARGEST_PRODUCT:
                raise InputError(
                    f"{where}: the layer {settings.get('name')!r} ({config['class_name']}) has "
                    f"impossible sizes. Received: {str(sizes)[:100]}"
                )
        for value in config.values():
            _require_possible_sizes(where, value)


def _is_area(value: object) -> bool:
    return isinstance(value, list) and len(value) in (2, 3) and all(type(v) is int for v in value)


def _integers(value: object, key: str = "") -> Iterator[int]:
    """The integers above 1 in a layer's settings, other than seeds; not those of inner layers."""
    if isinstance(value, dict):
        if not _is_layer(value):
            for inner_key, inner in value.items():
                yield from _integers(inner, inner_key)
    elif isinstance(value, list):
        if len(value) <= _LONGEST_SIZE:
            for inner in value:
                yield from _integers(inner, key)
    elif type(value) is int and value > 1 and key not in ("seed", "shared_object_id", "layers"):
        yield value


def _most_calls(size: int) -> int:
    return min(MOST_CALLS, _CALLS_FLOOR + size // _CALL_BYTES)


def _calls(config: object) -> int:
    """How often layers are called when a model is asked."""
    if isinstance(config, list):
        return sum(map(_calls, config))
    if not isinstance(config, dict):
        return 0
    inner = sum(map(_calls, config.values()))
    if not _is_layer(config):
        return inner
    nodes = config.get("inbound_nodes")
    calls = len(nodes) if isinstance(nodes, list) and nodes else 1
    return calls * max(1, inner)


def _is_layer(config: dict) -> bool:
    from ferlab.backend import keras

    kind = config.get("class_name")
    if not isinstance(kind, str):
        return False
    if kind in ("Sequential", "Functional", "Model"):
        return True
    if "keras.src.ops" in str(config.get("module")):
        return True
    return isinstance(getattr(keras.layers, kind, None), type)


def built(where: str, config: dict, *, survey: Survey, size: int) -> "keras.Model":
    """The model of a Keras 3 configuration, with initial weights.

    survey: of the file that holds the weights; size: its bytes. Raises InputError before anything
    is allocated that the file has no values for, and before building takes too long.
    """
    from ferlab.backend import keras

    require_buildable(where, config, size)
    with _limited_time(where, _BUILDING_SECONDS + size / _BUILDING_SPEED):
        with _without_variables():
            with _limited_outputs():
                model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            if not isinstance(model, keras.Model):
                raise InputError(f"{where}: its configuration is not that of a model")
            _require_held(where, model, survey.elements)
            require_askable(where, model, size)
        # TensorFlow never computes gradients of variables that are created as frozen ones.
        frozen = [each for each in model.variables if not each.trainable and "float" in each.dtype]
        for variable in frozen:
            variable.trainable = True
        with keras.StatelessScope():
            pass  # on leaving it, Keras creates the variables
        for variable in frozen:
            variable.trainable = False
    return model


@contextlib.contextmanager
def _without_variables() -> Iterator[None]:
    """Keras's layers have shapes here, but no variables yet; if this fails, they never get any."""
    from keras.src.backend.common import global_state

    from ferlab.backend import keras

    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    except BaseException:
        # Else the next StatelessScope of anybody would create them. Keras has no public function.
        global_state.set_global_attribute("uninitialized_variables", [])
        raise


class _TooLarge(ValueError):
    """The output of a layer, which the traceback names."""


@contextlib.contextmanager
def _limited_outputs() -> Iterator[None]:
    """Raise in the layer that would compute too much, before the next one is built.

    Keras has no hook between layers, but each of their outputs is a KerasTensor.
    """
    from ferlab.backend import keras

    create = keras.KerasTensor.__init__

    def checked(tensor: "keras.KerasTensor", shape: Shape, *args: object, **kwargs: object) -> None:
        create(tensor, shape, *args, **kwargs)
        if (size := _elements(tuple(tensor.shape))) > LARGEST_OUTPUT:
            raise _TooLarge(
                f"computes {size:,} numbers for one image, expected at most {LARGEST_OUTPUT:,}"
            )

    with mock.patch.object(keras.KerasTensor, "__init__", checked):
        yield


def _require_held(where: str, model: "keras.Model", elements: int) -> None:
    """Raise InputError if the model has more weights than its file."""
    needed = 0
    largest = ("", 0)
    for variable in model.variables:
        size = math.prod(variable.shape)
        needed += size
        largest = max(largest, (variable.path, size), key=lambda pair: pair[1])
    if needed > elements + _UNSAVED_ELEMENTS:
        raise InputError(
            f"{where}: its layers have {needed:,} weights, {largest[0]} alone {largest[1]:,}, "
            f"but the file has only {elements:,}"
        )


class _TooLong(InputError):
    """Raised in the thread that builds, by the one that watches it."""


@contextlib.contextmanager
def _limited_time(where: str, seconds: float) -> Iterator[None]:
    """Raise InputError in the block once this process has computed for that many seconds.

    It interrupts Python, not a single call of a library; the time of other processes and a
    suspended computer do not count. It does so again and again, and the end of the block raises
    too, as an exception is lost that comes while Python removes an object.
    """
    builder, finished, is_late = threading.get_ident(), threading.Event(), threading.Event()
    lock = threading.Lock()
    start = time.process_time()

    def watch() -> None:
        while not finished.wait(0.25):
            with lock:
                if time.process_time() - start > seconds and not finished.is_set():
                    is_late.set()
                    interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
                    interrupt(ctypes.c_ulong(builder), ctypes.py_object(_TooLong))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
        if is_late.is_set():
            raise _TooLong
    except _TooLong as error:
        raise InputError(
            f"{where}: building its model takes more than {seconds:.0f} s, longer than a real one"
        ) from error
    finally:
        with lock:
            finished.set()


# Asking.


def require_askable(where: str, model: "keras.Model", size: int) -> None:
    """Raise InputError if one image would take too much memory or computation.

    size: bytes of the file.
    """
    total, additions = 0, 0
    traced = _traced(model)
    for operation, inputs, outputs in traced:
        name = f"the layer {operation.name!r} ({type(operation).__name__})"
        for size in (*map(_elements, outputs), _temporary(operation, inputs)):
            total += size
            if size > LARGEST_OUTPUT:
                raise InputError(
                    f"{where}: {name} computes {size:,} numbers for one image, expected at most "
                    f"{LARGEST_OUTPUT:,}"
                )
        weights = sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ()))
        if not getattr(operation, "_layers", None):  # else its inner layers count
            positions = sum(_elements(shape[:-1]) for shape in outputs)
            additions += weights * positions
    if total > _OUTPUT_SUM or additions > _MULTIPLY_ADDS:
        raise InputError(
            f"{where}: one image takes {additions:,} multiply-adds and {total:,} numbers, expected "
            f"at most {_MULTIPLY_ADDS:,} and {_OUTPUT_SUM:,}"
        )
    steps = sum(_steps(operation, inputs) for operation, inputs, _ in traced)
    if steps > _most_calls(size):
        raise InputError(
            f"{where}: calls its layers {steps:,} times, expected at most {_most_calls(size):,} "
            "for a file of this size"
        )


def batch_size_within_memory(model: "keras.Model", wanted: int) -> int:
    """How many images to ask the model about at once, within memory; `wanted` at most."""
    sizes = [_elements(shape) for _, _, outputs in _traced(model) for shape in outputs]
    return max(1, min(wanted, _BATCH_ELEMENTS // max(1, *sizes, 0)))


@contextlib.contextmanager
def asking(path: Path) -> Iterator[None]:
    """Turn whatever Keras raises while a model is asked into an InputError about its file."""
    try:
        with full_tracebacks():
            yield
    except InputError:
        raise
    except Exception as error:  # a foreign model can make Keras raise anything
        raise InputError(f"{path}: its model fails in prediction: {reason(error)}") from error


def _traced(model: "keras.Model") -> list[Call]:
    """(operation, shapes of its inputs, shapes of its outputs) for every call in the model.

    Sizes that the model leaves open are those of an image of DEFAULT_SIDE.
    """
    layers = model._flatten_layers()
    inputs = [tensor for layer in layers for tensor in getattr(layer, "inputs", None) or ()]
    if any(None in tensor.shape[1:] for tensor in inputs):
        return _recorded(model)
    operations = {
        id(operation): operation
        for layer in layers
        for operation in (layer, *getattr(layer, "operations", ()))
    }
    return [
        (operation, _shapes(node.input_tensors), _shapes(node.output_tensors))
        for operation in operations.values()
        for node in operation._inbound_nodes
    ]


def _recorded(model: "keras.Model") -> list[Call]:
    """The calls in a model for one image of DEFAULT_SIDE, as far as it takes such an image."""
    from ferlab.backend import keras

    calls: list[Call] = []

    def traced(operation):
        def call(*args, **kwargs):
            function = getattr(operation, "_functional", None) or operation
            if hasattr(function, "_run_through_graph"):
                outputs = function._run_through_graph(args[0], operation_fn=traced)
            else:
                outputs = operation.compute_output_spec(*args, **kwargs)
            tensors = keras.tree.flatten((args, kwargs))
            calls.append((operation, _shapes(tensors), _shapes(keras.tree.flatten(outputs))))
            return outputs

        return call

    images = [
        keras.KerasTensor([None, *(side or DEFAULT_SIDE for side in tensor.shape[1:])])
        for tensor in model.inputs or ()
    ]
    with contextlib.suppress(Exception):  # too small, say: asking it will tell
        traced(model)(images[0] if len(images) == 1 else images)
    return calls


def _shapes(tensors: Iterable[object]) -> list[Shape]:
    return [tuple(tensor.shape) for tensor in tensors if hasattr(tensor, "shape")]


def _elements(shape: Shape) -> int:
    """The numbers in a tensor for one image."""
    return math.prod(DEFAULT_SIDE if side is None else int(side) for side in shape[1:])


def _temporary(operation: "keras.Operation", inputs: list[Shape]) -> int:
    """The numbers that a layer computes besides its output, if they can be more than that."""
    from ferlab.backend import keras

    layers = keras.layers
    positions = max((_elements(shape[:-1]) for shape in inputs), default=0)
    if isinstance(operation, layers.MultiHeadAttention):
        axes = getattr(operation, "_attention_axes", None)
        along = math.prod(inputs[0][axis] or DEFAULT_SIDE for axis in axes) if axes else positions
        return along * positions * operation.num_heads
    if isinstance(operation, layers.GroupQueryAttention):
        return positions**2 * operation.num_query_heads
    if isinstance(operation, layers.AdditiveAttention):
        return positions**2 * (inputs[0][-1] or 1)
    if isinstance(operation, layers.Attention):
        return positions**2
    if grid := getattr(operation, "tile_grid_size", None):
        return math.prod(grid) * 256  # a histogram for each
    dilations, kernel = (getattr(operation, key, None) for key in ("dilation_rate", "kernel_size"))
    if isinstance(dilations, tuple) and isinstance(kernel, tuple) and max(dilations) > 1:
        # TensorFlow pads the images by the whole reach of the kernel.
        reach = sum(step * (side - 1) for step, side in zip(dilations, kernel, strict=True))
        longest = max(side or DEFAULT_SIDE for side in inputs[0][1:-1])
        return (longest + reach) ** len(kernel) * (inputs[0][-1] or 1)
    return 0


def _steps(operation: "keras.Operation", inputs: list[Shape]) -> int:
    """How often the inner layers of a layer are called, one after the other."""
    from ferlab.backend import keras

    is_loop = isinstance(operation, keras.layers.TimeDistributed)
    if not (is_loop or getattr(operation, "unroll", False)) or not inputs:
        return 1
    inner = len(operation._flatten_layers()) if is_loop else 1
    return (inputs[0][1] or 1) * inner
