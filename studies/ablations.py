"""Ablations of the recipes: one change at a time, compared with the same base.

    python studies/ablations.py train FER_DIR OUT_DIR [--rows NAME,...] [--seeds N,...] [--epochs N]
    python studies/ablations.py table OUT_DIR > studies/ablations.md

FER_DIR has train.csv, test.csv and public_truth.csv. Seed s holds out the s-th 2,400 rows of
train.csv for validation (a cross-validation of the training set); a row is scored on those and on
the public half of test.csv. Images are resized to 32x32, which halves the training time. Finished
rows are stored in OUT_DIR, and the same command resumes. Differences from the base are paired: the
same images and the same seed.
"""

import argparse
import csv
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from scipy import stats

from ferlab import cli
from ferlab.errors import InputError, entry_point

SIDE, FOLD, FOLDS = 32, 2400, 11
TEACHERS = (
    "base",
    "ema",
    "mixup",
    "erase",
    "deeper",
    "adamw",
)  # rows whose models teach the row `distillation`
PLAIN = {"shift": 0.0, "horizontal_flip": False}
WHOLE = {"progressive_scale": 0.0, "progressive_fraction": 0.0}
SMALL = {"stem": "strided", "stem_filters": 32, "stage_filters": (48, 112, 224)}
SMALL["stage_blocks"] = (0, 1, 1)


@dataclasses.dataclass(frozen=True)
class Row:
    """One experiment, defined by its difference from the base.

    removed: training rows to leave out, `copies` (near copies of other training rows, and blank
    images) or `test` (near copies of test images). tta: a row with TTA evaluates the base's model.
    """

    description: str
    recipe: dict = dataclasses.field(default_factory=dict)
    network: dict = dataclasses.field(default_factory=dict)
    removed: str = ""
    method: str = "supervised"
    tta: str = "none"


ROWS = {
    "base": Row("flip and shift; Muon, cosine; label smoothing"),
    "sgd": Row(
        "SGD, cosine to 0.1", {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-3}
    ),
    "adam": Row(
        "Adam, constant learning rate 0.001",
        {"optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", "weight_decay": 0.0},
    ),
    "adamw": Row("AdamW, cosine to 0.002", {"optimizer": "adamw", "learning_rate": 2e-3}),
    "constant": Row(
        "constant learning rate, a third", {"schedule": "constant", "learning_rate": 3e-3}
    ),
    "slower": Row("half the learning rate", {"learning_rate": 5e-3}),
    "no-decay": Row("no weight decay", {"weight_decay": 0.0}),
    "no-augmentation": Row("no augmentation", PLAIN),
    "flip": Row("flip only", {**PLAIN, "horizontal_flip": True}),
    "turn": Row("also rotation by 12 degrees", {"rotation": 12.0}),
    "zoom": Row("also zoom by 0.15", {"zoom": 0.15}),
    "contrast": Row("also contrast", {"contrast": 0.3}),
    "erase": Row("also erasing", {"erasing": 0.1}),
    "no-smoothing": Row("no label smoothing", {"label_smoothing": 0.0}),
    "mixup": Row("mixup 0.2", {"mixup": 0.2}),
    "ema": Row("EMA of the weights, momentum 0.99", {"ema": 0.99}),
    "constant-ema": Row(
        "constant learning rate, a third; EMA of the weights, momentum 0.99",
        {"schedule": "constant", "learning_rate": 3e-3, "ema": 0.99},
    ),
    "max-pooling": Row("global max pooling instead of average", network={"pooling": "max"}),
    "flatten": Row("flatten instead of average pooling", network={"pooling": "flatten"}),
    "deeper": Row(
        "deeper and narrower", network={"stage_filters": (40, 80, 160), "stage_blocks": (0, 2, 2)}
    ),
    "wider": Row(
        "wider and shallower",
        network={"stage_filters": (80, 256, 512), "stage_blocks": (0, 0, 0)},
    ),
    "full-resolution": Row(
        "the recipes' network: two convolutions at full size, and one block more",
        network={"stem": "full", "stem_filters": 32}
        | {"stage_filters": (48, 128, 224), "stage_blocks": (1, 1, 1)},
    ),
    "resizing": Row(
        "half the epochs on 24x24", {"progressive_scale": 0.75, "progressive_fraction": 0.5}
    ),
    "float32": Row("float32 instead of bfloat16", {"bfloat16": False}),
    "no-copies": Row("without near copies and blank images", removed="copies"),
    "no-test-copies": Row("without near copies of test images", removed="test"),
    "fixmatch": Row(
        "FixMatch on test.csv's images, no smoothing",
        {"label_smoothing": 0.0},
        method="fixmatch",
    ),
    "distillation": Row(
        f"half of the target from a vote of {', '.join(TEACHERS)}", method="distillation"
    ),
    "tta-flip": Row("the base, with mirrored images", tta="flip"),
    "tta-ten-crop": Row("the base, with ten crops", tta="ten-crop"),
}
COLUMNS = ("row", "seed", "epochs", "seconds", "teramacs", "device")


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train")
    train.add_argument("fer_dir", type=Path)
    train.add_argument("out_dir", type=Path)
    train.add_argument("--rows", default=",".join(ROWS))
    train.add_argument("--seeds", default="0,1", type=numbers, metavar="N,...")
    train.add_argument("--epochs", default=6, type=cli.whole_number(1), metavar="N")
    train.set_defaults(run=run_trainings)
    table = commands.add_parser("table")
    table.add_argument("out_dir", type=Path)
    table.set_defaults(run=print_table)
    args = parser.parse_args()
    args.run(args)


