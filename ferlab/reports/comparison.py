"""The page of `compare`: several models side by side, with a chart and a CSV table."""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import checkpoints, files, plots, training
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import costs, metrics, scoring
from ferlab.evaluation.metrics import Difference, Measure, Proportion
from ferlab.evaluation.scoring import Evaluation
from ferlab.reports.page import UNDEFINED, Page, command_line, created, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARNING = "Measured on training rows of at least one model: do not report or compare these numbers."


@dataclass(frozen=True)
class Candidate:
    """One of the models to compare.

    evaluation: on the data, None without data. gain: its accuracy minus that of the first model on
    the same rows, None for the first.
    """

    name: str
    checkpoint: Checkpoint
    multiply_adds: int
    evaluation: Evaluation | None = None
    gain: Difference | None = None

    @property
    def history(self) -> dict[str, list[float]]:
        return self.checkpoint.record.history

    @property
    def recipe(self) -> dict:
        return self.checkpoint.record.recipe

    @property
    def val_accuracy(self) -> Proportion | float | None:
        """The last epoch's, with an interval if the number of validation rows is known."""
        values = self.history.get("val_accuracy")
        if not values:
            return None
        rows = self.checkpoint.record.validation_rows or self.recipe.get("validation")
        if type(rows) is int and rows > 0 and 0 <= values[-1] <= 1:
            return metrics.proportion(round(values[-1] * rows), rows)
        return float(values[-1])


@dataclass(frozen=True)
class Comparison:
    """Models and, with data, their evaluations on the same rows.

    rows: '3,588 rows of test.csv', empty without data. is_trained_on: whether a model was trained
    on them. notes: on the choice of rows and on the models' validation accuracies.
    """

    candidates: list[Candidate]
    rows: str
    is_trained_on: bool
    notes: list[str]


def checkpoint_paths(places: Sequence[Path]) -> list[Path]:
    """The checkpoint of each run folder, or the file itself.

    Raises InputError for a folder without a checkpoint, and if two places are the same checkpoint.
    """
    paths = [training.checkpoint_of(place) if place.is_dir() else place for place in places]
    place_of: dict[Path, Path] = {}
    for place, path in zip(places, paths, strict=True):
        other = place_of.setdefault(path.resolve(), place)
        if other is not place:
            raise InputError(f"{place}: is the same checkpoint as {other}")
    return paths


