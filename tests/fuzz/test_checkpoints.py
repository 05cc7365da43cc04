"""Damaged checkpoints: opened and asked, or refused in one line, in little time and memory."""

import contextlib
import copy
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import vintages
from fuzz import bounds
from fuzz.damage import NUMBERS, ODD_NAMES, damaged
from fuzz.test_tables import dataset_of
from hypothesis import given
from hypothesis import strategies as st
from vintages import VINTAGES

from ferlab import checkpoints
from ferlab.inference import predict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.*functions_eagerly"),
]

NAMES = (
    *("keras-1-tf", "keras-2.2", "tf-2.15", "tf-2.15-zip", "tf-2.13-v3-pair"),
    *("keras-3", "keras-3-zip", "keras-3-v3-pair", "keras-2.0-pair"),
)
CLASSES = (
    *("Dense", "Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Flatten", "Reshape"),
    *(
        "ZeroPadding2D",
        "UpSampling2D",
        "RepeatVector",
        "Permute",
        "Embedding",
        "LSTM",
        "GRU",
        "RNN",
    ),
    *(
        "Bidirectional",
        "TimeDistributed",
        "MultiHeadAttention",
        "Lambda",
        "Sequential",
        "Functional",
    ),
    *("Model", "InputLayer", "Rescaling", "Resizing", "Normalization", "RandomFlip", "Concatenate"),
    *("Add", "Softmax", "Dropout", "Masking", "Discretization", "Hashing", "CategoryEncoding"),
    *("StringLookup", "TFOpLambda", "GlobalAveragePooling2D", "Cropping2D", "Average", "Own", ""),
    *(
        "GetItem",
        "TrueDivide",
        "DTypePolicy",
        "GlorotUniform",
        "ELU",
        "ReLU",
        "PReLU",
        "Activation",
    ),
)
VALUES = (
    *(None, True, False, [], {}, [[]], [None], "relu", "softmax", "linear", "same", "float16"),
    *(
        "mixed_bfloat16",
        "bfloat16",
        "int8",
        "string",
        "channels_first",
        "keras.layers",
        "os",
        "keras",
    ),
    *(
        [None, 10, 8, 1],
        [None, None, None, 3],
        [None, 8],
        [0],
        [-1],
        [2, 2],
        [3, 3, 3],
        [10**9] * 2,
    ),
    *({"class_name": "Dense", "config": {}}, {"class_name": "__tuple__", "items": [1]}),
    *(
        {"class_name": "__tensor__", "config": {"value": [1.0], "dtype": "float32"}},
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 8], "dtype": "float32"}},
        {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}},
        {"class_name": "function", "module": "builtins", "config": "exec"},
    ),
    *NUMBERS,
    *ODD_NAMES,
)


def places(tree: object) -> Iterator[tuple[dict | list, str | int]]:
    """(object or list, its key or index) of every value in a JSON value."""
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from places(tree[key])


