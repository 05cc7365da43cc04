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
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ferlab import files, pretrained
from ferlab.checkpoints import PIXEL_SCALES, SUFFIXES, read_record, require_checkpoint
from ferlab.errors import InputError, did_you_mean
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


# names of arguments
_MODELS = ("checkpoint", "predictor", "existing", "models", "model", "members", "places", "teacher")
_DATA = ("data", "test", "training", "train")
_TEXTS = {
    "truth": "a table",
    "architecture": "the JSON text of model.to_json()",
    "model_list": "text with lines of `weight path`",
}
_PACKED = ("a zip archive", "a gzip archive")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all user errors."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        words = sys.argv[1:] if args is None else args
        if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
            self.error("an argument is empty, perhaps a variable that is not set")
        return super().parse_known_args(words, namespace)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = getattr(namespace, "parser", self)
            flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
            flag = next((word for word in unknown if word.startswith("-")), unknown[0])
            nearest = did_you_mean(flag.partition("=")[0], flags)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{nearest}")
        return namespace

    def _check_value(self, action, value) -> None:
        choices = list(map(str, action.choices or ()))
        if choices and str(value) not in choices:
            raise argparse.ArgumentError(
                action,
                f"expected one of {', '.join(choices)}. Received: {value!r}"
                f"{did_you_mean(str(value), choices)}",
            )

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:
        if message:  # argparse would pass over an OSError
            (file or sys.stderr).write(message)

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
            is_valid = low <= value <= high or low == -math.inf  # then a recipe refuses nan
        except ValueError:
            is_valid = False
        if not is_valid:
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
                    f"{did_you_mean(name, choices)}"
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


def say(line: str) -> None:
    """Print a line at once, so that it is not lost if the process is killed."""
    print(line, flush=True)


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
    result.set_defaults(run=run, parser=result)
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


def arguments(parser: Parser) -> argparse.Namespace:
    """Parse the command line, and refuse at once what the files themselves show to be a mistake.

    Also removes what killed scripts left where this one works. Raises InputError.
    """
    args = parser.parse_args()
    _sweep(args)
    positionals = getattr(args, "parser", parser)._get_positional_actions()
    order = " ".join(str(action.metavar) for action in positionals)
    for name in _MODELS:
        for path in _values(args, name):
            _require_model(Path(path), name, args, order)
    for name in _DATA:
        for path in _values(args, name):
            _require_data(path, order)
    for name in _TEXTS:
        for path in _values(args, name):
            _require_text(path, name)
    if getattr(args, "class_names", None):
        class_names(args)
    _require_epochs(args)
    return args


def _values(args: argparse.Namespace, name: str) -> list[str | Path]:
    """The paths that an argument gives."""
    value = getattr(args, name, None)
    values = value if isinstance(value, list | tuple) else [value]
    return [value for value in values if isinstance(value, str | Path)]


def _require_model(path: Path, name: str, args: argparse.Namespace, order: str) -> None:
    """Raise InputError for what is not a checkpoint or, where several may be, a list of them."""
    if name == "places" and path.is_dir():  # a run
        return
    if path.suffix == ".txt" and path.is_file():
        if name in ("members", "teacher"):
            return
        raise InputError(f"{path}: is a list of models, for test_by_vote.py; expected one model")
    try:
        require_checkpoint(path)
    except InputError as error:
        others = [other for kind in _DATA for other in _values(args, kind)]
        is_swapped = any(Path(other).is_file() and _is_model(other) for other in others)
        raise InputError(f"{error}{f'; the order is {order}' if is_swapped else ''}") from error


def _require_data(path: str | Path, order: str) -> None:
    """Raise InputError for a path that cannot be a data set."""
    from ferlab import data

    if Path(path).is_file() and _is_model(path):
        raise InputError(f"{path}: is a model; expected CSV, .npz or folder, the order is {order}")
    data.require_readable(path)


def _require_text(path: str | Path, name: str) -> None:
    """Raise InputError for a file that is no text, nor a table that is packed."""
    argument = name.upper() if name == "model_list" else f"--{name}"
    try:
        kind = files.sniff(path)
    except InputError as error:
        raise InputError(f"{argument}: {error}") from error
    is_packed_table = name == "truth" and kind in _PACKED
    if kind not in (None, "an empty file", "binary data") and not is_packed_table:
        raise InputError(f"{argument}: {path}: is {kind}; expected {_TEXTS[name]}")


def _is_model(path: str | Path) -> bool:
    kind = files.sniff(path)
    if kind == "an HDF5 file":
        return True
    try:
        return kind == "a zip archive" and require_checkpoint(Path(path)) == "keras"
    except InputError:  # another archive
        return False


def _require_epochs(args: argparse.Namespace) -> None:
    """Raise InputError for numbers of epochs that the checkpoint to train further contradicts."""
    first, last = (getattr(args, name, None) for name in ("previous_epoch", "last_epoch"))
    if first is None or last is None:
        return
    if first >= last:
        raise InputError(f"the last epoch must be above the first. Received: {first} and {last}")
    path = getattr(args, "existing", None) or args.checkpoint
    epochs = read_record(path).epochs
    if epochs not in (0, first):
        raise InputError(f"{path}: was trained for {epochs} epochs. Received: {first}")


def _sweep(args: argparse.Namespace) -> None:
    """Remove what killed processes left in the folders that the arguments name, and in `runs/`."""
    folders = {Path(), *Path(files.RUNS_DIR).glob("*"), *Path(files.RUNS_DIR).glob("*/*")}
    for value in vars(args).values():
        if isinstance(value, Path):
            folders |= {value, value.parent}
    for folder in folders:
        files.sweep(folder)
    pretrained.remove_unfinished()


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
    checkpoint = checkpoints.load(path, with_optimizer=with_optimizer, **flags)
    if checkpoint.pixels_note:
        print(checkpoint.pixels_note)
    return checkpoint


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
