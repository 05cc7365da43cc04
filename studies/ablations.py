"""What each part of the recipes is worth: one change at a time, against the same base.

    python studies/ablations.py train FER_DIR OUT_DIR [--rows NAME,...] [--seeds N,...] [--epochs N]
    python studies/ablations.py table OUT_DIR > studies/ablations.md

FER_DIR holds train.csv, test.csv and public_truth.csv. Seed s sets apart the s-th 2,400 rows of
train.csv (a cross-validation of the training set); a row is scored on those and on the public half
of test.csv. Images are brought to 32x32, which makes a training twice as fast. What is finished is
kept in OUT_DIR, and the same command goes on. A row's difference is paired: the same images, asked
of the row's model and of the base's with the same seed.
"""

import argparse
import csv
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from ferlab import cli
from ferlab.errors import InputError, entry_point

SIDE, FOLD, FOLDS = 32, 2400, 11
TEACHERS = ("base", "ema", "mixup", "erase", "deeper", "adamw")  # that vote for `distillation`
PLAIN = {"shift": 0.0, "horizontal_flip": False}
WHOLE = {"progressive_scale": 0.0, "progressive_fraction": 0.0}
SMALL = {"stem": "strided", "stem_filters": 32, "stage_filters": (48, 112, 224)}
SMALL["stage_blocks"] = (0, 1, 1)


@dataclasses.dataclass(frozen=True)
class Row:
    """One experiment: what differs from the base."""

    what: str
    recipe: dict = dataclasses.field(default_factory=dict)
    network: dict = dataclasses.field(default_factory=dict)
    without: str = ""  # training rows left out: "copies" of each other, and blank; or "test" copies
    method: str = "supervised"
    tta: str = "none"  # a row with one asks the base's model


