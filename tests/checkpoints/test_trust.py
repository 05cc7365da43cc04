"""A hostile or broken file is one line to its user, and nothing that it holds ever runs."""

import base64
import io
import json
import marshal
import math
import tempfile
import types
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from vintages import (
    CNN_SHAPE,
    VINTAGES,
    Vintage,
    functional,
    layer,
    sequential,
    small_cnn,
    stored_layers,
    write,
    write_archive,
    write_record,
)

from ferlab import checkpoints
from ferlab.checkpoints import guard
from ferlab.errors import InputError

NAMES = ["keras-1-tf", "keras-2.0", "keras-2.2", "tf-2.15", "tf-2.15-zip", "keras-3", "keras-3-zip"]
KERAS_3 = ["keras-3", "keras-3-zip"]
KERNEL = "model_weights/conv/conv/kernel:0"


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        checkpoints.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def opened_or_refused(path: Path) -> bool:
    """Whether it opened. Any exception but a one-line InputError fails the test."""
    try:
        checkpoints.load(path)
    except InputError as error:
        if "\n" in str(error) or path.name not in str(error):
            raise AssertionError(f"not one line about the file: {error}") from error
        return False
    return True


def with_config(vintage: Vintage, folder: Path, config: dict | str) -> Path:
    """A file of a small CNN with another configuration."""
    own, weights = small_cnn(vintage)
    text = config if isinstance(config, str) else json.dumps(config)
    path = write(vintage, folder, own, weights)
    if vintage.container == "keras":
        return write_archive(path, text, stored_layers(vintage, own, weights), vintage.version)
    if vintage.container == "h5":
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = text
    else:
        (folder / "model.json").write_text(text)
    return path


def entries(config: dict) -> list[dict]:
    return config["config"] if isinstance(config["config"], list) else config["config"]["layers"]


def setting(config: dict, name: str) -> dict:
    """The settings of the layer of that name, to change."""
    (found,) = [entry["config"] for entry in entries(config) if entry["config"]["name"] == name]
    return found


def with_entry(vintage: Vintage, folder: Path, entry: dict) -> Path:
    """A file of a small CNN with one more layer after the convolution."""
    config, _ = small_cnn(vintage)
    entries(config).insert(2, entry)
    return with_config(vintage, folder, config)


# Layers that carry code, or read what a file names.


@pytest.fixture
def code(tmp_path):
    """Marshalled Python code in base64. That it runs would show in a file."""
    marker = tmp_path / "executed"
    harmful = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    text = base64.b64encode(marshal.dumps(harmful.__code__)).decode() + "\n"
    types.FunctionType(marshal.loads(base64.b64decode(text)), {"open": open})(None)
    marker.unlink()  # so it does what this test means it to
    yield text
    assert not marker.exists()


def as_keras_2(code: str) -> dict:
    return {"function": [code, None, None], "function_type": "lambda", "output_shape": None}


def as_keras_3(code: str) -> dict:
    value = {"class_name": "__lambda__", "config": {"value": [code, None, None]}}
    return {"function": value, "arguments": {}}


def wrapped(vintage: Vintage, place: str, entry: dict) -> dict:
    if place == "Sequential":
        return sequential(vintage, CNN_SHAPE, [entry], name="inner")
    if place == "functional":
        return functional(vintage, CNN_SHAPE, [(entry, "images")], name="inner")
    if place == "activation":
        return layer(vintage, "Activation", "evil", activation=entry)
    return layer(vintage, place, "wrapper", layer=entry) if place else entry


@pytest.mark.product
@pytest.mark.parametrize(
    "place", ["", "Sequential", "functional", "TimeDistributed", "Bidirectional", "activation"]
)
@pytest.mark.parametrize("name", NAMES)
def test_lambda_is_refused_by_name_wherever_it_is(name, place, code, tmp_path):
    vintage = VINTAGES[name]
    for settings in (as_keras_2(code), as_keras_3(code)):
        entry = wrapped(vintage, place, layer(vintage, "Lambda", "evil", **settings))
        message = refusal(with_entry(vintage, tmp_path, entry))
        assert "'evil" in message
        assert "is a Lambda" in message