@st.composite
def changed(draw, config: dict) -> dict:
    """A configuration with a few values replaced, left out, put elsewhere, repeated or nested."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(0, 3))):
        known = list(places(config))
        parent, key = draw(st.sampled_from(known))
        value = parent[key]
        edit = draw(
            st.sampled_from(("value", "class", "graft", "leave out", "again", "nest", "key"))
        )
        if edit == "value":
            parent[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif edit == "class":
            entries = [place for place in known if place[1] == "class_name"]
            if entries:
                parent, key = draw(st.sampled_from(entries))
                parent[key] = draw(st.sampled_from(CLASSES))
        elif edit == "graft":
            other, other_key = draw(st.sampled_from(known))
            parent[key] = copy.deepcopy(other[other_key])
        elif edit == "leave out":
            del parent[key]
        elif edit == "again" and isinstance(parent, list):
            parent += [copy.deepcopy(value)] * draw(st.sampled_from((1, 3, 40)))
        elif edit == "nest":
            for _ in range(draw(st.sampled_from((1, 2, 60, 400)))):
                value = [value] if draw(st.booleans()) else {"config": value, "class_name": "Model"}
            parent[key] = value
        elif isinstance(parent, dict):
            keys = sorted({key for _, key in known if isinstance(key, str)})
            parent[draw(st.sampled_from(keys) | st.sampled_from(ODD_NAMES))] = parent.pop(key)
    return config


def branches(vintage: vintages.Vintage) -> tuple[dict, vintages.Weights]:
    """A functional network whose images take two ways."""
    old = vintage.words == "1"
    size = {"output_dim": 3, "input_dim": 80} if old else {"units": 3}
    layers = [
        (vintages.layer(vintage, "Flatten", "flat"), "images"),
        (vintages.layer(vintage, "Dense", "one", **size), "flat"),
        (vintages.layer(vintage, "Dense", "two", **size, activation="tanh"), "flat"),
        (vintages.layer(vintage, "Add", "sum"), ["one", "two"]),
        (vintages.layer(vintage, "Activation", "scores", activation="softmax"), "sum"),
    ]
    if old:
        layers[3] = (vintages.layer(vintage, "Merge", "sum", mode="sum"), ["one", "two"])
    shapes = {name: {"kernel": (80, 3), "bias": (3,)} for name in ("one", "two")}
    config = vintages.functional(vintage, vintages.CNN_SHAPE, layers)
    return config, vintages.random_weights(shapes)


def write(
    vintage: vintages.Vintage, folder: Path, own: dict, weights: dict, config: object
) -> Path:
    """A checkpoint of a network whose configuration is replaced by another."""
    path = vintages.write(vintage, folder, own, weights)
    text = json.dumps(config)
    if vintage.container == "keras":
        stored = vintages.stored_layers(vintage, own, weights)
        vintages.write_archive(path, text, stored, vintage.version)
    elif vintage.container == "h5":
        # The text may be too long for an attribute.
        with h5py.File(path, "a") as file, contextlib.suppress(OSError, ValueError):
            file.attrs["model_config"] = text
    else:
        (folder / "model.json").write_text(text)
    return path


@pytest.fixture(scope="module", autouse=True)
def eager():
    """Networks are asked without being compiled first, which takes longer than all else."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def ask(path: Path) -> np.ndarray:
    """What `test.py` does with a checkpoint; its classes are whatever they are."""
    checkpoint = checkpoints.load(path)
    columns = np.arange(checkpoint.num_classes)
    return predict(checkpoint, dataset_of(2), columns=columns)


def require_answers_or_refusal(path: Path) -> None:
    outputs = bounds.ending(lambda: ask(path))
    if outputs is not None:
        assert outputs.shape[0] == 2
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-3)
    bounds.ending(lambda: checkpoints.read_record(path))
    bounds.ending(lambda: checkpoints.read_training_rows(path))


@pytest.mark.parametrize("network", [vintages.small_cnn, branches])
@pytest.mark.parametrize("name", NAMES)
def test_sound_checkpoints_open(name, network, tmp_path):
    vintage = VINTAGES[name]
    own, weights = network(vintage)
    assert ask(write(vintage, tmp_path, own, weights, own)).shape == (2, 3)


@st.composite
def configurations(draw) -> tuple[vintages.Vintage, dict, dict, dict]:
    vintage = VINTAGES[draw(st.sampled_from(NAMES))]
    own, weights = draw(st.sampled_from((vintages.small_cnn, branches)))(vintage)
    return vintage, own, weights, draw(changed(own))


@bounds.cases("configurations")
@given(configurations())
def test_damaged_configurations(case):
    with bounds.folder() as folder:
        require_answers_or_refusal(write(case[0], folder, *case[1:]))


ARRAYS = (
    *(np.zeros(()), np.zeros((0,)), np.zeros((3, 3, 1, 4), "f8"), np.zeros((3, 3, 1, 5), "f4")),
    *(np.full((3, 3, 1, 4), np.nan, "f4"), np.zeros(4, "c8"), np.zeros(4, "?"), np.zeros(4, ">i2")),
    *(np.array([b"odd"]), np.zeros(2, [("a", "f4"), ("b", "S3")]), np.zeros((1,) * 32, "f4")),
    *(np.zeros((4, 1, 3, 3), "f4"), np.zeros(4, "f2"), np.zeros((48, 6), "f4"), h5py.Empty("f4")),
)
ATTRIBUTES = (
    *ARRAYS,
    "text",
    "",
    b"\xff",
    "{}",
    "[]",
    "3.0.0",
    "9" * 500,
    "\ud7ff",
    5,
    [b"a", b"b"],
)