def numbers(text: str) -> list[int]:
    """Argument type for seeds; each has its own fold of the training rows."""
    return [cli.whole_number(0, FOLDS - 1)(number) for number in text.split(",")]


def run_trainings(args: argparse.Namespace) -> None:
    from ferlab import data

    names = args.rows.split(",")
    if unknown := set(names) - set(ROWS):
        raise InputError(
            f"--rows must be among {', '.join(ROWS)}. Received: {', '.join(sorted(unknown))}"
        )
    shape = (SIDE, SIDE, 1)
    whole = data.fit_images(data.read(str(args.fer_dir / "train.csv"), role="train"), shape)
    test = data.read(str(args.fer_dir / "test.csv"), role="test")
    test = data.fit_images(data.with_truth(test, args.fer_dir / "public_truth.csv"), shape)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in names:
            if not probabilities_path(args.out_dir, name, seed).exists():
                train_row(args, name, seed, whole, test)


def probabilities_path(out_dir: Path, name: str, seed: int) -> Path:
    return out_dir / f"{name}-seed{seed}.npz"


def train_row(args: argparse.Namespace, name: str, seed: int, whole, test) -> None:
    """Train one row with one seed, and write its probabilities and its cost into OUT_DIR."""
    from ferlab.recipes import RECIPES

    row = ROWS[name]
    recipe = RECIPES["fast"].override(
        **{"name": name, "epochs": args.epochs, **WHOLE, **row.recipe}
    )
    fold = np.arange(seed * FOLD, (seed + 1) * FOLD)
    validation, public = whole.take(fold), test.labelled()
    indices = np.setdiff1d(np.arange(len(whole)), fold)
    train = whole.take(np.setdiff1d(indices, removed_rows(args, row.removed)))
    path = args.out_dir / f"{name if row.tta == 'none' else 'base'}-seed{seed}.h5"
    seconds = macs = 0.0
    if row.tta == "none":
        objective, passes = objective_of(args, row, recipe, train, test, seed)
        seconds, macs = fit_row(args, name, seed, objective, passes, validation, path)
    np.savez(
        probabilities_path(args.out_dir, name, seed),
        validation=predict(path, validation, row.tta),
        validation_labels=validation.labels,
        public=predict(path, public, row.tta),
        public_labels=public.labels,
    )
    append_result(args.out_dir, (name, seed, recipe.epochs, round(seconds), round(macs / 1e12, 1)))