@pytest.mark.product
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("TorchModuleWrapper", {"module": "gASVAAAAAAAAAAA="}),
        ("TFSMLayer", {"filepath": "/tmp/saved_model", "call_endpoint": "serve"}),
        ("JaxLayer", {"call_fn": None}),
        ("FlaxLayer", {"module": None}),
        ("StringLookup", {"vocabulary": "/etc/passwd"}),
        ("IntegerLookup", {"vocabulary": "/etc/passwd"}),
        ("TextVectorization", {"vocabulary": "/etc/passwd"}),
    ],
)
@pytest.mark.parametrize("place", ["", "TimeDistributed"])
@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15-zip", *KERAS_3])
def test_layers_that_run_or_read_another_file_are_refused_by_name(
    name, place, kind, settings, tmp_path
):
    vintage = VINTAGES[name]
    entry = wrapped(vintage, place, layer(vintage, kind, "evil", **settings))
    assert f"the layer 'evil' is a {kind}" in refusal(with_entry(vintage, tmp_path, entry))


def test_lambda_in_the_architecture_beside_weights_is_refused(code, tmp_path):
    vintage = VINTAGES["keras-2.0-pair"]
    config, _ = small_cnn(vintage)
    entries(config).insert(2, layer(vintage, "Lambda", "evil", **as_keras_2(code)))
    assert "is a Lambda" in refusal(with_config(vintage, tmp_path, config))


@pytest.mark.product
@pytest.mark.parametrize("place", ["cell", "cells", "layers", "mask_value", "arguments of a call"])
@pytest.mark.parametrize("name", ["keras-2.2", "tf-2.15-zip", *KERAS_3])
def test_code_in_unusual_places_does_not_run(name, place, code, tmp_path):
    vintage = VINTAGES[name]
    hidden = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None}
    hidden["config"] = {"name": "evil", **as_keras_3(code)}
    if place == "arguments of a call":
        entry = layer(vintage, "Activation", "act", activation="relu")
        config = functional(vintage, CNN_SHAPE, [(entry, "images")])
        node = [["images", 0, 0, {"mask": hidden, "other": ["images", 0, 0]}]]
        config["config"]["layers"][-1]["inbound_nodes"] = [node]
        assert not opened_or_refused(with_config(vintage, tmp_path, config))
        return
    stacked = {"module": "keras.layers", "class_name": "StackedRNNCells", "registered_name": None}
    stacked["config"] = {"cells": [hidden]}
    entry = {
        "cell": lambda: layer(vintage, "RNN", "outer", cell=hidden),
        "cells": lambda: layer(vintage, "RNN", "outer", cell=stacked),
        "layers": lambda: layer(vintage, "Pipeline", "outer", layers=[hidden]),
        "mask_value": lambda: layer(vintage, "Masking", "outer", mask_value=hidden),
    }[place]()
    refusal(with_entry(vintage, tmp_path, entry))


# Objects of other modules.