ROWS = {
    "base": Row("flip and shift; Muon, cosine; label smoothing"),
    "sgd": Row(
        "SGD, cosine to 0.1", {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-3}
    ),
    "adam": Row(
        "Adam, constant rate 0.001",
        {"optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", "weight_decay": 0.0},
    ),
    "adamw": Row("AdamW, cosine to 0.002", {"optimizer": "adamw", "learning_rate": 2e-3}),
    "constant": Row("constant rate, a third", {"schedule": "constant", "learning_rate": 3e-3}),
    "slower": Row("half of the learning rate", {"learning_rate": 5e-3}),
    "no-decay": Row("no weight decay", {"weight_decay": 0.0}),
    "no-augmentation": Row("no augmentation", PLAIN),
    "flip": Row("flip alone", {**PLAIN, "horizontal_flip": True}),
    "turn": Row("turn by 12 degrees too", {"rotation": 12.0}),
    "zoom": Row("zoom by 0.15 too", {"zoom": 0.15}),
    "contrast": Row("contrast too", {"contrast": 0.3}),
    "erase": Row("erasing too", {"erasing": 0.1}),
    "no-smoothing": Row("no label smoothing", {"label_smoothing": 0.0}),
    "mixup": Row("mixup 0.2", {"mixup": 0.2}),
    "ema": Row("mean of the weights, 0.99", {"ema": 0.99}),
    "constant-ema": Row(
        "constant rate, a third, mean of the weights, 0.99",
        {"schedule": "constant", "learning_rate": 3e-3, "ema": 0.99},
    ),
    "max-pooling": Row("maximum over places for their mean", network={"pooling": "max"}),
    "flatten": Row("every place for their mean", network={"pooling": "flatten"}),
    "deeper": Row(
        "deeper and narrower", network={"stage_filters": (40, 80, 160), "stage_blocks": (0, 2, 2)}
    ),
    "wider": Row(
        "wider and shallower",
        network={"stage_filters": (80, 256, 512), "stage_blocks": (0, 0, 0)},
    ),
    "full-resolution": Row(
        "the recipes' network: two convolutions at full size, and a block more",
        network={"stem": "full", "stem_filters": 32}
        | {"stage_filters": (48, 128, 224), "stage_blocks": (1, 1, 1)},
    ),
    "resizing": Row(
        "half of the epochs on 24x24", {"progressive_scale": 0.75, "progressive_fraction": 0.5}
    ),
    "float32": Row("float32 for bfloat16", {"bfloat16": False}),
    "no-copies": Row("without near copies and blank images", without="copies"),
    "no-test-copies": Row("without what test.csv has a near copy of", without="test"),
    "fixmatch": Row(
        "FixMatch on test.csv's images, no smoothing",
        {"label_smoothing": 0.0},
        method="fixmatch",
    ),
    "distillation": Row(
        f"half of the target by a vote of {', '.join(TEACHERS)}", method="distillation"
    ),
    "tta-flip": Row("the base, asked with its mirror image", tta="flip"),
    "tta-ten-crop": Row("the base, asked by ten views", tta="ten-crop"),
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
    """Argument type for seeds, each of which has its own fold of the training rows."""
    return [cli.whole_number(0, FOLDS - 1)(one) for one in text.split(",")]


def run_trainings(args: argparse.Namespace) -> None:
    from ferlab import data

    names = args.rows.split(",")
    if unknown := set(names) - set(ROWS):
        raise InputError(f"rows must be of {', '.join(ROWS)}. Received: {', '.join(unknown)}")
    shape = (SIDE, SIDE, 1)
    whole = data.fit_images(data.read(str(args.fer_dir / "train.csv"), role="train"), shape)
    test = data.read(str(args.fer_dir / "test.csv"), role="test")
    test = data.fit_images(data.with_truth(test, args.fer_dir / "public_truth.csv"), shape)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in names:
            if not answers_path(args.out_dir, name, seed).exists():
                train_row(args, name, seed, whole, test)


def answers_path(out_dir: Path, name: str, seed: int) -> Path:
    return out_dir / f"{name}-seed{seed}.npz"


def train_row(args: argparse.Namespace, name: str, seed: int, whole, test) -> None:
    """Train one row with one seed; its answers and cost go into OUT_DIR."""
    from ferlab import backend, checkpoints, training
    from ferlab.evaluation import costs
    from ferlab.recipes import RECIPES

    row = ROWS[name]
    recipe = RECIPES["fast"].override(**{"epochs": args.epochs, **WHOLE, **row.recipe})
    fold = np.arange(seed * FOLD, (seed + 1) * FOLD)
    validation, public = whole.take(fold), test.labelled()
    kept = np.setdiff1d(np.arange(len(whole)), fold)
    kept = np.setdiff1d(kept, left_out(args, row.without, whole, test))
    train = whole.take(kept)
    path = args.out_dir / f"{name if row.tta == 'none' else 'base'}-seed{seed}.h5"
    seconds = macs = 0.0
    if row.tta == "none":
        training.set_seed(seed)
        model = build(row)
        objective, passes = objective_of(args, row, recipe, train, test, seed)
        result = training.fit(
            model,
            train,
            validation,
            dataclasses.replace(objective.recipe, name=name),
            seed=seed,
            objective=objective,
            run_dir=args.out_dir / "runs" / f"{name}-seed{seed}",
        )
        seconds = sum(result.history["seconds"])  # also of what was before a stop
        checkpoints.save(result.model, path, result.record, training_rows=result.training_rows)
        result.run.finish(path)
        once = sum(layer.multiply_adds for layer in costs.layer_costs(model))
        epochs = sum(len(phase.epochs) * (phase.scale or 1) ** 2 for phase in recipe.phases())
        macs = passes * once * len(train) * epochs  # smaller images cost less
    answers = {"validation": ask(path, validation, row.tta), "public": ask(path, public, row.tta)}
    truths = {"validation_labels": validation.labels, "public_labels": public.labels}
    np.savez(answers_path(args.out_dir, name, seed), **answers, **truths)
    values = (name, seed, recipe.epochs, round(seconds), round(macs / 1e12, 1))
    table = args.out_dir / "results.csv"
    is_new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow((*values, backend.describe_device()))


def build(row: Row):
    from models.resnet import resnet

    return resnet((SIDE, SIDE, 1), 7, **{**SMALL, **row.network})


def ask(path: Path, dataset, tta: str) -> np.ndarray:
    from ferlab import checkpoints, inference

    return inference.predict(checkpoints.load(path), dataset, tta=tta)


def left_out(args: argparse.Namespace, without: str, whole, test) -> np.ndarray:
    """Training rows to leave out, by their index."""
    if not without:
        return np.zeros(0, int)
    path = args.out_dir / f"without-{without}.json"
    if not path.exists():
        path.write_text(json.dumps(find(args, without).tolist()))
    return np.array(json.loads(path.read_text()), int)


def find(args: argparse.Namespace, without: str) -> np.ndarray:
    """On whole images: 32x32 are too small to tell copies."""
    from ferlab import data
    from ferlab.audit import checks, duplicates

    train = data.read(str(args.fer_dir / "train.csv"), role="train")
    test = data.read(str(args.fer_dir / "test.csv"), role="test")
    images = np.concatenate([train.images, test.images])
    digests = np.concatenate([train.row_digests(), test.row_digests()])
    blank, _ = checks.blank_and_flat(images)
    seen = np.flatnonzero(~blank)
    groups = duplicates.find_copies(images, digests, seen).groups(len(images))
    count = len(train)
    if without == "test":
        return np.flatnonzero(np.isin(groups[:count], groups[count:]) & ~blank[:count])
    _, first = np.unique(groups[:count], return_index=True)
    later = np.setdiff1d(np.arange(count), first)
    return np.union1d(later, np.flatnonzero(blank[:count]))


def objective_of(args: argparse.Namespace, row: Row, recipe, train, test, seed: int):
    """What is learned, and how many forward passes' arithmetic a training image costs."""
    from ferlab.recipes import SemiRecipe
    from ferlab.training.objectives import FixMatch, Supervised, Teacher

    if row.method == "fixmatch":
        semi = SemiRecipe(
            **{**recipe.as_dict(), "method": "fixmatch", "threshold": 0.9, "unlabelled_ratio": 1}
        )
        thresholds = np.full(7, semi.threshold)
        rows = np.zeros(0, "uint64")
        objective = FixMatch(train, semi, unlabelled=test.images, thresholds=thresholds, known=rows)
        return objective, 7  # forward and back on both kinds, and a guess
    if row.method == "distillation":
        voters = [args.out_dir / f"{name}-seed{seed}.h5" for name in TEACHERS]
        if missing := [path.name for path in voters if not path.exists()]:
            raise InputError(f"distillation needs these rows first: {', '.join(missing)}")
        teacher = np.mean([ask(path, train, "none") for path in voters], axis=0)
        names = tuple(path.name for path in voters)
        said = Teacher(names, teacher.astype("float32"), rows=train.row_digests())
        return Supervised(train, recipe, teacher=said), 3
    return Supervised(train, recipe), 3


def print_table(args: argparse.Namespace) -> None:
    from ferlab import files

    with files.open_to_read(args.out_dir / "results.csv") as file:
        results = list(csv.DictReader(file.read().decode().splitlines()))
    if not results or set(results[0]) != set(COLUMNS) or not of_row(results, "base"):
        raise InputError(f"{args.out_dir}: has no row `base`, which the others are compared with")
    base = {result["seed"]: right(args.out_dir, result) for result in of_row(results, "base")}
    seeds, epochs, devices = (
        ",".join(sorted({result[name] for result in results}))
        for name in ("seed", "epochs", "device")
    )
    shown = ",".join(name for name in ROWS if of_row(results, name))
    print(f"""# {__doc__.splitlines()[0]}

    python studies/ablations.py train FER_DIR OUT_DIR --seeds {seeds} --epochs {epochs} \\
        --rows {shown}
    python studies/ablations.py table OUT_DIR > studies/ablations.md

A smaller network than the recipes' (one convolution of stride 2 at full size, not two of 1), images
of {SIDE}x{SIDE}, {epochs} epochs, so what asks for patience (augmentation, mixup, a mean of the
weights) looks worse than in a long training. Accuracies in per cent: `validation` of the seed's
{FOLD:,} training rows set apart, `public` of the public half. `both less base`: points on both, by
the same n images (those of the public half are asked by each seed), with a 95% interval that knows
other images but no other seeds. Seconds depend on what else ran. Device: {devices}.
""")
    columns = ("row", "what", "seeds", "validation", "public", "both less base", "n")
    print("|", " | ".join((*columns, "10^12 multiply-adds", "seconds")), "|")
    print("|" + " --- |" * (len(columns) + 2))
    for name, row in ROWS.items():
        own = [result for result in of_row(results, name) if result["seed"] in base]
        if not own:
            continue
        found = [right(args.out_dir, result) for result in own]
        parts = [
            " ".join(f"{100 * each[part].mean():.2f}" for each in found)
            for part in ("validation", "public")
        ]
        gain, half, count = difference(found, [base[result["seed"]] for result in own])
        told = f"{100 * gain:+.2f} ({100 * (gain - half):+.2f} to {100 * (gain + half):+.2f})"
        cells = [f"`{name}`", row.what, " ".join(result["seed"] for result in own), *parts]
        cells += ["" if name == "base" else told, f"{count:,}"]
        for column in ("teramacs", "seconds"):
            cells.append(f"{np.mean([float(result[column]) for result in own]):,.0f}")
        print("|", " | ".join(cells), "|")


def difference(first: list[dict], second: list[dict]) -> tuple[float, float, int]:
    """How much more often `first` is right than `second`, half of the 95% interval, and the images.

    Each has for every seed what `right` gives. Wald's interval for matched pairs, in which an image
    that several seeds are asked is one draw, as their answers hang together.
    """
    gains = [
        {part: one[part].astype(int) - other[part] for part in one}
        for one, other in zip(first, second, strict=True)
    ]
    public = sum(gain["public"] for gain in gains)
    sums = np.concatenate([public, *(gain["validation"] for gain in gains)])
    asked = np.repeat([len(gains), 1], [len(public), len(sums) - len(public)])
    gain = sums.sum() / asked.sum()
    half = 1.959964 * np.sqrt(np.square(sums - gain * asked).sum()) / asked.sum()
    return gain, half, len(sums)


def of_row(results: list[dict], name: str) -> list[dict]:
    own = [result for result in results if result["row"] == name]
    return sorted(own, key=lambda result: int(result["seed"]))


def right(out_dir: Path, result: dict) -> dict[str, np.ndarray]:
    """Which images of each part the model has right."""
    found = np.load(answers_path(out_dir, result["row"], result["seed"]))
    return {
        part: found[part].argmax(axis=1) == found[f"{part}_labels"]
        for part in ("validation", "public")
    }


if __name__ == "__main__":
    main()
