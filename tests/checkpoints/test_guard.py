"""A checkpoint that asks for too much, or never comes to an end, is refused in one line."""

import io
import json
import os
import signal
import threading
import zipfile

import h5py
import pytest
from vintages import (
    VINTAGES,
    small_cnn,
    stored_layers,
    write,
    write_archive,
)

from ferlab import checkpoints
from ferlab.backend import keras
from ferlab.checkpoints import TrainingRecord, guard
from ferlab.errors import InputError

KERAS_3 = VINTAGES["keras-3-zip"]


def refusal(path, read=checkpoints.load) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def small_file(folder, name="keras-2.0"):
    return write(VINTAGES[name], folder, *small_cnn(VINTAGES[name]))


def changed_weights(folder, change):
    """A `.keras` of a small CNN, its weights changed by `change(file)`."""
    config, weights = small_cnn(KERAS_3)
    buffer = io.BytesIO(stored_layers(KERAS_3, config, weights))
    with h5py.File(buffer, "a") as file:
        change(file)
    return write_archive(folder / "model.keras", config, buffer.getvalue())


# Reading.


def endless(path):
    """Let the free rest of a heap of texts have the size 0, so that HDF5 never gets past it."""
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    place = heap + 16
    while index := int.from_bytes(content[place : place + 2], "little"):
        assert index < 100
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)


READERS = [
    checkpoints.load,
    checkpoints.read_record,
    checkpoints.read_training_rows,
    lambda path: checkpoints.update_record(path, pixels="raw"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["keras-2.0", "tf-2.15", "keras-2.0-pair"])
def test_reading_that_never_ends_is_ended_and_other_files_still_open(
    name, read, tmp_path, monkeypatch
):
    monkeypatch.setattr(guard, "READING_SECONDS", 0.3)
    path = small_file(tmp_path, name)
    with h5py.File(path, "a") as file:
        file.attrs["note"] = "text"
    read(path)
    whole = path.read_bytes()
    endless(path)
    assert "more than 0 s" in refusal(path, read)
    path.write_bytes(whole)
    read(path)


def test_reading_that_never_ends_in_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "READING_SECONDS", 0.3)
    guard.surveyed(changed_weights(tmp_path, lambda file: None), "model.weights.h5")

    def change(file):
        file.attrs["note"] = "text"

    path = changed_weights(tmp_path, change)
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "weights.h5").write_bytes(archive.read("model.weights.h5"))
    endless(tmp_path / "weights.h5")
    config, _ = small_cnn(KERAS_3)
    write_archive(path, config, (tmp_path / "weights.h5").read_bytes())
    assert "more than 0 s" in refusal(path)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has no such signal")
def test_crash_of_the_reading_process_is_one_line(tmp_path):
    path = small_file(tmp_path)
    guard.surveyed(path)
    process = guard._reader_of(os.getpid()).process
    path.touch()  # a changed file is read again
    process.send_signal(signal.SIGSTOP)
    killing = threading.Timer(0.05, process.kill)
    killing.start()
    assert "crashes" in refusal(path)
    killing.join()
    checkpoints.load(path)


def test_reading_process_that_was_killed_is_started_again(tmp_path):
    path = small_file(tmp_path)
    guard.surveyed(path)
    process = guard._reader_of(os.getpid()).process
    process.kill()
    process.wait()
    path.touch()
    checkpoints.load(path)


def two_names(file):
    """Groups each of which has the next one under two names: 2 ** 40 paths."""
    group = file.create_group("deep")
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def circle(file):
    file.create_group("deep")
    file["deep/again"] = file["/"]


def many_groups(file):
    for index in range(2_000):
        file.create_group(f"g{index}")


def deep_groups(file):
    file.create_group("/".join("a" * 100))


def many_attributes(file):
    group = file.create_group("other", track_order=True)  # else 64 KiB are the most
    for index in range(2_000):
        group.attrs[f"a{index}"] = 0


@pytest.mark.parametrize("change", [two_names, circle, deep_groups])
def test_groups_without_end_are_refused(change, tmp_path):
    refusal(changed_weights(tmp_path, change))


