"""The flags the scripts share: one name and one default everywhere. No heavy import."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ferlab import pretrained
from ferlab.checkpoints import PIXEL_SCALES, SUFFIXES
from ferlab.errors import InputError
from ferlab.inference.engines import ENGINES
from ferlab.inference.tta import VIEWS
from ferlab.labels import EMOTIONS, parse_class_names
from ferlab.recipes import (
    FORMER_NAMES,
    Recipe,
    SemiRecipe,
    Setting,
    flag_of,
    get_recipe,
    recipe_names,
    settings,
)


class _Parser(argparse.ArgumentParser):
    """An argument error is one line, like every other error of the user's."""

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
            self.error("an argument is empty, perhaps a variable that is not set")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser(description: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A script's parser; `description` is its docstring, whose command line stays as written."""
    return _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=parents,
    )


def training_parser(
    description: str,
    default_recipe: str | None,
    *parents: argparse.ArgumentParser,
    kind: type[Recipe] = Recipe,
) -> argparse.ArgumentParser:
    """The parser of a script that trains: DATA, and the flags of data, recipe and run.

    kind: of the recipes that it takes.
    """
    images = [image_options()] if default_recipe else []  # a checkpoint knows its images' size
    recipe = recipe_options(default_recipe, kind=kind)
    own = parser(description, data_options(), *images, recipe, run_options(), *parents)
    own.add_argument("data", metavar="DATA", help="CSV, .npz or folder of class folders")
    return own


def prediction_parser(description: str) -> argparse.ArgumentParser:
    """The parser of a script that writes a submission with one checkpoint."""
    shared = (data_options(), checkpoint_options(), architecture_options(), prediction_options())
    own = parser(
        description, *shared, tta_options(), engine_options(), truth_options(), submission_options()
    )
    own.add_argument("data", metavar="DATA", help="CSV, .npz or folder of images")
    own.add_argument("result", type=submission_file, metavar="RESULT", help="submission to write")
    own.add_argument("checkpoint", type=model_file, metavar="MODEL", help="checkpoint to ask")
    return own


def data_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("data")
    group.add_argument(
        "--class-names",
        metavar="A,B,...",
        help="the classes in the order of their numbers (default: the seven emotions for a table, "
        "the sorted class folders for a folder); of a model that does not tell, the order of its "
        "outputs",
    )
    return options


def image_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("images of a folder")
    group.add_argument(
        "--image-size",
        type=whole_number(1, 4096),
        metavar="PIXELS",
        help="side they are brought to (default: 48)",
    )
    group.add_argument(
        "--channels", type=int, choices=(1, 3), help="1 for grey, 3 for colour (default: 1)"
    )
    return options


def recipe_options(
    default: str | None, *, kind: type[Recipe] = Recipe, several: bool = False
) -> argparse.ArgumentParser:
    """The recipe and the settings that a flag overrides; without a default, a checkpoint's own.

    several: `--recipes` instead of `--recipe`, for a command that trains by many.
    """
    options = argparse.ArgumentParser(add_help=False)
    options.set_defaults(recipe_kind=kind)
    group = options.add_argument_group("recipe")
    if default:
        group.add_argument(
            "--recipes" if several else "--recipe",
            default=default,
            metavar="NAME,NAME,..." if several else "NAME",
            help=f"{' or '.join(recipe_names(kind))} (default: {default}); the "
            "flags below override it",
        )
    without = {"teacher_weight"} if default else {"teacher_weight", "epochs"}
    _add_settings(group, kind, without=without)
    return options


