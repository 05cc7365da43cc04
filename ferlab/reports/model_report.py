"""The page of `report`: one model on labelled rows."""

import math
from collections.abc import Sequence

import numpy as np

from ferlab import backend, data, files, inference, interpretation, plots
from ferlab.checkpoints import Checkpoint
from ferlab.evaluation import calibration, costs, metrics
from ferlab.evaluation.metrics import Measure
from ferlab.evaluation.scoring import Evaluation
from ferlab.inference import Speed
from ferlab.reports import pictures
from ferlab.reports.page import PEOPLE, UNDEFINED, Page, command_line, created, percent

MISTAKES = 24  # images shown
EXPLAINED = 3  # classes, with a correct and with a wrong prediction each
TIMING = 2.0  # seconds for each batch size
WARNING = "Measured on training rows: do not report these numbers."


def page(
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    *,
    source: str,
    is_trained_on: bool,
    notes: Sequence[str] = (),
    speeds: Sequence[Speed] = (),
) -> Page:
    """The whole report.

    source: the name of the data. is_trained_on: whether the model was trained on the rows.
    notes: on the choice of rows.
    """
    report = Page(f"{checkpoint.path.name} on {source}", created("Report"))
    if is_trained_on:
        report.warning(WARNING)
    for note in notes:
        report.note(note.removeprefix("note: "))
    _scores(report, evaluation, source)
    _classes(report, evaluation)
    _confusion_matrix(report, evaluation)
    _calibration(report, evaluation, checkpoint)
    _mistakes(report, evaluation)
    _saliency(report, evaluation, checkpoint)
    _history(report, checkpoint)
    _cost(report, checkpoint, speeds)
    _settings(report, checkpoint, evaluation)
    return report


def summary(evaluation: Evaluation, *, is_trained_on: bool) -> list[str]:
    """Lines to print."""
    scores = evaluation.scores
    lines = [
        f"accuracy {scores.accuracy}",
        f"balanced accuracy {scores.balanced_accuracy}",
        f"macro F1 {scores.macro_f1}",
    ]
    return [*lines, f"warning: {WARNING}"] if is_trained_on else lines


def measure_speeds(checkpoint: Checkpoint, batch_size: int) -> list[Speed]:
    """The speed with batches of this size, and with single images."""
    return [
        inference.speed(checkpoint, batch_size=size, seconds=TIMING) for size in (batch_size, 1)
    ]


def _scores(report: Page, evaluation: Evaluation, source: str) -> None:
    dataset, scores = evaluation.dataset, evaluation.scores
    most_frequent = int(np.bincount(dataset.labels).argmax())
    usages = set() if dataset.usage is None else set(dataset.usage.tolist()) - {""}
    of_usage = f" ({', '.join(sorted(usages))})" if usages else ""
    report.heading("Scores")
    report.paragraph(
        f"{len(dataset):,} labelled rows of {source}{of_usage}. Always predicting the most "
        f"frequent class ({dataset.class_names[most_frequent]}) would have an accuracy of "
        f"{(dataset.labels == most_frequent).mean():.2%}."
    )
    shares = {
        "accuracy": scores.accuracy,
        "balanced accuracy (mean recall of the classes)": scores.balanced_accuracy,
        "macro precision": scores.macro_precision,
        "macro recall": scores.macro_recall,
        "macro F1": scores.macro_f1,
    }
    errors = {
        "expected calibration error (15 bins)": evaluation.calibration_error,
        "expected calibration error, temperature-scaled": evaluation.scaled_error,
    }
    rows = [(name, f"{one.value:.2%}", _interval(one, ".2f", 100)) for name, one in shares.items()]
    rows += [
        (name, f"{error.value:.4f}", _interval(error, ".4f"))
        for name, error in errors.items()
        if error
    ]
    rows.append(("cross-entropy loss (nats)", f"{evaluation.loss:.4f}", ""))
    report.table(("measure", "value", "95% interval"), rows)
    report.note(
        "The intervals show the uncertainty from the sample of rows, not from the training seed. "
        "Accuracy, precision and recall have Wilson intervals; balanced accuracy, the macro means "
        "and F1 have percentile bootstrap intervals over rows; the calibration error has a basic "
        "bootstrap interval. Bootstrap intervals are too narrow for classes with few images and "
        "for measures at 0% or 100%. Values equal scikit-learn's with zero_division=0."
    )


def _interval(measure: Measure, form: str, scale: float = 1) -> str:
    return f"{scale * measure.low:{form}} to {scale * measure.high:{form}}"


