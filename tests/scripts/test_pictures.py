"""plot_model.py and gradient_ascent.py as a user runs them."""

import pytest
from support import call, fails, run


def saved(folder):
    from PIL import Image

    sizes = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300, path
            assert len(set(picture.convert("L").tobytes())) > 10, "nothing is drawn"
            sizes[path.name] = picture.size
    return sizes


def test_plot_model_writes_four_pictures(work, cnn, tmp_path):
    options = ("--saliency", "gradient,layercam", "--out-dir", tmp_path / "pictures")
    printed = call("plot_model.py", "train.csv", cnn, *options, cwd=work)
    assert "accuracy " in printed
    assert "layercam at block3_norm3: " in printed
    expected = {f"{cnn.stem}_{kind}.png" for kind in ("struct", "cm", "his", "sm")}
    sizes = saved(tmp_path / "pictures")
    assert set(sizes) == expected
    # By default one image of each class, each in a row.
    options = ("--what", "sm", "--images", "7", "--out-dir", tmp_path / "one")
    printed = call("plot_model.py", "test.csv", cnn, *options, cwd=work)  # without labels
    assert "perturbation: " in printed
    (one,) = saved(tmp_path / "one").values()
    assert one[1] < 0.4 * sizes[f"{cnn.stem}_sm.png"][1]


def test_plot_model_draws_a_dnn(work, dnn, tmp_path):
    options = ("--what", "struct,his,sm", "--images", "7,0", "--out-dir", tmp_path / "dnn")
    printed = call("plot_model.py", "train.csv", dnn, *options, cwd=work)
    assert {"note: gradcam", "note: layercam"} <= {
        " ".join(line.split()[:2]) for line in printed.splitlines()
    }
    assert set(saved(tmp_path / "dnn")) == {
        f"{dnn.stem}_{kind}.png" for kind in ("struct", "his", "sm")
    }


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--what", "sm,nothing"), "struct, cm, his, sm. Received: 'nothing'"),
        (("--images", "7,160"), "0 to 159. Received: '160'"),
        (("--saliency", "occlusion"), "Received: 'occlusion'"),
        (("--layer", "block9"), "'block9'"),
        (("--out-dir", "/dev/null"), "cannot be written"),
    ],
)
def test_plot_model_on_bad_input(work, cnn, options, rule):
    assert rule in fails("plot_model.py", "train.csv", cnn, *options, cwd=work)


def test_plot_model_never_overwrites_its_input(work, cnn):
    data = work / f"{cnn.stem}_cm.png"  # a table, whatever its name
    data.write_bytes((work / "train.csv").read_bytes())
    assert "is an input" in fails("plot_model.py", data, cnn, cwd=work)
    data.unlink()


def test_gradient_ascent_draws_filters_and_classes(work, cnn, tmp_path):
    printed = call(
        "gradient_ascent.py", cnn, "--steps", 4, "--out-dir", tmp_path / "filters", cwd=work
    )
    assert "4 steps will take" in printed
    assert set(saved(tmp_path / "filters")) == {f"{cnn.stem}_block1_conv1.png"}
    for options in (("--layer", "flatten"), ("--output", "happy")):
        options = ("--steps", 1, "--out-dir", tmp_path / "more", *options)
        printed += call("gradient_ascent.py", cnn, *options, cwd=work)
    assert "flatten has 1,152 units" in printed
    expected = {f"{cnn.stem}_{name}.png" for name in ("flatten", "happy")}
    assert set(saved(tmp_path / "more")) == expected


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--layer", "block9"), "rescale, block1_conv1"),
        (("--output", "glad"), "all or one of angry, disgust"),
        (("--layer", "dense1", "--output", "happy"), "not allowed with argument"),
        (("--steps", "0"), "Received: '0'"),
        (("--out-dir", "/dev/null"), "cannot be written"),
    ],
)
def test_gradient_ascent_on_bad_input(work, cnn, options, rule):
    assert rule in fails("gradient_ascent.py", cnn, *options, cwd=work)


def test_plot_model_and_gradient_ascent_on_another_backend(work, cnn, tmp_path):
    options = ("--what", "sm", "--images", "1,2", "--saliency", "gradient,smoothgrad,layercam")
    jax = {"cwd": work, "KERAS_BACKEND": "jax"}
    run("plot_model.py", "train.csv", cnn, *options, "--out-dir", tmp_path / "jax", **jax)
    run("gradient_ascent.py", cnn, "--steps", 2, "--out-dir", tmp_path / "jax", **jax)
    assert set(saved(tmp_path / "jax")) == {f"{cnn.stem}_sm.png", f"{cnn.stem}_block1_conv1.png"}