def objects(file: h5py.File) -> list[str]:
    """The paths of all groups and arrays."""
    paths: list[str] = []
    file.visit(paths.append)
    return sorted(paths)


def change(file: h5py.File, draw: st.DrawFn) -> None:
    """One change of an HDF5 file's structure."""
    paths = objects(file)
    path = draw(st.sampled_from(paths or ["/"]))
    other = draw(st.sampled_from(paths or ["/"]))
    name = draw(st.sampled_from(ODD_NAMES))[:200].replace("\0", "")
    edit = draw(st.integers(0, 9))
    if edit == 0:
        del file[path]
    elif edit == 1:
        del file[path]
        file[path] = draw(st.sampled_from(ARRAYS))
    elif edit == 2:
        owner = file[draw(st.sampled_from(["/", *paths]))]
        keys = [*owner.attrs, "layer_names", "weight_names", "keras_version", "ferlab"]
        owner.attrs[draw(st.sampled_from(keys))] = draw(st.sampled_from(ATTRIBUTES))
    elif edit == 3:
        file.move(path, f"{other}/{name or 'x'}")
    elif edit == 4:
        file[f"again {name}"] = file[path]
    elif edit == 5:
        del file[path]
        links = (h5py.SoftLink("/"), h5py.SoftLink(path), h5py.ExternalLink("/etc/passwd", "/"))
        file[path] = draw(st.sampled_from(links))
    elif edit == 6:
        shape = draw(st.sampled_from(((10**5, 10**6), (2**40,), (2**26,), (10**4, 4))))
        kind = draw(st.sampled_from(("f4", "S9999", h5py.string_dtype())))
        del file[path]
        file.create_dataset(path, shape, kind, chunks=True, compression="gzip")
    elif edit == 7:
        file.create_group("/".join([path, *("x" * draw(st.sampled_from((1, 70, 2000))))]))
    elif edit == 8:
        group = file.create_group(f"many {name}")
        for number in range(draw(st.sampled_from((10, 1500)))):
            group.create_group(str(number))
    elif edit == 9:
        owner = file[draw(st.sampled_from(["/", *paths]))]
        for key in list(owner.attrs)[: draw(st.integers(1, 3))]:
            del owner.attrs[key]


@st.composite
def hdf5_files(draw, content: bytes) -> bytes:
    """An HDF5 file, changed in its structure, in its bytes, or in both."""
    buffer = io.BytesIO(content)
    changes = draw(st.integers(0, 2))
    with h5py.File(buffer, "a") as file:
        for _ in range(changes):
            # A change that the library does not make of this file, such as a group within an array.
            with contextlib.suppress(ValueError, OSError, KeyError, RuntimeError, TypeError):
                change(file, draw)
    content = buffer.getvalue()
    for _ in range(draw(st.integers(0, 3)) if changes < 2 else 0):
        content = draw(damaged(content))
    return content


@st.composite
def containers(draw, path: Path) -> bytes:
    """A checkpoint whose HDF5 file is changed, and its archive too if it is in one."""
    if not zipfile.is_zipfile(path):
        return draw(hdf5_files(path.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(["model.weights.h5"] * 4 + sorted(members)))
    whole = members[name]
    members[name] = draw(hdf5_files(whole) if name.endswith(".h5") else damaged(whole))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = buffer.getvalue()
    return draw(damaged(content)) if draw(st.integers(0, 5)) == 0 else content


@bounds.cases("hdf5")
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_damaged_hdf5(data, name):
    vintage = VINTAGES[name]
    with bounds.folder() as folder:
        path = vintages.write(vintage, folder, *vintages.small_cnn(vintage))
        path.write_bytes(data.draw(containers(path), label="the file"))
        require_answers_or_refusal(path)