OBJECTS = [
    {"class_name": "function", "module": "os", "config": "system"},
    {"class_name": "function", "module": "builtins", "config": "exec"},
    {"class_name": "function", "module": "builtins", "config": "eval"},
    {"class_name": "function", "module": "keras.utils", "config": "get_file"},
    {"class_name": "function", "module": "keras.activations", "config": "deserialize"},
    {"class_name": "function", "module": "keras.saving", "config": "load_model"},
    {"class_name": "Popen", "module": "subprocess", "config": {"args": ["touch", "executed"]}},
    {"class_name": "system", "module": "os", "config": {"command": "touch executed"}},
    {"class_name": "exec", "module": "builtins", "config": {}},
    {"class_name": "get_file", "module": "keras.utils", "config": {"fname": "executed"}},
    {"class_name": "get_file", "module": "keras.src.utils", "config": {"fname": "executed"}},
    {"class_name": "load_model", "module": "keras.models", "config": {"filepath": "executed"}},
    {"class_name": "FeatureSpace", "module": "keras.utils", "config": {"features": {}}},
    {"class_name": "whole_file", "module": "ferlab.files", "config": {"path": "executed"}},
    {"class_name": "Dense", "module": "evil.layers", "config": {"units": 3}},
    {"class_name": "Dense", "module": "keras.layers", "config": {}, "registered_name": "os>evil"},
    {"class_name": "Own", "module": None, "config": {}, "registered_name": "evil>Own"},
    {"class_name": "Own", "module": "keras.layers", "config": {}, "registered_name": "evil>Own"},
    {"class_name": "__typespec__", "module": "os", "spec_name": "system", "config": ["x"]},
    {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
    {"class_name": "Dense", "module": ["keras.layers"], "config": {}},
]


@pytest.mark.product
@pytest.mark.parametrize("hostile", OBJECTS, ids=lambda hostile: str(hostile["class_name"]))
@pytest.mark.parametrize("name", NAMES[1:])
def test_objects_of_other_modules_are_refused_as_layers(name, hostile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = {"registered_name": None, **hostile}
    refusal(with_entry(VINTAGES[name], tmp_path, entry))
    assert not (tmp_path / "executed").exists()


@pytest.mark.product
@pytest.mark.parametrize(
    "key", ["activation", "kernel_initializer", "kernel_regularizer", "bias_constraint", "dtype"]
)
@pytest.mark.parametrize("hostile", OBJECTS[:12], ids=lambda hostile: str(hostile["config"]))
@pytest.mark.parametrize("name", ["keras-2.0", *KERAS_3])
def test_objects_of_other_modules_in_a_setting_never_run(name, hostile, key, tmp_path, monkeypatch):
    """Older Keras's initialisers and types of numbers are dropped, so such a file may open."""
    monkeypatch.chdir(tmp_path)
    config, _ = small_cnn(VINTAGES[name])
    setting(config, "hidden")[key] = {"registered_name": None, **hostile}
    opened = opened_or_refused(with_config(VINTAGES[name], tmp_path, config))
    assert not (opened and name in KERAS_3)
    assert not (opened and key == "activation")
    assert not (tmp_path / "executed").exists()


@pytest.mark.product
@pytest.mark.parametrize("activation", ["os.system", "get", "deserialize", "ferlab>other", "", 5])
@pytest.mark.parametrize("name", NAMES)
def test_activation_that_is_another_function_is_refused(name, activation, tmp_path):
    config, _ = small_cnn(VINTAGES[name])
    setting(config, "hidden")["activation"] = activation
    opened = opened_or_refused(with_config(VINTAGES[name], tmp_path, config))
    # Keras 3 takes it for a function of numbers that gives back what it is given.
    assert not opened or (name in KERAS_3 and activation == "deserialize")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["keras-2.2", "tf-2.15", "tf-2.15-zip", *KERAS_3])
def test_training_configuration_is_never_built(name, nested, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vintage = VINTAGES[name]
    config, _ = small_cnn(vintage)
    training = {
        "optimizer": {"registered_name": None, **OBJECTS[6]},
        "loss": {"registered_name": None, **OBJECTS[0]},
        "metrics": [{"class_name": "__lambda__", "config": {"value": [code, None, None]}}],
    }
    target = config
    if nested:
        target = sequential(vintage, (10, 8, 1), [layer(vintage, "Dropout", "d")], name="inner")
        entries(config).insert(0 if vintage.words == "2" else 1, target)
    target["compile_config"] = training
    path = with_config(vintage, tmp_path, config)
    if vintage.container == "h5":
        with h5py.File(path, "a") as file:
            file.attrs["training_config"] = json.dumps(training)
    opened = opened_or_refused(path)
    assert opened or name == "keras-3"  # whose own HDF5 has no such place
    assert not (tmp_path / "executed").exists()


def test_optimizer_in_the_record_is_checked_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in KERAS_3:
        path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
        hostile = {"optimizer": {"registered_name": None, **OBJECTS[6]}}
        write_record(path, hostile)
        assert "Popen" in refusal(path, with_optimizer=True)
        checkpoints.load(path)
    assert not (tmp_path / "executed").exists()


# HDF5 that leads elsewhere, or unpacks beyond reason.


def rewritten(vintage: Vintage, folder: Path, change) -> Path:
    """A small CNN's file, its weights changed by `change(file, name of a dataset)`."""
    config, weights = small_cnn(vintage)
    if vintage.container == "keras":
        buffer = io.BytesIO(stored_layers(vintage, config, weights))
        with h5py.File(buffer, "a") as file:
            change(file, "layers/conv2d/vars/0")
        return write_archive(folder / "model.keras", config, buffer.getvalue(), vintage.version)
    path = write(vintage, folder, config, weights)
    with h5py.File(path, "a") as file:
        change(file, KERNEL if vintage.major < 3 else "model_weights/conv/sequential_1/conv/kernel")
    return path


@pytest.fixture
def secret(tmp_path):
    """Another file of the user's, with an array that would fit."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.ones((3, 3, 1, 4), "float32")
    return path


def external_link(file, name, secret):
    file[name] = h5py.ExternalLink(str(secret), "/kernel")


def soft_link(file, name, secret):
    file["elsewhere"] = np.ones((3, 3, 1, 4), "float32")
    file[name] = h5py.SoftLink("/elsewhere")


def external_storage(file, name, secret):
    storage = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, (3, 3, 1, 4), "float32", external=storage)


def virtual(file, name, secret):
    layout = h5py.VirtualLayout((3, 3, 1, 4), "float32")
    layout[:] = h5py.VirtualSource(str(secret), "kernel", (3, 3, 1, 4))
    file.create_virtual_dataset(name, layout)


@pytest.mark.product
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (external_link, "link"),
        (soft_link, "link"),
        (external_storage, "another file"),
        (virtual, "another file"),
    ],
)
@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15-zip", *KERAS_3])
def test_weights_in_another_file_are_refused(name, place, reason, secret, tmp_path):
    if place is external_storage and name.endswith("zip"):
        pytest.skip("HDF5 writes no such storage in memory")

    def change(file, dataset):
        del file[dataset]
        place(file, dataset, secret)

    assert reason in refusal(rewritten(VINTAGES[name], tmp_path, change))


def test_group_in_another_file_is_refused(secret, tmp_path):
    def change(file, _):
        file["optimizer_weights"] = h5py.ExternalLink(str(secret), "/")

    assert "link" in refusal(rewritten(VINTAGES["keras-2.0"], tmp_path, change))


def enormous(dtype):
    def change(file, name):
        del file[name]
        file.create_dataset(name, (2**20, 2**20), dtype, chunks=(1024, 1024))  # takes no room

    return change


@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        "uint8",
        "bool",
        *(pytest.param(dtype) for dtype in ("S8", "complex64", "float32, float32")),
    ],
)
@pytest.mark.parametrize("name", ["keras-2.0", "keras-3-zip"])
def test_weights_of_terabytes_are_refused_unread(name, dtype, tmp_path):
    message = refusal(rewritten(VINTAGES[name], tmp_path, enormous(np.dtype(dtype))))
    assert "GiB" in message


@pytest.mark.parametrize("name", ["keras-2.0", "keras-3"])
def test_size_limit_is_on_the_sum_of_all_weights(name, tmp_path, monkeypatch):
    path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
    checkpoints.load(path)
    monkeypatch.setattr(guard, "UNPACKED_LIMIT", 1400)  # bytes; none of its arrays has as many
    assert "weights" in refusal(path)


@pytest.mark.parametrize("name", ["keras-2.0", "keras-2.0-pair", "keras-3-zip"])
def test_configuration_that_is_too_large_is_refused(name, tmp_path, monkeypatch):
    path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
    monkeypatch.setattr(guard, "JSON_LIMIT", 1000)
    refusal(path)


# Archives.


def archive(folder: Path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> Path:
    """A `.keras` of a small CNN with more members, or others."""
    vintage = VINTAGES["keras-3-zip"]
    config, weights = small_cnn(vintage)
    own = {
        "metadata.json": b'{"keras_version": "3.5.0"}',
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": stored_layers(vintage, config, weights),
    }
    with zipfile.ZipFile(folder / "model.keras", "w", method) as file:
        for name, content in {**own, **members}.items():
            file.writestr(name, content)
    return folder / "model.keras"


@pytest.mark.parametrize("name", ["../evil", "assets/../../evil", "/tmp/ferlab_evil"])
def test_archive_members_outside_the_archive_are_refused(name, tmp_path):
    message = refusal(archive(tmp_path, {name: b"evil"}))
    assert repr(name) in message
    assert not (tmp_path.parent / "evil").exists()
    assert not Path("/tmp/ferlab_evil").exists()


def test_archive_that_unpacks_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    path = archive(tmp_path, {"assets/zeros": bytes(2**21)})
    assert path.stat().st_size < 2**17
    checkpoints.load(path)
    monkeypatch.setattr(guard, "UNPACKED_LIMIT", 2**20)
    assert "GiB" in refusal(path)


def test_temporary_folder_is_left_empty(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    checkpoints.load(archive(tmp_path, {"assets/other": b"content"}))
    refusal(archive(tmp_path, {"model.weights.h5": b"no weights"}))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"config.json": b"{"}, "cannot be read"),
        ({"config.json": b"[]"}, "Keras model"),
        ({"config.json": b"\xff\xfe"}, "cannot be read"),
        ({"metadata.json": b"{"}, "cannot be read"),
        ({"model.weights.h5": b""}, "cannot be read"),
        ({"model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(99)}, "cannot be read"),
        ({"ferlab.json": b"[1"}, "record cannot be read"),
        ({"ferlab.json": b"[1]"}, "not a JSON object"),
    ],
    ids=str,
)
def test_archive_members_that_are_broken_are_refused(members, reason, tmp_path):
    assert reason in refusal(archive(tmp_path, members))


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    """An archive with a field of every member changed, in both places where it stands."""
    content = bytearray(content)
    for signature, start in ((b"PK\x01\x02", offset), (b"PK\x03\x04", offset - 2)):
        place = -1
        while (place := content.find(signature, place + 1)) >= 0:
            content[place + start : place + start + len(value)] = value
    return bytes(content)


@pytest.mark.parametrize("what", ["encrypted", "an unknown compression", "damaged"])
def test_archives_that_zipfile_cannot_unpack_are_refused(what, tmp_path):
    path = archive(tmp_path, {}, zipfile.ZIP_STORED if what == "encrypted" else 8)
    content = path.read_bytes()
    if what == "damaged":
        start = content.index(b"config.json") + len("config.json")
        content = content[:start] + b"\xff" * 20 + content[start + 20 :]
    else:
        content = patched(content, *((8, b"\1\0") if what == "encrypted" else (10, b"\x63\0")))
    path.write_bytes(content)
    refusal(path)


# Files that end early, or are something else.


@pytest.mark.parametrize("name", ["keras-2.0", "keras-3", "keras-3-zip", "keras-2.0-pair"])
def test_truncated_files_are_refused(name, tmp_path):
    path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
    whole = path.read_bytes()
    size = len(whole)
    for length in (1, 7, 8, 50, 96, 600, 2048, size // 4, size // 2, size - 600, size - 1):
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_bytes(b"")
    assert "an empty file" in refusal(path)


@pytest.mark.parametrize(
    "signature",
    [pytest.param(signature) for signature in (b"TREE", b"SNOD", b"HEAP")],
)
def test_damaged_hdf5_is_refused(signature, tmp_path):
    path = write(VINTAGES["keras-2.0"], tmp_path, *small_cnn(VINTAGES["keras-2.0"]))
    content = path.read_bytes()
    last = content.rindex(signature)
    path.write_bytes(content[:last] + b"\0\0\0\0" + content[last + 4 :])
    refusal(path)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (["archive/data.pkl", "archive/version"], "a PyTorch checkpoint, which is a pickle"),
        (["saved_model.pb", "variables/variables.index"], "a zipped TensorFlow SavedModel"),
        (["best/model.h5", "README.md"], "best/model.h5"),
        (["config.json", "metadata.json"], "a .keras archive without weights"),
        (["a.txt"], "a zip archive without a Keras model's config.json"),
        ([], "a zip archive without a Keras model's config.json"),
    ],
)
def test_other_archives_are_named(members, reason, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        for member in members:
            file.writestr(member, b"{}")
    assert reason in refusal(tmp_path / "m.keras")


@pytest.mark.product
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x80\x04\x95" + bytes(20), "a Python pickle"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b"\x1f\x8b\x08" + bytes(20), "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy .npy file"),
        (b'{"class_name": "Sequential", "config": []}', "text"),
        (b"\x08\x07\x12\x05onnx" + bytes(20), "binary data"),
    ],
)
@pytest.mark.parametrize("called", ["m.h5", "m.keras"])
def test_other_files_are_named(content, kind, called, tmp_path):
    (tmp_path / called).write_bytes(content)
    assert kind in refusal(tmp_path / called)


@pytest.mark.parametrize(
    ("entries", "listed"),
    [
        ({}, "nothing"),
        ({"images": np.zeros(3), "labels": np.zeros(3)}, "images, labels"),
    ],
)
def test_hdf5_without_a_model_is_named(entries, listed, tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for key, value in entries.items():
            file[key] = value
    message = refusal(tmp_path / "data.h5")
    assert "an HDF5 file" in message
    assert listed in message


def test_configuration_without_weights_is_refused(tmp_path):
    path = write(VINTAGES["keras-2.0"], tmp_path, *small_cnn(VINTAGES["keras-2.0"]))
    with h5py.File(path, "a") as file:
        del file["model_weights"]
    assert "no weights" in refusal(path)


def test_folders_are_refused(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    (tmp_path / "other.h5").mkdir()
    assert "SavedModel" in refusal(tmp_path / "saved")
    assert "folder" in refusal(tmp_path / "other.h5")


# Values of the wrong kind.

DEPTH = 100_000


def nested(depth: int) -> str:
    """Models within models."""
    return '{"class_name": "Sequential", "config": [' * depth + "5" + "]}" * depth


@pytest.mark.product
@pytest.mark.parametrize(
    "text",
    [
        '{"class_name": "Sequential", "config": ' + "[" * DEPTH + "]" * DEPTH + "}",
        '{"class_name": "Sequential", "config": ' + '{"layers":' * DEPTH + "1" + "}" * DEPTH + "}",
        "[" * DEPTH,
        nested(60),
        nested(400),
        nested(DEPTH),
        '{"class_name": "Sequential", "config": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: f"{text[40:60]} {len(text)}",
)
@pytest.mark.parametrize("name", ["keras-2.0", "keras-2.0-pair", "keras-3", "keras-3-zip"])
def test_configuration_nested_deeply_is_refused(name, text, tmp_path):
    refusal(with_config(VINTAGES[name], tmp_path, text))


@pytest.mark.parametrize("place", ["ferlab", "metadata.json", "ferlab.json"])
def test_record_nested_deeply_is_refused(place, tmp_path):
    if place == "ferlab":
        path = write(VINTAGES["keras-2.0"], tmp_path, *small_cnn(VINTAGES["keras-2.0"]))
        with h5py.File(path, "a") as file:
            file.attrs[checkpoints.METADATA_ATTRIBUTE] = "[" * DEPTH
    else:
        path = archive(tmp_path, {place: b"[" * DEPTH})
    refusal(path)


NUMBERS = [0, -1, 2.5, 10**18, -(10**18), 10**400, 1e308, math.nan, math.inf]


@pytest.mark.product
@pytest.mark.parametrize(
    ("layer_name", "key"),
    [
        ("conv", "filters"),
        ("conv", "kernel_size"),
        ("conv", "strides"),
        ("norm", "axis"),
        ("norm", "epsilon"),
        ("pool", "pool_size"),
        ("drop", "rate"),
        ("hidden", "units"),
    ],
)
@pytest.mark.parametrize("name", ["keras-2.0", "keras-3-zip"])
def test_settings_with_impossible_numbers(name, layer_name, key, tmp_path):
    vintage = VINTAGES[name]
    for number in NUMBERS:
        config, _ = small_cnn(vintage)
        setting(config, layer_name)[key] = [number] * 2 if key in ("kernel_size",) else number
        opened = opened_or_refused(with_config(vintage, tmp_path, config))
        assert not opened or key in ("epsilon", "rate") or number == -1


@pytest.mark.parametrize("name", ["keras-2.0", "keras-3-zip"])
def test_shapes_with_impossible_sides(name, tmp_path):
    vintage = VINTAGES[name]
    for side in [*NUMBERS, "10", None, [10]]:
        config, _ = small_cnn(vintage)
        key, entry = ("batch_shape" if vintage.major == 3 else "batch_input_shape"), 0
        entries(config)[entry]["config"][key] = [None, side, side, 1]
        assert not opened_or_refused(with_config(vintage, tmp_path, config))


def places(node, path=()):
    """The path of every node in a JSON value."""
    yield path
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from places(value, (*path, key))


def replaced(node, path: tuple, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


WRONG = [None, [], "wrong", 7, {}, [{}], {"class_name": "x"}, {"class_name": 1, "config": None}]
SAMPLE = 50  # of some 1,500 a configuration; all of them pass too, in a few minutes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15-zip", "keras-3-zip"])
def test_configuration_with_a_wrong_value_is_one_line_or_loads(name, tmp_path):
    vintage = VINTAGES[name]
    config, _ = small_cnn(vintage)
    choices = [(path, value) for path in places(config) for value in WRONG]
    rng = np.random.default_rng(1)
    opened = 0
    for index in rng.choice(len(choices), SAMPLE, replace=False):
        path, value = choices[index]
        broken = replaced(config, path, value)
        try:
            opened += opened_or_refused(with_config(vintage, tmp_path, broken))
        except Exception as error:
            raise AssertionError(f"{'/'.join(map(str, path))} = {value!r}") from error
    assert 0 < opened < SAMPLE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_config", ""),
        ("model_config", "null"),
        ("model_config", b"\xff"),
        ("keras_version", 5),
        ("keras_version", "9" * 5000),
        ("keras_version", h5py.Empty("f")),
        ("backend", 7),
        *(
            pytest.param("model_config", value)
            for value in (5, 1.5, h5py.Empty("f"), np.arange(3), np.array([b"a", b"b"]))
        ),
    ],
    ids=str,
)
def test_attributes_of_the_wrong_type(key, value, tmp_path):
    path = write(VINTAGES["keras-2.0"], tmp_path, *small_cnn(VINTAGES["keras-2.0"]))
    with h5py.File(path, "a") as file:
        file.attrs[key] = value
    opened_or_refused(path)


@pytest.mark.parametrize("value", [5, "conv", h5py.Empty("f"), np.arange(3), np.array([b"odd"])])
@pytest.mark.parametrize("place", ["model_weights/layer_names", "model_weights/conv/weight_names"])
def test_name_lists_of_the_wrong_type_are_refused(place, value, tmp_path):
    path = write(VINTAGES["keras-2.0"], tmp_path, *small_cnn(VINTAGES["keras-2.0"]))
    group, _, key = place.rpartition("/")
    with h5py.File(path, "a") as file:
        file[group].attrs[key] = value
    refusal(path)


@pytest.mark.parametrize("value", [5, h5py.Empty("f")], ids=str)
def test_layer_list_of_the_wrong_type_in_weights_only_is_refused(value, tmp_path):
    vintage = VINTAGES["keras-2.0-pair"]
    path = write(vintage, tmp_path, *small_cnn(vintage))
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = value
    refusal(path)


@pytest.mark.parametrize(
    "value",
    [
        h5py.Empty("f"),
        np.array([b"text"]),
        np.float32(1),
        np.zeros((3, 3, 1, 4), "datetime64[s]").astype("int64"),
        None,
    ],
    ids=str,
)
def test_arrays_of_the_wrong_type(value, tmp_path):
    def change(file, name):
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value

    opened_or_refused(rewritten(VINTAGES["keras-2.0"], tmp_path, change))


@pytest.mark.product
@pytest.mark.parametrize("name", ["keras-2.0", "keras-3-zip"])
@pytest.mark.parametrize(
    "record",
    [
        {"pixels": 5},
        {"pixels": "sepia"},
        {"class_names": 5},
        {"class_names": ["a"]},
        {"class_names": [1, [2], None]},
        {"optimizer": 5},
        {"objective": 5},
        {"objective": {"taught_by": 5}},
        {"objective": {"taught_by": [5]}},
        {"recipe": 5},
        {"temperature": "hot"},
        *(pytest.param({"pixels": value}) for value in (["raw"], {})),
    ],
    ids=str,
)
def test_record_of_the_wrong_type(record, name, tmp_path):
    path = write(VINTAGES[name], tmp_path, *small_cnn(VINTAGES[name]))
    write_record(path, record)
    opened_or_refused(path)