def distinct_names(places: Sequence[Path]) -> list[str]:
    """The last part of each path, preceded by as many others as necessary to be unique."""
    parts = [place.absolute().parts for place in places]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(one[-length:] == own[-length:] for one in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def load(
    places: Sequence[Path], *, pixels: str | None, class_names: tuple[str, ...] | None
) -> list[Candidate]:
    """Load the models from checkpoints and run folders.

    pixels, class_names: for files that do not record them.
    """
    candidates = []
    names = distinct_names(places)
    for name, path in zip(names, checkpoint_paths(places), strict=True):
        record = checkpoints.read_record(path)
        checkpoint = checkpoints.load(
            path,
            pixels=None if record.pixels else pixels,
            class_names=None if record.class_names else class_names,
        )
        multiply_adds = costs.multiply_adds(checkpoint.sized_model())
        candidates.append(Candidate(name, checkpoint, multiply_adds))
    return candidates


def compare(
    candidates: list[Candidate],
    source: str | None,
    *,
    class_names: tuple[str, ...] | None = None,
    truth: str | None = None,
    usage: str | None = None,
    batch_size: int = 256,
    report: Callable[[str], None],
) -> Comparison:
    """Evaluate the models on the same labelled rows of `source`, if there is one.

    report: called with notes and progress. Raises InputError if data and models do not match.
    """
    notes = [each.checkpoint.pixels_note for each in candidates if each.checkpoint.pixels_note]
    is_trained_on, rows = False, ""
    if source:
        datasets, is_trained_on = scoring.rows_to_score(
            [candidate.checkpoint for candidate in candidates],
            source,
            class_names=class_names,
            truth=truth,
            usage=usage,
            report=notes.append,
        )
        candidates = evaluate(candidates, datasets, batch_size=batch_size, report=report)
        rows = f"{len(datasets[0]):,} rows of {Path(source).name}"
    if have_different_splits(candidates):
        note = "note: the models were not all trained and validated on the same rows, so their "
        note += "validation accuracies are only roughly comparable"
        notes.append(note if source else f"{note}; --data evaluates all on the same rows")
    for note in notes:
        report(note)
    return Comparison(candidates, rows, is_trained_on, notes)


def evaluate(
    candidates: Sequence[Candidate],
    datasets: Sequence[Dataset],
    *,
    batch_size: int,
    report: Callable[[str], None],
) -> list[Candidate]:
    """The candidates with their evaluations; datasets: the same rows in each model's image size."""
    results: list[Candidate] = []
    network = None
    for candidate, dataset in zip(candidates, datasets, strict=True):
        report(f"{candidate.name}:")
        # Checkpoints of the same network share its compiled functions.
        network = candidate.checkpoint.on_network_of(network)
        result = scoring.evaluate(network, dataset, batch_size=batch_size, report=report)
        gain = None
        if results:
            gain = metrics.paired_difference(result.correct, results[0].evaluation.correct)
        results.append(dataclasses.replace(candidate, evaluation=result, gain=gain))
    return results


def have_different_splits(candidates: Sequence[Candidate]) -> bool:
    """Whether the models were trained or validated on different rows."""
    splits = {
        (str(candidate.recipe.get("validation")), candidate.checkpoint.record.fingerprint)
        for candidate in candidates
        if candidate.history.get("val_accuracy") and candidate.checkpoint.record.data
    }
    return len(splits) > 1


def save(comparison: Comparison, path: Path) -> list[Path]:
    """Write the page to `path`, and the chart and the table beside it; return their paths."""
    chart = figure(comparison)
    paths = [path, path.with_suffix(".png"), path.with_suffix(".csv")]
    write_csv(paths[2], comparison.candidates)
    plots.save(chart, paths[1])
    page(comparison, chart).save(paths[0])
    return paths


def summary(comparison: Comparison) -> list[str]:
    """Lines to print."""
    lines = []
    for candidate in comparison.candidates:
        if candidate.evaluation:
            gain = f", {candidate.gain} compared with the first" if candidate.gain else ""
            accuracy = candidate.evaluation.scores.accuracy
            lines.append(f"{candidate.name}: accuracy {accuracy}{gain}")
        elif candidate.val_accuracy is None:
            lines.append(f"{candidate.name}: contains no training history")
        else:
            accuracy = candidate.val_accuracy
            text = f"{accuracy:.2%}" if isinstance(accuracy, float) else str(accuracy)
            lines.append(f"{candidate.name}: validation accuracy {text}")
    if comparison.is_trained_on:
        lines.append(f"warning: {WARNING}")
    return lines


def figure(comparison: Comparison) -> "Figure":
    """The chart: accuracy, validation accuracy by epoch, and cost."""
    candidates = comparison.candidates
    if comparison.rows:
        title = f"{len(candidates)} models on {comparison.rows}"
        scores = [candidate.evaluation.scores for candidate in candidates]
        measures = {
            "accuracy": [each.accuracy for each in scores],
            "macro F1": [each.macro_f1 for each in scores],
        }
    else:
        title = f"{len(candidates)} models: validation accuracy"
        accuracies = [candidate.val_accuracy for candidate in candidates]
        measures = {"validation accuracy after the last epoch": accuracies}
    return plots.comparison_figure(
        [candidate.name for candidate in candidates],
        measures,
        [candidate.history.get("val_accuracy") or [] for candidate in candidates],
        [candidate.multiply_adds for candidate in candidates],
        title,
    )


def page(comparison: Comparison, chart: "Figure") -> Page:
    """The whole report."""
    candidates = comparison.candidates
    report = Page(f"{len(candidates)} models side by side", created("Comparison"))
    if comparison.is_trained_on:
        report.warning(WARNING)
    for note in comparison.notes:
        report.note(note.removeprefix("note: "))
    if comparison.rows:
        _scores(report, candidates, comparison.rows)
        _calibration(report, candidates)
    report.heading("Chart")
    report.figure(chart, "The models side by side; bars are 95% intervals.")
    _trainings(report, candidates)
    _settings(report, candidates)
    report.heading("Files")
    report.facts((candidate.name, candidate.checkpoint.path) for candidate in candidates)
    report.paragraph("Command that created this page:")
    report.code(command_line())
    return report


def _scores(report: Page, candidates: Sequence[Candidate], rows: str) -> None:
    report.heading("Scores")
    report.paragraph(f"All models on the same {rows}. In brackets: 95% intervals.")
    table = []
    for candidate in candidates:
        scores, gain = candidate.evaluation.scores, candidate.gain
        points = UNDEFINED
        if gain:
            points = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        precision, recall = scores.macro_precision.value, scores.macro_recall.value
        table.append(
            (
                candidate.name,
                percent(scores.accuracy),
                points,
                percent(scores.macro_f1),
                f"{precision:.1%}",
                f"{recall:.1%}",
            )
        )
    header = ("model", "accuracy", "difference from the first (points)", "macro F1")
    report.table((*header, "macro precision", "macro recall"), table)
    report.note(
        "Differences are paired: both models predict the same images, which is more precise than "
        "comparing two intervals. If the interval of a difference contains 0, these rows do not "
        "show which model is better. No interval includes the variation between training seeds."
    )


def _calibration(report: Page, candidates: Sequence[Candidate]) -> None:
    report.heading("Calibration")
    table = []
    for candidate in candidates:
        result = candidate.evaluation
        errors = [
            f"{error.value:.3f} ({error.low:.3f} to {error.high:.3f})" if error else UNDEFINED
            for error in (result.calibration_error, result.scaled_error)
        ]
        table.append((candidate.name, f"{result.loss:.3f}", *errors))
    header = ("model", "loss (nats)", "calibration error (15 bins)", "temperature-scaled")
    report.table(header, table)


def _trainings(report: Page, candidates: Sequence[Candidate]) -> None:
    table = []
    for candidate in candidates:
        row = as_row(candidate)
        best = _formatted(row["best_val_accuracy"], ".2%")
        if row["best_epoch"] is not None:
            best += f" (epoch {row['best_epoch']})"
        epochs = _formatted(row["epochs"], "")
        if (row["epochs"] or 0) < (row["epochs_planned"] or 0):
            epochs += f" of {row['epochs_planned']}"
        minutes = row["training_seconds"] and row["training_seconds"] / 60
        table.append(
            (
                candidate.name,
                _formatted(row["val_accuracy"], ".2%"),
                _formatted(row["val_loss"], ".3f"),
                best,
                _formatted(row["train_accuracy"], ".2%"),
                _formatted(row["train_loss"], ".3f"),
                epochs,
                _formatted(minutes, ".1f"),
            )
        )
    report.heading("Training")
    header = ("model", "validation accuracy", "loss", "best accuracy", "training accuracy", "loss")
    report.table((*header, "epochs", "minutes"), table)
    report.note(
        "Accuracies and losses are those of the last epoch, except for the best validation "
        f"accuracy. Epochs are counted from 0. {UNDEFINED}: not recorded in the file."
    )


def _settings(report: Page, candidates: Sequence[Candidate]) -> None:
    table = []
    for candidate in candidates:
        row = as_row(candidate)
        table.append(
            (
                candidate.name,
                _formatted(row["recipe"], ""),
                _formatted(row["batch_size"], ""),
                _formatted(row["learning_rate"], "g"),
                _formatted(row["parameters"], ","),
                _formatted(row["multiply_adds"], ","),
            )
        )
    report.heading("Settings and cost")
    header = ("model", "recipe", "batch size", "learning rate", "parameters", "multiply-adds")
    report.table(header, table)
    report.note("Multiply-adds of convolutions and dense layers, per image.")


def _formatted(value: object, form: str) -> str:
    return UNDEFINED if value is None else format(value, form)


def as_row(candidate: Candidate) -> dict[str, object]:
    """Every number by the name of its CSV column; None if unknown. Shares are from 0 to 1."""
    history, recipe, result = candidate.history, candidate.recipe, candidate.evaluation
    row: dict[str, object] = {"model": candidate.name, "path": str(candidate.checkpoint.path)}
    if result:
        row |= {"rows": len(result.dataset), **_with_interval("accuracy", result.scores.accuracy)}
        row |= _with_interval("accuracy_gain", candidate.gain)
        for name in ("balanced_accuracy", "macro_f1", "macro_precision", "macro_recall"):
            row |= _with_interval(name, getattr(result.scores, name))
        row |= _with_interval("calibration_error", result.calibration_error)
        row |= _with_interval("calibration_error_at_temperature", result.scaled_error)
        row["loss"] = result.loss
    accuracies = history.get("val_accuracy") or []
    best = max(accuracies, default=None)
    return row | {
        "val_accuracy": _last(history, "val_accuracy"),
        "val_loss": _last(history, "val_loss"),
        "best_val_accuracy": best,
        "best_epoch": accuracies.index(best) if accuracies else None,
        "train_accuracy": _last(history, "accuracy"),
        "train_loss": _last(history, "loss"),
        "epochs": len(history.get("loss") or ()) or None,
        "epochs_planned": recipe.get("epochs"),
        "training_seconds": sum(history.get("seconds") or ()) or None,
        "recipe": recipe.get("name"),
        "batch_size": recipe.get("batch_size"),
        "learning_rate": recipe.get("learning_rate"),
        "parameters": candidate.checkpoint.model.count_params(),
        "multiply_adds": candidate.multiply_adds,
    }


def _last(history: dict[str, list[float]], name: str) -> float | None:
    values = history.get(name)
    return values[-1] if values else None


def _with_interval(name: str, measure: Measure | None) -> dict[str, float | None]:
    if measure is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}


def write_csv(path: Path, candidates: Sequence[Candidate]) -> None:
    """A row for each model, with empty cells for unknown values."""
    rows = [as_row(candidate) for candidate in candidates]
    with (
        files.whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
