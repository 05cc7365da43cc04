"""Recipes: every declared setting is checked, recorded and read again; epochs fall into phases."""

import dataclasses
import json
import math

import pytest

from ferlab import recipes
from ferlab.errors import InputError
from ferlab.recipes import RECIPES, Phase, Recipe, SemiRecipe, from_record, settings

RECIPE, SEMI = RECIPES["cnn-report"], RECIPES["semi-report"]
KINDS = [Recipe, SemiRecipe]
HALVES = (Phase(range(5), trainable="head", learning_rate=1e-3), Phase(range(5, 15)))
TUNED = RECIPE.override(epochs=15, learning_rate=1e-4, explicit_phases=HALVES)


def outside(setting):
    """A value just outside the bounds of a setting, for each bound and each kind of mistake."""
    step = 1 if setting.is_whole else 1e-9
    if setting.low is not None:
        yield setting.low if setting.above else setting.low - step
        yield from (True, "3", None, math.nan, math.inf)
    if setting.high is not None:
        yield setting.high if setting.below else setting.high + step * setting.high
    if setting.is_whole and setting.low is not None:
        yield float(setting.default)
    if setting.is_switch:
        yield from (0, "yes")
    if setting.choices:
        yield "lion"


def at_the_ends(setting):
    if setting.low is not None and not setting.above:
        yield setting.low
    if setting.high is not None and not setting.below:
        yield setting.high
    yield from setting.choices


@pytest.mark.parametrize("kind", KINDS)
def test_settings_accept_their_ends_and_refuse_what_lies_outside(kind):
    for name, setting in settings(kind).items():
        setting.check(name, setting.default)
        for value in at_the_ends(setting):
            setting.check(name, value)
        for value in outside(setting):
            with pytest.raises(InputError) as error:
                setting.check(name, value)
            assert recipes.flag_of(name) in str(error.value)
            assert str(error.value).endswith(f"Received: {value}")


@pytest.mark.parametrize("kind", KINDS)
def test_settings_all_have_bounds_choices_or_a_parser_and_a_help(kind):
    for name, setting in settings(kind).items():
        bounded = setting.low is not None or setting.choices or setting.is_switch or setting.parse
        assert bounded, name
        assert setting.help, name
        assert bool(setting.metavar) == (setting.flag and not setting.is_switch), name
    plain = {"name", "model", "explicit_phases"}
    assert {field.name for field in dataclasses.fields(kind)} == plain | set(settings(kind))


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"rotation": 200}, ["--rotation", "0 to 180", "200"]),
        ({"epochs": 0}, ["--epochs", "1 to 1,000,000", "0"]),
        ({"epochs": 10**400}, ["--epochs"]),
        ({"learning_rate": 0.0}, ["--learning-rate", "above 0", "0.0"]),
        ({"optimizer": "lion"}, ["--optimizer", "adam, adamw, muon, sgd", "lion"]),
        ({"progressive_scale": 0.5}, ["--progressive-scale", "--progressive-fraction", "0.5"]),
    ],
)
def test_recipe_names_flag_bounds_and_value(changes, facts):
    with pytest.raises(InputError) as error:
        RECIPE.override(**changes)
    assert all(fact in str(error.value) for fact in facts)


def test_semi_recipe_refuses_what_is_for_supervised_training():
    supervised = [name for name, each in settings(Recipe).items() if each.supervised_only]
    assert {"mixup", "label_smoothing", "no_aug_fraction"} <= set(supervised)
    for name in supervised:
        pair = {"progressive_scale": 0.25, "progressive_fraction": 0.25}
        changes = pair if name in pair else {name: 0.25}
        RECIPE.override(**changes)
        with pytest.raises(InputError, match="semi-supervised"):
            SEMI.override(**changes)
    with pytest.raises(InputError, match="phases"):
        SEMI.override(explicit_phases=(Phase(range(20)),))


def test_semi_recipe_thresholds_name_the_class():
    with pytest.raises(InputError, match=r"--class-thresholds .* 0 to 1.* happy=1\.5"):
        SEMI.override(class_thresholds={"sad": 0.5, "happy": 1.5})
    with pytest.raises(InputError, match="--class-thresholds"):
        SEMI.override(class_thresholds=["happy"])


