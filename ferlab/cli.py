"""The arguments that scripts and commands share, in one table. No heavy import.

    parser = cli.parser(__doc__, "data", "checkpoint", "--pixels", "--architecture")
    cli.add_recipe(parser, "best")

The flags of a recipe follow from the settings declared in `ferlab/recipes.py`.
"""

import argparse
import dataclasses
import math
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ferlab import pretrained
from ferlab.checkpoints import PIXEL_SCALES, SUFFIXES
from ferlab.errors import InputError
from ferlab.inference.engines import ENGINES
from ferlab.inference.tta import VIEWS
from ferlab.interpretation import METHODS
from ferlab.labels import EMOTIONS, parse_class_names
from ferlab.recipes import (
    FORMER_NAMES,
    MAX_EPOCHS,
    Recipe,
    SemiRecipe,
    Setting,
    flag_of,
    get_recipe,
    recipe_names,
    settings,
)

if TYPE_CHECKING:
    from ferlab.checkpoints import Checkpoint
    from ferlab.data import Dataset


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all user errors."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        words = sys.argv[1:] if args is None else args
        if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
            self.error("an argument is empty, perhaps a variable that is not set")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")

    def group(self, heading: str) -> argparse._ArgumentGroup:
        """The group with that heading in --help, created if necessary."""
        for group in self._action_groups:
            if group.title == heading:
                return group
        return self.add_argument_group(heading)


def whole_number(low: int, high: int = 2**32 - 1) -> Callable[[str], int]:
    """An argparse type: a whole number from low to high."""
    return _number(int, f"a whole number from {low:,} to {high:,}", low, high)