def fit_row(
    args: argparse.Namespace, name: str, seed: int, objective, passes: int, validation, path: Path
) -> tuple[float, float]:
    """Train and save a row's model; return its seconds and multiply-adds."""
    from ferlab import checkpoints, training
    from ferlab.evaluation import costs

    training.set_seed(seed)
    model = build(ROWS[name])
    result = training.fit(
        model,
        objective,
        validation,
        run_dir=args.out_dir / "runs" / f"{name}-seed{seed}",
    )
    checkpoints.save(result.model, path, result.record, training_rows=result.training_rows)
    result.run.finish(path)
    seconds = sum(result.history["seconds"])  # includes epochs before a resumption
    forward = sum(layer.multiply_adds for layer in costs.layer_costs(model))
    phases = objective.recipe.phases()
    epochs = sum(len(phase.epochs) * (phase.scale or 1) ** 2 for phase in phases)
    return seconds, passes * forward * len(objective.train) * epochs  # smaller images cost less


def append_result(out_dir: Path, values: tuple) -> None:
    from ferlab import backend

    table = out_dir / "results.csv"
    is_new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow((*values, backend.describe_device()))


def build(row: Row):
    from models.resnet import resnet

    return resnet((SIDE, SIDE, 1), 7, **{**SMALL, **row.network})


def predict(path: Path, dataset, tta: str) -> np.ndarray:
    from ferlab import checkpoints, inference

    return inference.predict(checkpoints.load(path), dataset, tta=tta)


def removed_rows(args: argparse.Namespace, removed: str) -> np.ndarray:
    """The indices of training rows to leave out."""
    if not removed:
        return np.zeros(0, int)
    path = args.out_dir / f"without-{removed}.json"
    if not path.exists():
        path.write_text(json.dumps(find_rows(args, removed).tolist()))
    return np.array(json.loads(path.read_text()), int)


def find_rows(args: argparse.Namespace, removed: str) -> np.ndarray:
    """Find near copies and blank images, in the original size, as 32x32 pixels are too few."""
    from ferlab import data
    from ferlab.audit import checks, duplicates

    train = data.read(str(args.fer_dir / "train.csv"), role="train")
    test = data.read(str(args.fer_dir / "test.csv"), role="test")
    images = np.concatenate([train.images, test.images])
    digests = np.concatenate([train.row_digests(), test.row_digests()])
    blank, _ = checks.blank_and_flat(images)
    groups = duplicates.find_copies(images, digests, np.flatnonzero(~blank)).groups(len(images))
    count = len(train)
    if removed == "test":
        return np.flatnonzero(np.isin(groups[:count], groups[count:]) & ~blank[:count])
    _, first = np.unique(groups[:count], return_index=True)
    later = np.setdiff1d(np.arange(count), first)
    return np.union1d(later, np.flatnonzero(blank[:count]))


def objective_of(args: argparse.Namespace, row: Row, recipe, train, test, seed: int):
    """(objective, cost of training on one image, as a number of forward passes)."""
    from ferlab.recipes import SemiRecipe
    from ferlab.training.objectives import FixMatch, Supervised, Teacher

    if row.method == "fixmatch":
        semi = SemiRecipe(
            **{**recipe.as_dict(), "method": "fixmatch", "threshold": 0.9, "unlabelled_ratio": 1}
        )
        thresholds = np.full(7, semi.threshold)
        known = np.zeros(0, "uint64")
        objective = FixMatch(
            train,
            semi,
            seed=seed,
            unlabelled=test.images,
            thresholds=thresholds,
            known=known,
        )
        return objective, 7  # 3 each, labelled and unlabelled, and 1 for the pseudo-labels
    if row.method == "distillation":
        voters = [args.out_dir / f"{name}-seed{seed}.h5" for name in TEACHERS]
        if missing := [path.name for path in voters if not path.exists()]:
            raise InputError(f"distillation requires these rows first: {', '.join(missing)}")
        probabilities = np.mean([predict(path, train, "none") for path in voters], axis=0)
        names = tuple(path.name for path in voters)
        teacher = Teacher(names, probabilities.astype("float32"), rows=train.row_digests())
        return Supervised(train, recipe, seed=seed, teacher=teacher), 3
    return Supervised(train, recipe, seed=seed), 3


