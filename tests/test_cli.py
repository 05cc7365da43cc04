"""Flags: one table, recipe flags from the settings, and argument types that name the fault."""

import argparse
import dataclasses

import pytest
from support import ROOT, faces

from ferlab import checkpoints, cli, data
from ferlab.checkpoints import TrainingRecord
from ferlab.errors import InputError
from ferlab.recipes import FORMER_NAMES, RECIPES, SemiRecipe, flag_of, settings
from models import build_model

TABLE = {name: options for flags in cli.FLAGS.values() for name, options in flags.items()}


def recipe_parser(default="best", **options):
    parser = cli.parser("Train.", "data", *cli.FOLDER_FLAGS, "--seed", "--teacher")
    cli.add_recipe(parser, default, **options)
    return parser


def recipe_of(*flags):
    return cli.recipe(recipe_parser().parse_args(["train.csv", *flags]))


def test_table_names_each_flag_once_with_a_help():
    names = [name for flags in cli.FLAGS.values() for name in flags]
    assert len(names) == len(set(names))
    for name, options in {**TABLE, **cli.POSITIONALS}.items():
        assert options["help"], name
        if options.get("default"):
            assert "(default: " in options["help"], name


def test_parser_groups_flags_by_heading():
    parser = cli.parser("Ask.", "data", "--tta", "--truth", "--batch-size")
    titles = [group.title for group in parser._action_groups if group._group_actions]
    assert titles[-2:] == ["prediction", "data"]
    args = parser.parse_args(["test.csv", "--tta", "flip"])
    assert (args.data, args.tta, args.truth, args.batch_size) == ("test.csv", "flip", None, 256)


def test_command_runs_what_it_was_given():
    subparsers = cli.parser("Menu.").add_subparsers()
    command = cli.command(
        subparsers, "look", "checkpoint", "--data", help="look", description="Look.", run=print
    )
    assert command.parse_args(["pretrained:fast"]).run is print


@pytest.mark.parametrize("kind", [None, SemiRecipe])
def test_recipe_flags_are_the_settings(kind):
    default, options = ("semi-report", {"kind": SemiRecipe}) if kind else ("best", {})
    parser = recipe_parser(default, **options)
    shown = parser.format_help()
    for name, setting in settings(type(RECIPES[default])).items():
        has_flag = setting.flag and not (kind and setting.supervised_only)
        assert (flag_of(name) in parser._option_string_actions) == has_flag, name
        assert (f"  {flag_of(name)}" in shown) == has_flag, name


def test_recipe_flags_override_the_recipe():
    flags = ("--recipe", "fast", "--epochs", "3", "--no-bfloat16", "--validation", "0.1")
    expected = RECIPES["fast"].override(epochs=3, bfloat16=False, validation=0.1)
    assert recipe_of(*flags) == expected
    assert recipe_of("--recipe", "fast", "--validation", "9").validation == 9
    assert recipe_of("--validation", "PublicTest").validation == "PublicTest"
    more = recipe_of("--brightness", "0.2", "--sharpness", "0.5", "--cutmix", "1")
    assert more == RECIPES["best"].override(brightness=0.2, sharpness=0.5, cutmix=1.0)


def test_recipe_flags_of_former_names_are_hidden_and_work():
    values = {"small_scale": 0.5, "small_share": 0.25, "plain_share": 0.75}
    assert values.keys() == FORMER_NAMES.keys()
    flags = [word for name, value in values.items() for word in (flag_of(name), str(value))]
    expected = {FORMER_NAMES[name]: value for name, value in values.items()}
    assert recipe_of(*flags) == RECIPES["best"].override(**expected)
    assert not any(flag_of(name) in recipe_parser().format_help() for name in values)


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        (["--epochs", "0"], ["--epochs", "1,000,000", "0"]),
        (["--mixup", "nan"], ["--mixup", "100", "nan"]),
        (["--cutmix", "-1"], ["--cutmix", "100", "-1"]),
        (["--brightness", "1"], ["--brightness", "1"]),
        (["--optimizer", "lion"], ["--optimizer", "muon", "lion"]),
        (["--recipe", "fixmatch"], ["fast", "best", "cnn-report", "dnn-report", "fixmatch"]),
    ],
)
def test_recipe_flags_out_of_bounds_are_named(flags, facts):
    with pytest.raises(InputError) as error:
        recipe_of(*flags)
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize("flags", [["--epochs", "x"], ["--mixup", "much"], ["--epochs", "1.5"]])
def test_recipe_flags_that_are_no_numbers_are_named(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        recipe_of(*flags)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in flags)
    assert error.count("\n") == 1