def _classes(report: Page, evaluation: Evaluation) -> None:
    names, scores = evaluation.dataset.class_names, evaluation.scores.classes
    report.heading("Classes")
    rows = [
        (
            name,
            f"{score.rows:,}",
            f"{score.predicted:,}",
            *map(percent, (score.recall, score.precision, score.f1)),
        )
        for name, score in zip(names, scores, strict=True)
    ]
    report.table(("class", "support", "predicted", "recall", "precision", "F1"), rows)
    report.note(
        "Support: rows of the class. Predicted: rows predicted as the class. In brackets: 95% "
        "intervals."
    )
    if any(None in (score.recall, score.precision, score.f1) for score in scores):
        report.note(
            f"{UNDEFINED}: undefined, since the denominator is 0. It counts as 0 in the macro "
            "means, which leave out only classes that have neither support nor predictions; "
            "balanced accuracy leaves out classes without support."
        )
    report.figure(
        plots.class_scores_figure(evaluation.scores, names, "Recall, precision and F1 by class"),
        "Recall, precision and F1 of each class with their 95% intervals.",
    )


def _confusion_matrix(report: Page, evaluation: Evaluation) -> None:
    names, accuracy = evaluation.dataset.class_names, evaluation.scores.accuracy
    report.heading("Confusion matrix")
    report.figure(
        plots.confusion_matrix_figure(evaluation.counts, names, f"accuracy {accuracy}"),
        "Rows are true classes, columns predicted classes; percentages are of the true class.",
    )
    if pairs := metrics.most_confused(evaluation.counts, names):
        report.paragraph("Most often confused:")
        report.list(pairs)


def _calibration(report: Page, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    labels, temperature = evaluation.dataset.labels, checkpoint.temperature
    uncalibrated = calibration.reliability(evaluation.outputs, labels)
    panels = [("uncalibrated", uncalibrated, evaluation.calibration_error)]
    if temperature is not None:
        scaled = calibration.reliability(evaluation.probabilities, labels)
        panels.append((f"temperature {temperature:.3f}", scaled, evaluation.scaled_error))
    report.heading("Calibration")
    report.paragraph(
        "The probabilities are perfectly calibrated if, of all predictions with a confidence of "
        "80%, 80% are correct, and so on. Bars below the dotted line show overconfidence, bars "
        "above it underconfidence."
    )
    report.figure(
        plots.reliability_figure(panels),
        "Reliability diagram. Top: accuracy by confidence, in 15 bins, pale for bins of fewer than "
        f"{plots.FEW} images. Bottom: images in each bin.",
    )
    if temperature is None:
        report.note(
            "The checkpoint has no temperature; `python -m ferlab calibrate` fits one on "
            "validation rows."
        )
    else:
        report.note(
            "The temperature was fitted on validation rows. If these rows include them, the "
            "temperature-scaled calibration error is slightly optimistic."
        )


def _mistakes(report: Page, evaluation: Evaluation) -> None:
    report.heading("Most confident mistakes")
    dataset, predicted = evaluation.dataset, evaluation.predicted
    mistakes = np.flatnonzero(~evaluation.correct)
    if not len(mistakes):
        report.paragraph("None: every row is predicted correctly.")
        return
    confidence = evaluation.probabilities.max(axis=1)
    shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:MISTAKES]
    names = dataset.class_names
    captions = [
        f"{names[predicted[row]]} {confidence[row]:.1%}\n"
        f"true: {names[dataset.labels[row]]}\n"
        f"id {dataset.ids[row]}"
        for row in shown.tolist()
    ]
    report.paragraph(
        f"{len(mistakes):,} of {len(dataset):,} images are misclassified. These have the highest "
        "confidence; some of them may have a wrong label."
    )
    report.figure(
        plots.image_grid_figure(list(dataset.images[shown]), captions, columns=6, cell=144),
        f"The {len(shown)} mistakes with the highest confidence: predicted class and confidence, "
        "true class, id.",
    )
    for line in PEOPLE:
        report.note(line)