def number(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number from low to high."""
    return _number(float, f"a number from {low:g} to {high:g}", low, high)


def _number(
    kind: Callable[[str], Any], expected: str, low: float = -math.inf, high: float = math.inf
) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text!r}")
        return value

    return parse


_TYPES: dict[type, Callable[[str], Any]] = {
    int: _number(int, "a whole number"),
    float: _number(float, "a number"),
    str: str,
}


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


def submission_file(text: str) -> Path:
    """An argparse type: a path to write to. Raises InputError for the name of a model."""
    if text.endswith(SUFFIXES):
        raise InputError(f"{text}: is the name of a model, which the submission would replace")
    return Path(text)


def model_file(text: str) -> Path:
    """An argparse type: the path of a model, or `pretrained:NAME`. Raises InputError."""
    return pretrained.resolve(text)


def _meanings(table: dict[str, str]) -> str:
    return "; ".join(f"{name}: {meaning}" for name, meaning in table.items())


FOLDER_FLAGS = ("--class-names", "--image-size", "--channels")
CHECKPOINT_FLAGS = ("--pixels", "--architecture")
SALIENCY_FLAGS = ("--images", "--saliency", "--layer", "--samples")
PREDICTION_FLAGS = ("--batch-size", "--tta", "--engine")
RUN_FLAGS = ("--out-dir", "--run-dir", "--keep-epochs", "--seed")

POSITIONALS: dict[str, dict[str, Any]] = {
    "data": {"metavar": "DATA", "help": "CSV, .npz or folder"},
    "test": {"metavar": "TEST", "help": "unlabelled CSV, .npz or folder"},
    "result": {"metavar": "RESULT", "type": submission_file, "help": "submission to write"},
    "checkpoint": {"metavar": "MODEL", "type": model_file, "help": "checkpoint"},
    "predictor": {
        "metavar": "PREDICTOR",
        "type": model_file,
        "help": "checkpoint that labels the unlabelled images",
    },
    "existing": {"metavar": "EXISTING", "type": model_file, "help": "checkpoint to train further"},
    "previous_epoch": {
        "metavar": "PREVIOUS_EPOCH",
        "type": whole_number(0, MAX_EPOCHS),
        "help": "epochs that the checkpoint has been trained for",
    },
    "last_epoch": {
        "metavar": "LAST_EPOCH",
        "type": whole_number(1, MAX_EPOCHS),
        "help": "total number of epochs after this training, including the checkpoint's",
    },
    "training": {"metavar": "TRAIN", "help": "data that the model was trained on"},
}

FLAGS: dict[str, dict[str, dict[str, Any]]] = {  # by heading
    "data": {
        "--class-names": {
            "metavar": "A,B,...",
            "help": "class names in the order of their numbers (default: the seven emotions for a "
            "table, the sorted class folders for a folder); for a checkpoint that does not record "
            "its class names, the order of its outputs",
        },
        "--image-size": {
            "type": whole_number(1, 4096),
            "metavar": "PIXELS",
            "help": "side to resize the images of a folder to (default: 48)",
        },
        "--channels": {
            "type": int,
            "choices": (1, 3),
            "help": "channels of the images of a folder: 1 for grey, 3 for colour (default: 1)",
        },
        "--data": {"metavar": "DATA", "help": "CSV, .npz or folder with labelled rows"},
        "--truth": {
            "metavar": "FILE",
            "help": "CSV with `id,label` rows: labels for rows of the data that have none",
        },
        "--usage": {
            "metavar": "NAME",
            "help": "rows to use, by their usage (default: the public ones, such as PublicTest or "
            "val, else the training rows)",
        },
    },
    "checkpoint": {
        "--pixels": {
            "choices": tuple(PIXEL_SCALES),
            "help": "pixel scale of a checkpoint that does not record it. "
            f"{_meanings(PIXEL_SCALES)} (default: raw for a model that rescales, else unit)",
        },
        "--architecture": {
            "type": Path,
            "metavar": "JSON",
            "help": "model.to_json() for a weights-only file (default: a JSON file beside it)",
        },
    },
    "prediction": {
        "--batch-size": {
            "type": whole_number(1),
            "default": 256,
            "metavar": "N",
            "help": "images per step (default: 256)",
        },
        "--tta": {
            "choices": tuple(VIEWS),
            "default": "none",
            "help": "test-time augmentation: mean over an image and its mirror image, or over ten "
            "shifted and mirrored views (default: none)",
        },
        "--engine": {
            "choices": tuple(ENGINES),
            "default": "keras",
            "help": f"engine that runs the network. {_meanings(ENGINES)} (default: keras)",
        },
        "--cache-dir": {
            "type": Path,
            "metavar": "DIR",
            "help": "folder for the members' probabilities (default: ~/.cache/ferlab/votes)",
        },
    },
    "saliency": {
        "--images": {
            "type": lambda text: tuple(map(str.strip, text.split(","))),
            "metavar": "ROW,ROW,...",
            "help": "rows of DATA to explain, counted from 0, or their ids (default: the first "
            "correctly classified row of each class)",
        },
        "--saliency": {
            "type": names_of(METHODS),
            "metavar": "NAME,NAME,...",
            "help": "methods: "
            + ", ".join(f"{name} ({method.help})" for name, method in METHODS.items())
            + " (default: those that suit the model)",
        },
        "--layer": {
            "metavar": "NAME",
            "help": "layer whose maps gradcam and layercam use (default: the last convolution)",
        },
        "--samples": {
            "type": whole_number(1, 10_000),
            "default": 10,
            "metavar": "N",
            "help": "noisy copies for smoothgrad; 50 take five times as long and give smoother "
            "maps (default: 10)",
        },
    },
    "output": {
        "--probabilities": {
            "action": "store_true",
            "help": "also write the probability of each class to the submission",
        },
        "--out-dir": {
            "type": Path,
            "default": Path(),
            "metavar": "DIR",
            "help": "folder for the files to write (default: the current one)",
        },
        "--run-dir": {
            "type": Path,
            "metavar": "DIR",
            "help": "folder for config, history and log of the run (default: in runs/, the folder "
            "of a stopped training with the same settings, else a new one)",
        },
        "--keep-epochs": {
            "type": whole_number(0),
            "default": 0,
            "metavar": "N",
            "help": "also keep the checkpoints of the last N epochs (default: 0)",
        },
    },
    "randomness": {
        "--seed": {
            "type": whole_number(0),
            "metavar": "N",
            "help": "random seed (default: 0, or the checkpoint's)",
        },
    },
    "distillation": {
        "--teacher": {
            "type": model_file,
            "action": "append",
            "default": [],
            "metavar": "MODEL",
            "help": "checkpoint, or vote (a model_list.txt), whose probabilities are learned in "
            "addition to the labels; several teachers form one vote",
        },
    },
    "unlabelled images": {
        "--control": {
            "action": "store_true",
            "help": "also train a supervised control on the labels for as many steps, and print "
            "the difference",
        },
    },
}


def parser(description: str, *names: str) -> Parser:
    """The parser of a script, with arguments of the table in the order of --help.

    description: the script's docstring; its line breaks are preserved.
    """
    result = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(result, *names)
    return result


def command(
    subparsers: "argparse._SubParsersAction",
    name: str,
    *names: str,
    help: str,
    description: str,
    run: Callable[[argparse.Namespace], None],
) -> Parser:
    """The parser of a command of `python -m ferlab`, with arguments of the table.

    help: for the menu. description: for the command's own --help. run: does the work.
    """
    result = subparsers.add_parser(name, help=help, description=description)
    result.set_defaults(run=run)
    add(result, *names)
    return result


def add(parser: Parser, *names: str) -> None:
    """Add arguments of the table: positional ones by name, flags with their dashes."""
    for name in names:
        if not name.startswith("-"):
            parser.add_argument(name, **POSITIONALS[name])
            continue
        (heading,) = (heading for heading, flags in FLAGS.items() if name in flags)
        parser.group(heading).add_argument(name, **FLAGS[heading][name])


def add_recipe(
    parser: Parser,
    default: str | None,
    *,
    kind: type[Recipe] = Recipe,
    flag: str = "--recipe",
    without: Collection[str] = (),
) -> None:
    """Add the flag that names a recipe, and a flag for each of its settings.

    default: a recipe's name; None if a checkpoint has the recipe, for no --recipe flag.
    without: settings that get no flag.
    """
    parser.set_defaults(recipe_kind=kind)
    if default:
        parser.group("recipe").add_argument(
            flag,
            default=default,
            metavar="NAME" if flag == "--recipe" else "NAME,NAME,...",
            help=f"{', '.join(recipe_names(kind))} (default: {default}); the flags below override "
            "its settings",
        )
    for name, setting in settings(kind).items():
        is_refused = setting.supervised_only and kind is SemiRecipe
        if setting.flag and not is_refused and name not in without:
            _add_setting(parser.group(setting.group), name, setting)


def _add_setting(group: argparse._ArgumentGroup, name: str, setting: Setting) -> None:
    """Add a setting's flag, and its former names without help. The recipe validates the value."""
    options: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
    if not setting.is_switch:
        options = {
            "type": setting.parse or _TYPES[type(setting.default)],
            "metavar": setting.metavar,
        }
    group.add_argument(flag_of(name), help=setting.help, **options)
    for former in (old for old, new in FORMER_NAMES.items() if new == name):
        group.add_argument(flag_of(former), dest=name, help=argparse.SUPPRESS, **options)


def require_with(args: argparse.Namespace, needed: str, *flags: str) -> None:
    """Raise InputError if any of these flags is set without the flag it requires.

    >>> require_with(argparse.Namespace(data=None, truth="t.csv"), "--data", "--truth")
    Traceback (most recent call last):
    ferlab.errors.InputError: --truth requires --data
    """

    def value(flag: str) -> Any:
        return getattr(args, flag[2:].replace("-", "_"))

    if value(needed):
        return
    for flag in flags:
        if value(flag) is not None and value(flag) is not False:
            raise InputError(f"{flag} requires {needed}")


def recipe(args: argparse.Namespace, base: Recipe | None = None) -> Recipe:
    """`base`, or the recipe that `--recipe` names, with the flags' settings. Raises InputError."""
    base = base or get_recipe(args.recipe, args.recipe_kind)
    return base.override(**{name: getattr(args, name, None) for name in settings(type(base))})


def class_names(args: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of `--class-names`. Raises InputError if they are invalid."""
    return parse_class_names(args.class_names) if args.class_names else None


def image_shape(args: argparse.Namespace) -> tuple[int, int, int] | None:
    """The shape of `--image-size` and `--channels`; None without either."""
    if args.image_size is None and args.channels is None:
        return None
    size = 48 if args.image_size is None else args.image_size
    return (size, size, args.channels or 1)


def read_training_data(args: argparse.Namespace) -> "Dataset":
    """Read DATA for training, with the class names and image shape of the flags."""
    from ferlab import data

    return data.read(
        args.data, role="train", class_names=class_names(args), image_shape=image_shape(args)
    )


def load_checkpoint(
    args: argparse.Namespace,
    path: Path | None = None,
    *,
    with_optimizer: bool = False,
    fill_in: bool = False,
) -> "Checkpoint":
    """MODEL, or the checkpoint at `path`, read with --pixels, --class-names and --architecture.

    fill_in: use --pixels and --class-names only where the checkpoint does not record them, for
        commands that open several. Otherwise they must agree with it.
    """
    from ferlab import checkpoints

    path = path or args.checkpoint
    flags = {
        "pixels": args.pixels,
        "class_names": class_names(args),
        "architecture": getattr(args, "architecture", None),
    }
    if fill_in:
        record = checkpoints.read_record(path)
        flags |= {name: None for name in ("pixels", "class_names") if getattr(record, name)}
    return checkpoints.load(path, with_optimizer=with_optimizer, **flags)


def training_command(
    recipe: Recipe,
    seed: int,
    source: str,
    class_names: Sequence[str] = EMOTIONS,
    image_shape: Sequence[int] = (48, 48, 1),
    teachers: Iterable[str] = (),
) -> str:
    """The command line of a training. Raises InputError for a recipe that flags cannot express.

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