def semi_supervised_options(*, several_rounds: bool = True) -> argparse.ArgumentParser:
    """How unlabelled images are learned from; the flags override the recipe."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("unlabelled images")
    _add_settings(group, SemiRecipe, without=set() if several_rounds else {"rounds"})
    group.add_argument(
        "--control",
        action="store_true",
        help="also train on the given labels alone for as many steps, and say what the unlabelled "
        "images were worth",
    )
    return options


def _add_settings(
    group: argparse._ArgumentGroup, kind: type[Recipe], *, without: Collection[str] = ()
) -> None:
    """Add the flags of the settings that are declared for the group, and their former names."""
    for name, setting in settings(kind).items():
        if setting.group != group.title or not setting.flag or name in without:
            continue
        if setting.supervised_only and kind is SemiRecipe:
            continue
        how = _flag_of_setting(setting)
        group.add_argument(flag_of(name), help=setting.help, **how)
        for former in (old for old, new in FORMER_NAMES.items() if new == name):
            group.add_argument(flag_of(former), dest=name, help=argparse.SUPPRESS, **how)


def _flag_of_setting(setting: Setting) -> dict[str, Any]:
    """What argparse needs to know; whether the value is accepted the recipe itself checks."""
    if setting.is_switch:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": setting.parse or _typed(type(setting.default)), "metavar": setting.metavar}


def _typed(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            expected = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text!r}") from error

    return parse


def run_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, parents=[place_options()])
    group = options.add_argument_group("randomness and epochs")
    group.add_argument(
        "--seed", type=whole_number(0), metavar="N", help="(default: 0, or a checkpoint's own)"
    )
    group.add_argument(
        "--keep-epochs",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="keep a checkpoint of each of the last N epochs (default: 0)",
    )
    return options


def place_options(
    default: str = "in runs/, the folder where a training with the same settings was stopped, "
    "else a new one",
) -> argparse.ArgumentParser:
    """Where a training leaves what comes of it. default: of the run folder, in words."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("run")
    group.add_argument(
        "--out-dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the checkpoint goes (default: here)",
    )
    group.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help=f"config, history and log of the run (default: {default})",
    )
    return options


def checkpoint_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("a checkpoint that does not tell")
    group.add_argument(
        "--pixels",
        choices=tuple(PIXEL_SCALES),
        help="how it was trained: "
        + "; ".join(f"{name}: {meaning}" for name, meaning in PIXEL_SCALES.items())
        + " (default: raw if it scales them itself, else unit)",
    )
    return options


def architecture_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("weights alone")
    group.add_argument(
        "--architecture",
        type=Path,
        metavar="JSON",
        help="model.to_json() of a file that holds weights alone (default: found beside it)",
    )
    return options


def prediction_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("prediction")
    group.add_argument(
        "--batch-size", type=whole_number(1), default=256, metavar="N", help="(default: 256)"
    )
    return options


def tta_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("test-time augmentation")
    group.add_argument(
        "--tta",
        choices=tuple(VIEWS),
        default="none",
        help="the mean over an image and its mirror image, or over ten moved and mirrored views "
        "(default: none)",
    )
    return options


def engine_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        default="keras",
        help="what runs the network: "
        + "; ".join(f"{name}: {meaning}" for name, meaning in ENGINES.items())
        + " (default: keras)",
    )
    return options


def truth_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("score")
    group.add_argument(
        "--truth",
        metavar="FILE",
        help="`id,label` rows to score the submission against; others go unscored",
    )
    return options


def submission_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("submission")
    group.add_argument(
        "--probabilities",
        action="store_true",
        help="also write the probability of each class, a column each",
    )
    return options


def cache_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("cache")
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="where members' probabilities are kept (default: ~/.cache/ferlab/votes)",
    )
    return options


def held_out_options() -> argparse.ArgumentParser:
    """Which rows may decide about trained models."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("validation rows")
    group.add_argument(
        "--usage",
        metavar="NAME",
        help="rows to use, such as PublicTest (default: those neither for training nor for the "
        "final score, else the training rows); rows that a model was trained on are left out",
    )
    group.add_argument(
        "--truth", metavar="FILE", help="`id,label` rows with the labels that the data lacks"
    )
    return options


def scoring_options() -> argparse.ArgumentParser:
    """Which rows models are scored on, where the score decides nothing."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("rows to score")
    group.add_argument(
        "--usage",
        metavar="NAME",
        help="such as PrivateTest for the final score (default: those neither for training nor "
        "for the final score, else the training rows); rows that a model was trained on are left "
        "out",
    )
    group.add_argument(
        "--truth", metavar="FILE", help="`id,label` rows with the labels that the data lacks"
    )
    return options


