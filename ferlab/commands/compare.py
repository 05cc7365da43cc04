"""Several models in one table and one chart.   python -m ferlab compare a.h5 runs/b --data v.csv"""

import argparse
import csv
import dataclasses
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.errors import InputError

if TYPE_CHECKING:
    from ferlab.checkpoints import Checkpoint
    from ferlab.evaluation.metrics import Difference, Measure, Proportion
    from ferlab.evaluation.scoring import Evaluation
    from ferlab.reports.page import Page

NOT_TOLD = "\N{EN DASH}"
TOO_GOOD = "measured on rows that a model was trained on, so the scores are too good and unfair"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of the models that are compared.

    found: what it says of the data; None where there are none. gain: its accuracy less that of the
    first model on the same rows; None for the first.
    """

    name: str
    checkpoint: "Checkpoint"
    multiply_adds: int
    found: "Evaluation | None" = None
    gain: "Difference | None" = None

    @property
    def history(self) -> dict[str, list[float]]:
        return self.checkpoint.record.history

    @property
    def recipe(self) -> dict:
        return self.checkpoint.record.recipe

    @property
    def val_accuracy(self) -> "Proportion | float | None":
        """After the last epoch; with its interval where the number of rows is told."""
        from ferlab.evaluation import metrics

        values = self.history.get("val_accuracy")
        if not values:
            return None
        rows = self.checkpoint.record.validation_rows or self.recipe.get("validation")
        if type(rows) is int and rows > 0 and 0 <= values[-1] <= 1:
            return metrics.proportion(round(values[-1] * rows), rows)
        return float(values[-1])


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "compare",
        help="several models or runs side by side: one table, one chart",
        description="Put checkpoints and run folders side by side in one HTML page, with the chart "
        "as PNG and the table as CSV beside it. With --data all are scored on the same rows, which "
        "none of them was trained on; without, the table is what they carry from their training.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.prediction_options(),
            cli.scoring_options(),
        ],
    )
    parser.add_argument(
        "places",
        type=cli.model_file,
        nargs="+",
        metavar="RUN_OR_MODEL",
        help="run folders and checkpoints",
    )
    parser.add_argument("--data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="the page; .png and .csv go beside it (default: comparison.html)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files, plots, training
    from ferlab.evaluation import costs, scoring
    from ferlab.reports.page import Page

    if args.out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {args.out}")
    if not args.data and (args.truth or args.usage):
        raise InputError("--truth and --usage say how to read --data, which is missing")
    outputs = [args.out, args.out.with_suffix(".png"), args.out.with_suffix(".csv")]
    paths = [training.checkpoint_of(one) if one.is_dir() else one for one in args.places]
    require_different(args.places, paths)
    for out in outputs:
        files.require_other(out, [*paths, args.data, args.truth])
        files.require_writable(out)

    class_names = cli.chosen_class_names(args)
    loaded = []
    for path in paths:
        record = checkpoints.read_record(path)  # the flags are about those that do not tell
        loaded.append(
            checkpoints.load(
                path,
                pixels=None if record.pixels else args.pixels,
                class_names=None if record.class_names else class_names,
            )
        )
    candidates = [
        Candidate(name, checkpoint, costs.multiply_adds(checkpoint.sized_model()))
        for name, checkpoint in zip(distinct_names(args.places), loaded, strict=True)
    ]
    notes: list[str] = []
    is_trained_on = False
    if args.data:
        datasets, is_trained_on = scoring.rows_to_score(
            loaded,
            args.data,
            class_names=class_names,
            truth=args.truth,
            usage=args.usage,
            report=notes.append,
        )
        candidates = scored(candidates, datasets, args.batch_size)
    notes += unlike_trainings(candidates)
    for note in notes:
        print(note)

    rows = ""
    if args.data:
        rows = f"{len(candidates[0].found.dataset):,} rows of {Path(args.data).name}"
    figure = chart(candidates, rows)
    made = datetime.datetime.now(datetime.UTC)
    page = Page(
        f"{len(candidates)} models side by side",
        f"A comparison by ferlab, {made:%Y-%m-%d %H:%M} UTC",
    )
    if is_trained_on:
        page.warning(f"Believe none of the scores: {TOO_GOOD}.")
    for note in notes:
        page.note(note.removeprefix("note: "))
    if args.data:
        add_scores(page, candidates, rows)
    page.heading("Chart")
    page.figure(figure, "The models side by side; bars are 95% intervals.")
    add_trainings(page, candidates)
    page.heading("Files")
    page.facts((candidate.name, candidate.checkpoint.path) for candidate in candidates)
    page.paragraph("This page was made by")
    page.code(shlex.join(["python", "-m", "ferlab", *sys.argv[1:]]))
    write_csv(outputs[2], candidates)
    plots.save(figure, outputs[1])
    page.save(outputs[0])

    for candidate in candidates:
        print(line(candidate))
    if is_trained_on:
        print(f"warning: {TOO_GOOD}")
    for out in outputs:
        print(out)


def require_different(places: Sequence[Path], paths: Sequence[Path]) -> None:
    """Raise InputError if two places lead to one checkpoint."""
    seen: dict[Path, Path] = {}
    for place, path in zip(places, paths, strict=True):
        other = seen.setdefault(path.resolve(), place)
        if other is not place:
            raise InputError(f"{place}: is the same checkpoint as {other}")


def distinct_names(places: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many before it as it takes to tell it from the others."""
    parts = [place.absolute().parts for place in places]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(one[-length:] == own[-length:] for one in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def scored(candidates: Sequence[Candidate], datasets: Sequence, batch_size: int) -> list[Candidate]:
    """The candidates with what they say of the data, each of its own size of the same images."""
    from ferlab.evaluation import metrics, scoring

    results: list[Candidate] = []
    network = None
    for candidate, dataset in zip(candidates, datasets, strict=True):
        print(f"{candidate.name}:")
        # What the backend has compiled for one serves others of the same network.
        network = candidate.checkpoint.on_network_of(network)
        found = scoring.evaluate(network, dataset, batch_size=batch_size, report=print)
        gain = metrics.paired_difference(found.right, results[0].found.right) if results else None
        results.append(dataclasses.replace(candidate, found=found, gain=gain))
    return results


def unlike_trainings(candidates: Sequence[Candidate]) -> list[str]:
    """Why validation accuracies of these models do not compare."""
    splits = {
        (
            str(candidate.recipe.get("validation")),
            candidate.checkpoint.record.fingerprint,
        )
        for candidate in candidates
        if candidate.history.get("val_accuracy") and candidate.checkpoint.record.data
    }
    if len(splits) < 2:
        return []
    rule = "note: not all were trained and validated on the same rows, so their validation "
    rule += "accuracies compare but roughly"
    return [rule if candidates[0].found else f"{rule}; --data scores all on the same rows"]


def chart(candidates: Sequence[Candidate], rows: str):
    from ferlab import plots

    if rows:
        title = f"{len(candidates)} models on {rows}"
        measures = {
            "accuracy": [candidate.found.scores.accuracy for candidate in candidates],
            "macro F1": [candidate.found.scores.macro_f1 for candidate in candidates],
        }
    else:
        title = f"{len(candidates)} models by their training"
        measures = {
            "validation accuracy after the last epoch": [
                candidate.val_accuracy for candidate in candidates
            ]
        }
    return plots.comparison_figure(
        [candidate.name for candidate in candidates],
        measures,
        [candidate.history.get("val_accuracy") or [] for candidate in candidates],
        [candidate.multiply_adds for candidate in candidates],
        title,
    )


def add_scores(page: "Page", candidates: Sequence[Candidate], rows: str) -> None:
    page.heading("Scores")
    page.paragraph(f"All on the same {rows}. In brackets: 95% intervals.")
    answers, confidences = [], []
    for candidate in candidates:
        found, scores, gain = candidate.found, candidate.found.scores, candidate.gain
        against = NOT_TOLD
        if gain:
            against = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        answers.append(
            (
                candidate.name,
                _percent(scores.accuracy),
                against,
                _percent(scores.macro_f1),
                f"{scores.macro_precision.value:.1%}",
                f"{scores.macro_recall.value:.1%}",
            )
        )
        errors = [
            f"{error.value:.3f} ({error.low:.3f} to {error.high:.3f})" if error else NOT_TOLD
            for error in (found.calibration_error, found.scaled_error)
        ]
        confidences.append((candidate.name, f"{found.loss:.3f}", *errors))
    header = ("model", "accuracy", "against the first (points)", "macro F1")
    page.table((*header, "macro precision", "macro recall"), answers)
    page.note(
        "A difference is paired: both models answer the same images, which tells more than two "
        "intervals side by side. Where its interval holds 0, the rows do not tell which is better. "
        "None of the intervals says what another training with another seed might have shown."
    )
    page.paragraph("How far their probabilities can be believed:")
    header = ("model", "loss (nats)", "calibration error (15 bins)", "at its temperature")
    page.table(header, confidences)


def add_trainings(page: "Page", candidates: Sequence[Candidate]) -> None:
    def shown(value: object, form: str) -> str:
        return NOT_TOLD if value is None else format(value, form)

    trainings, settings = [], []
    for candidate in candidates:
        row = as_row(candidate)
        best = shown(row["best_val_accuracy"], ".2%")
        if row["best_epoch"] is not None:
            best += f" (epoch {row['best_epoch']})"
        epochs = shown(row["epochs"], "")
        if (row["epochs"] or 0) < (row["epochs_planned"] or 0):
            epochs += f" of {row['epochs_planned']}"
        minutes = row["training_seconds"] and row["training_seconds"] / 60
        trainings.append(
            (
                candidate.name,
                shown(row["val_accuracy"], ".2%"),
                shown(row["val_loss"], ".3f"),
                best,
                shown(row["train_accuracy"], ".2%"),
                shown(row["train_loss"], ".3f"),
                epochs,
                shown(minutes, ".1f"),
            )
        )
        settings.append(
            (
                candidate.name,
                shown(row["recipe"], ""),
                shown(row["batch_size"], ""),
                shown(row["learning_rate"], "g"),
                shown(row["parameters"], ","),
                shown(row["multiply_adds"], ","),
            )
        )
    page.heading("Trainings")
    header = ("model", "validation accuracy", "loss", "best accuracy", "training accuracy", "loss")
    page.table((*header, "epochs", "minutes"), trainings)
    page.note(
        "Accuracies and losses are of the last epoch, but for the best validation accuracy. Epochs "
        f"are counted from 0. {NOT_TOLD}: the file does not tell."
    )
    page.heading("Settings and cost")
    header = ("model", "recipe", "images a step", "learning rate", "parameters", "multiply-adds")
    page.table(header, settings)
    page.note("Multiply-adds are those of convolutions and dense layers, for one image.")


def as_row(candidate: Candidate) -> dict[str, object]:
    """Every figure by its column's name; None for what is not known. Shares are from 0 to 1."""
    history, recipe, found = candidate.history, candidate.recipe, candidate.found
    row: dict[str, object] = {"model": candidate.name, "path": str(candidate.checkpoint.path)}
    if found:
        row |= {"rows": len(found.dataset), **_with_ends("accuracy", found.scores.accuracy)}
        row |= _with_ends("accuracy_gain", candidate.gain)
        for name in ("balanced_accuracy", "macro_f1", "macro_precision", "macro_recall"):
            row |= _with_ends(name, getattr(found.scores, name))
        row |= _with_ends("calibration_error", found.calibration_error)
        row |= _with_ends("calibration_error_at_temperature", found.scaled_error)
        row["loss"] = found.loss
    accuracies = history.get("val_accuracy") or []
    best = accuracies.index(max(accuracies)) if accuracies else None
    return row | {
        "val_accuracy": accuracies[-1] if accuracies else None,
        "val_loss": (history.get("val_loss") or [None])[-1],
        "best_val_accuracy": max(accuracies, default=None),
        "best_epoch": best,
        "train_accuracy": (history.get("accuracy") or [None])[-1],
        "train_loss": (history.get("loss") or [None])[-1],
        "epochs": len(history.get("loss") or ()) or None,
        "epochs_planned": recipe.get("epochs"),
        "training_seconds": sum(history.get("seconds") or ()) or None,
        "recipe": recipe.get("name"),
        "batch_size": recipe.get("batch_size"),
        "learning_rate": recipe.get("learning_rate"),
        "parameters": candidate.checkpoint.model.count_params(),
        "multiply_adds": candidate.multiply_adds,
    }


def write_csv(path: Path, candidates: Sequence[Candidate]) -> None:
    """A row for each model, without a value where there is none."""
    from ferlab import files

    rows = [as_row(candidate) for candidate in candidates]
    with (
        files.whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def line(candidate: Candidate) -> str:
    """What is printed of a model."""
    if candidate.found is None:
        accuracy = candidate.val_accuracy
        if accuracy is None:
            return f"{candidate.name}: carries no history"
        told = f"{accuracy:.2%}" if isinstance(accuracy, float) else str(accuracy)
        return f"{candidate.name}: validation accuracy {told}"
    against = f", {candidate.gain} against the first" if candidate.gain else ""
    return f"{candidate.name}: accuracy {candidate.found.scores.accuracy}{against}"


def _with_ends(name: str, measure: "Measure | None") -> dict[str, float | None]:
    if measure is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}


def _percent(measure: "Measure") -> str:
    return f"{measure.value:.1%} ({100 * measure.low:.1f} to {100 * measure.high:.1f})"