def print_table(args: argparse.Namespace) -> None:
    from ferlab import files

    with files.open_to_read(args.out_dir / "results.csv") as file:
        results = list(csv.DictReader(file.read().decode().splitlines()))
    if not results or set(results[0]) != set(COLUMNS) or not results_of(results, "base"):
        raise InputError(f"{args.out_dir}: has no row `base` to compare with")
    base = {result["seed"]: correct(args.out_dir, result) for result in results_of(results, "base")}
    seeds, epochs, devices = (
        ",".join(sorted({result[name] for result in results}))
        for name in ("seed", "epochs", "device")
    )
    names = ",".join(name for name in ROWS if results_of(results, name))
    print(f"""# {__doc__.splitlines()[0]}

    python studies/ablations.py train FER_DIR OUT_DIR --seeds {seeds} --epochs {epochs} \\
        --rows {names}
    python studies/ablations.py table OUT_DIR > studies/ablations.md

A smaller network than the recipes' (one convolution of stride 2 at full size, not two of 1), images
of {SIDE}x{SIDE}, {epochs} epochs, so what needs long training (augmentation, mixup, EMA) looks
worse than it is. Accuracies in percent: `validation` on the seed's {FOLD:,} held-out training rows,
`public` on the public half. `minus base`: percentage points on both together, on the same n images
(each seed is evaluated on all of the public half), with a 95% interval for the choice of images,
not of seeds. Seconds depend on what else was running. Device: {devices}.
""")
    columns = ("row", "description", "seeds", "validation", "public", "minus base", "n")
    print("|", " | ".join((*columns, "10^12 multiply-adds", "seconds")), "|")
    print("|" + " --- |" * (len(columns) + 2))
    for name in ROWS:
        own = [result for result in results_of(results, name) if result["seed"] in base]
        if own:
            cells = table_row(args.out_dir, name, own, [base[result["seed"]] for result in own])
            print("|", " | ".join(cells), "|")


def table_row(out_dir: Path, name: str, results: list[dict], base: list[dict]) -> list[str]:
    """The cells of a row, from its results and the base's correct images for the same seeds."""
    own = [correct(out_dir, result) for result in results]
    accuracies = [
        " ".join(f"{100 * images[part].mean():.2f}" for images in own)
        for part in ("validation", "public")
    ]
    gain, low, high, count = difference(own, base)
    gain_cell = f"{100 * gain:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    seeds = " ".join(result["seed"] for result in results)
    means = [
        f"{np.mean([float(result[column]) for result in results]):,.0f}"
        for column in ("teramacs", "seconds")
    ]
    return [
        f"`{name}`",
        ROWS[name].description,
        seeds,
        *accuracies,
        "" if name == "base" else gain_cell,
        f"{count:,}",
        *means,
    ]


def difference(first: list[dict], second: list[dict]) -> tuple[float, float, float, int]:
    """The accuracy of `first` minus that of `second`, its 95% interval, and the images.

    Both hold the result of `correct` for each seed. A Wald interval for matched pairs, in which an
    image evaluated with several seeds is one cluster, as its results are correlated.
    """
    gains = [
        {part: one[part].astype(int) - other[part] for part in one}
        for one, other in zip(first, second, strict=True)
    ]
    public = sum(gain["public"] for gain in gains)
    sums = np.concatenate([public, *(gain["validation"] for gain in gains)])
    counts = np.repeat([len(gains), 1], [len(public), len(sums) - len(public)])
    gain = sums.sum() / counts.sum()
    error = np.sqrt(np.square(sums - gain * counts).sum()) / counts.sum()
    half = stats.norm.ppf(0.975) * error
    return gain, gain - half, gain + half, len(sums)


def results_of(results: list[dict], name: str) -> list[dict]:
    own = [result for result in results if result["row"] == name]
    return sorted(own, key=lambda result: int(result["seed"]))


def correct(out_dir: Path, result: dict) -> dict[str, np.ndarray]:
    """Which images of each part the model classifies correctly, bool (n,)."""
    arrays = np.load(probabilities_path(out_dir, result["row"], result["seed"]))
    return {
        part: arrays[part].argmax(axis=1) == arrays[f"{part}_labels"]
        for part in ("validation", "public")
    }


if __name__ == "__main__":
    main()