def reference_options() -> argparse.ArgumentParser:
    """The rows, beside the validation rows, on which a shipped model's accuracy is stated."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("rows to score")
    group.add_argument(
        "--data",
        metavar="DATA",
        help="CSV, .npz or folder with labelled rows that are neither for training nor for the "
        "final score, such as PublicTest; others in it are left aside",
    )
    group.add_argument(
        "--truth", metavar="FILE", help="`id,label` rows with the labels that --data lacks"
    )
    return options


def require_reference(args: argparse.Namespace) -> None:
    """Raise InputError where `reference_options` do not go together."""
    if args.truth and not args.data:
        raise InputError("--truth brings the labels of --data, which is missing")


def training_command(
    recipe: Recipe,
    seed: int,
    source: str,
    class_names: Sequence[str] = EMOTIONS,
    image_shape: Sequence[int] = (48, 48, 1),
    teachers: Iterable[str] = (),
) -> str:
    """What a user types for a training. Raises InputError for a recipe that no flags lead to.

    teachers: names of shipped models.
    """
    words = ["python", "train.py", Path(source).name, "--recipe", recipe.name, "--seed", str(seed)]
    named, declared = get_recipe(recipe.name), settings(type(recipe))
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if value == getattr(named, field.name):
            continue
        if field.name not in declared or not declared[field.name].flag:
            raise InputError(f"no flag sets the {field.name} of a recipe. Received: {value}")
        flag = flag_of(field.name)
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, str(value)]
    if tuple(class_names) != EMOTIONS and not Path(source).is_dir():
        words += ["--class-names", ",".join(class_names)]
    if tuple(image_shape) != (48, 48, 1):
        words += ["--image-size", str(image_shape[0]), "--channels", str(image_shape[2])]
    for teacher in teachers:
        words += ["--teacher", f"{pretrained.PREFIX}{teacher}"]
    return shlex.join(words)


def chosen_recipe(args: argparse.Namespace, base: Recipe | None = None) -> Recipe:
    """`base`, or the recipe that `--recipe` names, with the flags' settings. Raises InputError."""
    base = base or get_recipe(args.recipe, args.recipe_kind)
    settings = {field.name: getattr(args, field.name, None) for field in dataclasses.fields(base)}
    return base.override(**settings)


def chosen_class_names(args: argparse.Namespace) -> tuple[str, ...] | None:
    return parse_class_names(args.class_names) if args.class_names else None


def chosen_image_shape(args: argparse.Namespace) -> tuple[int, int, int] | None:
    """None, unless a flag asks for a shape of its own."""
    if args.image_size is None and args.channels is None:
        return None
    size = 48 if args.image_size is None else args.image_size
    return (size, size, args.channels or 1)


def submission_file(text: str) -> Path:
    """An argparse type: a path to write to. Raises InputError for what is called like a model."""
    if text.endswith(SUFFIXES):
        raise InputError(f"{text}: is a model's name, and a submission would replace the model")
    return Path(text)


def model_file(text: str) -> Path:
    """An argparse type: the path of a model, also for `pretrained:NAME`. Raises InputError."""
    return pretrained.resolve(text)


def names_of(choices: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """An argparse type: comma-separated names, each one of the choices; repetitions are dropped."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(map(str.strip, text.split(","))))
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(
                    f"expected names from {', '.join(choices)}. Received: {name!r}"
                )
        return names

    return parse


def whole_number(low: int, high: int = 2**32 - 1) -> Callable[[str], int]:
    """An argparse type: a whole number from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {low:,} to {high:,}. Received: {text!r}"
            )
        return value

    return parse