@pytest.mark.parametrize("change", [many_groups, many_attributes])
def test_too_many_groups_and_attributes_are_refused(change, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "MOST_OBJECTS", 1_000)
    assert "1,000" in refusal(changed_weights(tmp_path, change))


def test_array_under_two_names_is_counted_once(tmp_path):
    def change(file):
        file["again"] = file["layers/conv2d/vars/0"]

    once = guard.surveyed(changed_weights(tmp_path, lambda file: None), "model.weights.h5")
    path = changed_weights(tmp_path, change)
    assert guard.surveyed(path, "model.weights.h5").elements == once.elements
    checkpoints.load(path)


HUGE = 500_000_000


@pytest.mark.parametrize("read", READERS[:3])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("dtype", ["uint64", "uint8", "S8"])
def test_array_that_is_not_in_the_file_is_refused(dtype, compression, read, tmp_path):
    path = small_file(tmp_path)
    with h5py.File(path, "a") as file:
        options = {"chunks": (2**20,), "compression": compression, "dtype": dtype}
        file.create_dataset("ferlab_training_rows", (HUGE,), **options)
    assert "GiB" in refusal(path, read)


def test_archive_of_zeros_is_refused_by_what_it_unpacks_to(tmp_path):
    path = changed_weights(tmp_path, lambda file: None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ferlab_training_rows.npy", bytes(80 * 2**20))
    assert path.stat().st_size < 2**20
    assert "GiB" in refusal(path)


@pytest.mark.parametrize("place", ["model_config", "ferlab", "config.json", "ferlab.json"])
def test_json_of_millions_of_values_is_refused_unparsed(place, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "JSON_VALUES", 1000)
    text = "[" + "[]," * 2000 + "[]]"
    if "." in place:
        path = changed_weights(tmp_path, lambda file: None)
        members = {"config.json": json.dumps(small_cnn(KERAS_3)[0]), place: text}
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()} | members
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        path = small_file(tmp_path)
        with h5py.File(path, "a") as file:
            file.attrs[place] = text
    assert "1,000 values" in refusal(path)


# Building.


def saved(model, folder, suffix=".keras"):
    path = folder / f"model{suffix}"
    checkpoints.save(model, path, TrainingRecord())
    return path