def _saliency(report: Page, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    # The first rows rather than the clearest maps, so that the choice is not biased.
    rows = []
    for candidates in (np.flatnonzero(evaluation.correct), np.flatnonzero(~evaluation.correct)):
        _, first = np.unique(evaluation.dataset.labels[candidates], return_index=True)
        rows += candidates[np.sort(first)][:EXPLAINED].tolist()
    dataset = data.fit_images(evaluation.dataset.take(rows), checkpoint.image_shape)
    suitable, _ = interpretation.suitable_methods(checkpoint, len(rows))
    methods = [method for method in ("gradient", "layercam") if method in suitable]
    maps = interpretation.saliency(checkpoint, dataset, methods, report=print)
    captions = []
    names = dataset.class_names
    predictions = evaluation.predicted[rows]
    for predicted, label, name in zip(predictions, dataset.labels, dataset.ids, strict=True):
        verdict = "correct" if predicted == label else f"predicted {names[predicted]}"
        captions.append(f"{names[label]}, {verdict}\nid {name}")
    report.heading("Saliency")
    report.paragraph(
        f"The first correctly classified image of up to {EXPLAINED} classes, and the first "
        f"misclassified image of up to {EXPLAINED} classes, explained for their true class."
    )
    report.figure(
        pictures.saliency_figure(dataset.images, captions, maps, "Saliency for the true class"),
        "Gradient: squared gradient of the loss with respect to a pixel's grey level (after "
        "Simonyan et al. 2014). LayerCAM: evidence for the class in the maps of the last "
        "convolution (Jiang et al. 2021).",
    )
    if "layercam" not in methods:
        report.note("LayerCAM requires a convolution, and this model has none.")


def _history(report: Page, checkpoint: Checkpoint) -> None:
    report.heading("Training history")
    history = checkpoint.record.history
    if not history.get("loss"):
        report.paragraph("The checkpoint contains no training history.")
        return
    report.figure(
        plots.history_figure(history, checkpoint.path.name, checkpoint.record.phases),
        "Training and validation rows, by epoch.",
    )
    facts = [("epochs", len(history["loss"]))]
    for name, best in (("val_loss", min), ("val_accuracy", max)):
        if values := history.get(name):
            measure = name.replace("val_", "validation ")
            epoch = values.index(best(values))
            facts.append((measure, f"{values[-1]:.4f} after the last epoch"))
            facts.append((f"best {measure}", f"{values[epoch]:.4f} after epoch {epoch}"))
    if seconds := history.get("seconds"):
        facts.append(("training time", f"{sum(seconds) / 60:.1f} minutes"))
    report.facts(facts)
    report.note("Epochs are counted from 0.")


def _cost(report: Page, checkpoint: Checkpoint, speeds: Sequence[Speed]) -> None:
    model = checkpoint.sized_model()
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    report.heading("Cost")
    facts = [
        ("parameters", f"{model.count_params():,}, of which {trainable:,} are trainable"),
        ("multiply-adds", f"{costs.multiply_adds(model):,} per image"),
        ("file", f"{checkpoint.path.stat().st_size / 2**20:.1f} MiB"),
        ("device", backend.describe_device()),
    ]
    facts += [(f"time per image, in batches of {speed.batch_size}", str(speed)) for speed in speeds]
    report.facts(facts)
    report.note(
        "Multiply-adds count convolutions and dense layers. Times are medians over batches "
        "after a warm-up, for images in memory that have the model's size; other processes may "
        "have been running."
    )


def _settings(report: Page, checkpoint: Checkpoint, evaluation: Evaluation) -> None:
    record = checkpoint.record
    class_names = ", ".join(checkpoint.class_names or evaluation.dataset.class_names)
    assumed = " (assumed: not recorded in the file)"
    report.heading("Settings and versions")
    facts = {
        "model": str(checkpoint.path),
        "SHA-256": files.sha256(checkpoint.path),
        "written by": checkpoint.vintage,
        "images": "x".join(map(str, checkpoint.image_shape)),
        "pixels": checkpoint.pixels + ("" if record.pixels else assumed),
        "classes": class_names + ("" if checkpoint.records_class_names else assumed),
        "seed": record.seed,
        "resumed from": record.resumed_from,
        "initialized from": record.initialized_from,
        "temperature": checkpoint.temperature,
        "trained": record.created,
        "git commit": record.git_commit,
    }
    parts = {
        "recipe": record.recipe,
        "data": record.data,
        "learned from": record.learned_from.as_json(),
    }
    for part, entries in parts.items():
        facts |= {f"{part}: {name}": value for name, value in entries.items()}
    report.facts((name, value) for name, value in facts.items() if value is not None)
    report.paragraph("Versions at training, and of this report:")
    then, now = record.versions, backend.versions()
    report.table(
        ("", "training", "report"),
        [(name, then.get(name, "unknown"), now.get(name, "")) for name in {**then, **now}],
    )
    report.paragraph("Command that created this page:")
    report.code(command_line())