def test_from_record_reads_what_was_recorded():
    recorded = [*RECIPES.values(), TUNED, SEMI.override(class_thresholds={"sad": 0.9}, rounds=3)]
    for recipe in recorded:
        assert recipes.from_record(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_from_record_reads_former_names():
    record = RECIPES["best"].as_dict()
    for former, name in recipes.FORMER_NAMES.items():
        record[former] = record.pop(name)
    del record["explicit_phases"]
    assert {"small_scale", "small_share", "plain_share"} <= record.keys()
    assert recipes.from_record(record) == RECIPES["best"]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"momentum": 0.9}, "momentum"),
        ({"method": "magic"}, "magic"),
        ({"epochs": "many"}, "--epochs"),
        ({"explicit_phases": [{"epochs": 3}]}, "explicit_phases"),
        ({"explicit_phases": 5}, "explicit_phases"),
        ({"explicit_phases": [{"epochs": [0, 20], "trainable": "tail"}]}, "tail"),
    ],
)
def test_from_record_refuses_what_is_not_known_here(changes, fact):
    with pytest.raises(InputError, match=fact):
        recipes.from_record({**RECIPE.as_dict(), **changes})


def test_from_record_requires_name_and_model():
    with pytest.raises(InputError, match="model"):
        recipes.from_record({"name": "fast"})


def test_phases_follow_from_the_settings():
    settings = {"progressive_scale": 0.5, "progressive_fraction": 0.4, "no_aug_fraction": 0.2}
    recipe = RECIPE.override(epochs=10, **settings)
    assert recipe.phases() == [
        Phase(range(4), scale=0.5),
        Phase(range(4, 8)),
        Phase(range(8, 10), augment=False),
    ]
    assert [phase.epochs for phase in recipe.phases(6)] == [range(6, 8), range(8, 10)]
    both = recipe.override(progressive_fraction=0.9).phases(7)
    assert both == [
        Phase(range(7, 8), scale=0.5),
        Phase(range(8, 9), scale=0.5, augment=False),
        Phase(range(9, 10), augment=False),
    ]
    assert RECIPE.phases() == [Phase(range(RECIPE.epochs))]
    assert recipe.phases(10) == []


def test_phases_of_the_named_recipes_are_the_published_ones():
    """Trainings and checkpoints of earlier versions depend on the same rounding."""
    best = [Phase(range(16), scale=2 / 3), Phase(range(16, 32)), Phase(range(32, 40), None, False)]
    assert RECIPES["best"].phases() == best
    assert RECIPES["fast"].phases() == [Phase(range(8), scale=2 / 3), Phase(range(8, 16))]
    ends = [phase.epochs.stop for phase in RECIPES["best"].override(epochs=9).phases()]
    assert ends == [4, 7, 9]


def test_phases_can_be_explicit():
    assert TUNED.phases() == list(HALVES)
    assert TUNED.phases(3)[0] == dataclasses.replace(HALVES[0], epochs=range(3, 5))
    assert TUNED.phases(9) == [Phase(range(9, 15))]


def test_phases_that_are_explicit_follow_the_epochs():
    assert [phase.epochs for phase in TUNED.override(epochs=20).phases()] == [
        range(5),
        range(5, 20),
    ]
    assert [phase.epochs for phase in TUNED.override(epochs=4).phases()] == [range(4)]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"explicit_phases": HALVES[1:]}, "epoch 0"),
        ({"explicit_phases": (HALVES[0], Phase(range(6, 15)))}, "epoch 5"),
        ({"explicit_phases": HALVES[:1]}, "epoch 15"),
        ({"explicit_phases": (*HALVES, Phase(range(15, 15)))}, "one or more"),
        ({"no_aug_fraction": 0.5}, "--no-aug-fraction"),
        ({"progressive_scale": 0.5, "progressive_fraction": 0.5}, "--progressive-scale"),
    ],
)
def test_phases_that_are_explicit_must_cover_the_epochs(changes, fact):
    with pytest.raises(InputError, match=fact):
        TUNED.override(**changes)


@pytest.mark.parametrize("wrong", [{"scale": 1.5}, {"trainable": "tail"}, {"learning_rate": 0.0}])
def test_phase_refuses_what_it_cannot_be(wrong):
    with pytest.raises(InputError, match=str(*wrong.values())):
        Phase(range(3), **wrong)


def test_without_augmentation_leaves_flips_and_shifts():
    best = RECIPES["best"]
    plain = best.without_augmentation()
    changed = {name for name in settings(Recipe) if getattr(best, name) != getattr(plain, name)}
    assert changed == {"rotation", "zoom", "contrast", "erasing", "mixup"}
    more = RECIPE.override(brightness=0.2, sharpness=0.5, cutmix=1.0)
    assert more.without_augmentation() == RECIPE


def test_from_record_ignores_the_teacher_weight_of_a_semi_supervised_recipe():
    record = {**RECIPES["semi-report"].as_dict(), "teacher_weight": 0.7}
    assert from_record(record) == RECIPES["semi-report"]
    assert from_record({**RECIPES["fast"].as_dict(), "teacher_weight": 0.7}).teacher_weight == 0.7