def reconfigured(path, change):
    """The same file with the layers of its configuration changed by `change(layers)`."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tiny(*layers):
    """A classifier of small images with some layers in front."""
    end = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, *end])


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Conv2D", {"filters": 10**9, "kernel_size": 3}),
        ("Conv2D", {"filters": 2, "kernel_size": [9000, 9000], "padding": "same"}),
        ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 10**8}),
        ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 10**9}),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 10**6}),
        ("Dense", {"units": 10**10}),
        ("Embedding", {"input_dim": 10**12, "output_dim": 3}),
        ("EinsumDense", {"equation": "abcd,de->abce", "output_shape": [8, 8, 10**9]}),
        ("MultiHeadAttention", {"num_heads": 10**5, "key_dim": 10**5}),
        ("UpSampling2D", {"size": 10**5}),
        ("ZeroPadding2D", {"padding": 10**6}),
        ("Resizing", {"height": 10**6, "width": 10**6}),
        ("CenterCrop", {"height": 10**6, "width": 10**6}),
        ("RandomCrop", {"height": 10**6, "width": 10**6}),
        ("CategoryEncoding", {"num_tokens": 10**9}),
        ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": [10**9, 10**9]}),
        ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": [3000, 3000]}),
        ("AdaptiveAveragePooling2D", {"output_size": 10**6}),
        ("DepthwiseConv2D", {"kernel_size": 3, "dilation_rate": 10**5, "padding": "same"}),
    ],
    ids=lambda value: "" if isinstance(value, str) and value[0] == "." else None,
)
def test_layer_that_would_allocate_more_than_the_file_holds_is_refused(
    kind, settings, suffix, tmp_path
):
    def change(layers):
        entry = {"module": "keras.layers", "class_name": kind, "registered_name": None}
        layers.insert(1, {**entry, "config": {"name": "huge", "trainable": True, **settings}})

    path = reconfigured(saved(tiny(), tmp_path, suffix), change)
    refusal(path)
    with keras.StatelessScope():
        pass  # on leaving it, Keras would create variables that were left over


def test_layer_that_asks_for_too_much_is_named(tmp_path):
    path = saved(tiny(keras.layers.UpSampling2D(2, name="doubled")), tmp_path)

    def change(layers):
        layers[1]["config"]["size"] = [10_000, 10_000]

    assert "'doubled' (UpSampling2D)" in refusal(reconfigured(path, change))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_nested_models_that_double_the_calls_are_refused(suffix, tmp_path):
    """A short file: each model calls the one in it twice, and one image runs through 2 ** 12."""

    def doubled(depth):
        images = keras.Input((8, 8, 1))
        model = keras.Model(images, keras.layers.Activation("relu")(images))
        for _ in range(depth):
            images = keras.Input((8, 8, 1))
            model = keras.Model(images, model(model(images)))
        images = keras.Input((8, 8, 1))
        vector = keras.layers.Flatten()(model(images))
        outputs = keras.layers.Dense(3, activation="softmax")(vector)
        return saved(keras.Model(images, outputs), tmp_path, suffix)

    checkpoints.load(doubled(3))
    assert "times" in refusal(doubled(12))


def test_configuration_of_many_layers_is_refused_before_it_is_built(tmp_path):
    def change(layers):
        layers[1:1] = [
            {
                "module": "keras.layers",
                "class_name": "Identity",
                "config": {"name": f"layer_{index}"},
                "registered_name": None,
            }
            for index in range(5_000)
        ]

    assert "5,003 times" in refusal(reconfigured(saved(tiny(), tmp_path), change))


def test_layer_that_runs_step_by_step_is_refused_for_too_many_steps(tmp_path):
    images = keras.Input((8, 8, 1))
    rows = keras.layers.Reshape((64, 1))(images)
    state = keras.layers.SimpleRNN(2, unroll=True)(rows)
    outputs = keras.layers.Dense(3, activation="softmax")(state)
    path = saved(keras.Model(images, outputs), tmp_path)
    checkpoints.load(path)

    def change(layers):
        layers[0]["config"]["batch_shape"] = [None, 64, 64, 1]
        layers[1]["config"]["target_shape"] = [4096, 1]

    assert "4,09" in refusal(reconfigured(path, change))


# The first interruption may come while Python removes an object, and is then lost.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_building_that_takes_too_long_is_interrupted(tmp_path, monkeypatch):
    images = keras.Input((8, 1, 1))
    first, *_ = keras.ops.unstack(images, 8, axis=1)
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(first))
    path = saved(keras.Model(images, outputs), tmp_path)
    checkpoints.load(path)
    monkeypatch.setattr(guard, "_BUILDING_SECONDS", 0)
    monkeypatch.setattr(guard, "_BUILDING_SPEED", 10**12)

    def change(layers):
        layers[0]["config"]["batch_shape"] = [None, 2**20, 1, 1]
        layers[1]["config"]["num"] = None

    assert "more than 0 s" in refusal(reconfigured(path, change))
    monkeypatch.undo()
    checkpoints.load(small_file(tmp_path))


@pytest.mark.parametrize("dtype", ["S1000000000", "U100000000", "object", "V99999999"])
def test_array_of_text_in_a_configuration_is_refused(dtype, tmp_path):
    array = {"class_name": "__numpy__", "config": {"value": ["a", "b"], "dtype": dtype}}

    def change(layers):
        entry = {"module": "keras.layers", "class_name": "Rescaling", "registered_name": None}
        layers.insert(1, {**entry, "config": {"name": "text", "scale": array}})

    assert "not of numbers" in refusal(reconfigured(saved(tiny(), tmp_path), change))


@pytest.mark.parametrize("kind", ["WhileLoop", "ForiLoop", "Map", "Scan"])
def test_operations_that_call_functions_are_refused(kind, tmp_path):
    def change(layers):
        entry = {"module": "keras.src.ops.core", "class_name": kind, "registered_name": None}
        layers.insert(1, {**entry, "config": {"name": "loop"}})

    assert "'loop'" in refusal(reconfigured(saved(tiny(), tmp_path), change))