def test_recipe_without_a_default_keeps_the_base():
    parser = cli.parser("Go on.", "data")
    cli.add_recipe(parser, None, without=("epochs",))
    base = dataclasses.replace(RECIPES["cnn-report"], name="mine")
    assert cli.recipe(parser.parse_args(["train.csv", "--ema", "0.9"]), base) == base.override(
        ema=0.9
    )
    with pytest.raises(SystemExit):
        parser.parse_args(["train.csv", "--epochs", "3"])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (cli.whole_number(1, 5), "5", 5),
        (cli.whole_number(1, 5), "6", None),
        (cli.whole_number(1, 5), "1.0", None),
        (cli.number(0.5, 1), "0.5", 0.5),
        (cli.number(0.5, 1), "0.49", None),
        (cli.number(0.5, 1), "nan", None),
        (cli.number(0.5, 1), "x", None),
        (cli.names_of(("a", "b")), "b, a,b", ("b", "a")),
        (cli.names_of(("a", "b")), "a,c", None),
    ],
)
def test_types_accept_what_they_say(kind, text, value):
    if value is not None:
        assert kind(text) == value
        return
    with pytest.raises(argparse.ArgumentTypeError, match="Received"):
        kind(text)


def test_require_with_names_both_flags():
    args = argparse.Namespace(data=None, truth="t.csv", class_names=None)
    with pytest.raises(InputError, match="--truth requires --data"):
        cli.require_with(args, "--data", "--class-names", "--truth")
    cli.require_with(args, "--data", "--class-names")
    args.data = "test.csv"
    cli.require_with(args, "--data", "--truth")
    zero = argparse.Namespace(teacher=[], teacher_weight=0.0)
    with pytest.raises(InputError, match="--teacher-weight requires --teacher"):
        cli.require_with(zero, "--teacher", "--teacher-weight")


def test_read_training_data_follows_the_flags(tmp_path):
    rows = faces(6)
    data.write_csv(tmp_path / "train.csv", rows.images, labels=rows.labels)
    names = "a,b,c,d,e,f,g"
    arguments = [str(tmp_path / "train.csv"), "--class-names", names]
    dataset = cli.read_training_data(recipe_parser().parse_args(arguments))
    assert dataset.class_names == tuple(names.split(","))
    assert len(dataset) == 6


def test_load_checkpoint_follows_the_flags(tmp_path):
    path, names = tmp_path / "foreign.h5", ("a", "b", "c")
    build_model("dnn", (48, 48, 1), 3).save(path)
    parser = cli.parser("Ask.", "checkpoint", "--class-names", *cli.CHECKPOINT_FLAGS)
    flags = ["--class-names", "a,b,c", "--pixels", "symmetric"]
    loaded = cli.load_checkpoint(parser.parse_args([str(path), *flags]))
    assert (loaded.class_names, loaded.pixels) == (names, "symmetric")

    own = tmp_path / "own.h5"
    record = TrainingRecord(class_names=("x", "y", "z"), pixels="raw")
    checkpoints.save(loaded.model, own, record)
    args = parser.parse_args([str(path), *flags])
    assert cli.load_checkpoint(args, own, fill_in=True).class_names == ("x", "y", "z")
    assert cli.load_checkpoint(args, path, fill_in=True).pixels == "symmetric"
    with pytest.raises(InputError, match="--class-names"):
        cli.load_checkpoint(args, own)


def test_fronts_of_scripts_are_short():
    for name, most in (("dnn_train", 15), ("dnn_test", 15), ("train", 70), ("test", 70)):
        assert len((ROOT / f"{name}.py").read_text().splitlines()) <= most
