"""One page about a model, to hand in.   python -m ferlab report MODEL.h5 test.csv"""

import argparse
import datetime
import hashlib
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.errors import InputError

if TYPE_CHECKING:
    from ferlab.checkpoints import Checkpoint
    from ferlab.evaluation.metrics import Measure
    from ferlab.evaluation.scoring import Evaluation
    from ferlab.inference.predict import Speed
    from ferlab.reports.page import Page

MISTAKES = 24  # images shown
EXPLAINED = 3  # images that are right, and as many that are wrong
TIMING = 2.0  # seconds for each batch size
TOO_GOOD = "measured on rows that the model was trained on, so everything here is too good"


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "report",
        help="one HTML page about a model: scores, mistakes, history, cost, settings",
        description="Score MODEL on the labelled rows of DATA and write one self-contained HTML "
        "page to hand in: measures with 95% intervals, confusion matrix, calibration, most "
        "confident mistakes, saliency, training history, cost, settings and versions. Rows that "
        "the model was trained on are left out; if there are no others, the page says so.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.architecture_options(),
            cli.prediction_options(),
            cli.scoring_options(),
        ],
    )
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to report on"
    )
    parser.add_argument("data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="(default: [model]_report.html, here)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files, inference
    from ferlab.evaluation import scoring
    from ferlab.reports.page import Page

    out = args.out or Path(f"{args.checkpoint.stem}_report.html")
    if out.suffix.lower() != ".html":
        raise InputError(f"--out must end in .html. Received: {out}")
    files.require_other(out, [args.checkpoint, args.data, args.truth, args.architecture])
    files.require_writable(out)
    class_names = cli.chosen_class_names(args)
    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
    )
    notes: list[str] = []
    (dataset,), is_trained_on = scoring.rows_to_score(
        [checkpoint],
        args.data,
        class_names=class_names,
        truth=args.truth,
        usage=args.usage,
        report=notes.append,
    )
    for note in notes:
        print(note)
    found = scoring.evaluate(checkpoint, dataset, batch_size=args.batch_size, report=print)
    speeds = [
        inference.speed(checkpoint, batch_size=size, seconds=TIMING)
        for size in (args.batch_size, 1)
    ]

    made = datetime.datetime.now(datetime.UTC)
    page = Page(
        f"{args.checkpoint.name} on {Path(args.data).name}",
        f"A report of ferlab, {made:%Y-%m-%d %H:%M} UTC",
    )
    if is_trained_on:
        page.warning(f"Believe none of this: {TOO_GOOD}.")
    for note in notes:
        page.note(note.removeprefix("note: "))
    add_scores(page, found, Path(args.data).name)
    add_classes(page, found)
    add_calibration(page, found, checkpoint)
    add_mistakes(page, found)
    add_saliency(page, found, checkpoint)
    add_history(page, checkpoint)
    add_cost(page, checkpoint, speeds)
    add_settings(page, checkpoint, found)
    page.save(out)

    print(f"accuracy {found.scores.accuracy}")
    print(f"balanced accuracy {found.scores.balanced_accuracy}")
    print(f"macro F1 {found.scores.macro_f1}")
    if is_trained_on:
        print(f"warning: {TOO_GOOD}")
    print(out)


def add_scores(page: "Page", found: "Evaluation", source: str) -> None:
    import numpy as np

    labels, names = found.dataset.labels, found.dataset.class_names
    frequent = int(np.bincount(labels).argmax())
    usages = set() if found.dataset.usage is None else set(found.dataset.usage.tolist()) - {""}
    of_usage = f" ({', '.join(sorted(usages))})" if usages else ""
    page.heading("Scores")
    page.paragraph(
        f"{len(labels):,} labelled rows of {source}{of_usage}. Naming "
        f"the most frequent class every time ({names[frequent]}) would be right in "
        f"{(labels == frequent).mean():.2%} of them."
    )
    scores = found.scores
    rows = [
        ("accuracy", scores.accuracy),
        ("balanced accuracy (mean recall of the classes)", scores.balanced_accuracy),
        ("macro precision", scores.macro_precision),
        ("macro recall", scores.macro_recall),
        ("macro F1", scores.macro_f1),
    ]
    errors = [
        ("expected calibration error (15 bins)", found.calibration_error),
        ("expected calibration error at its temperature", found.scaled_error),
    ]
    page.table(
        ("measure", "value", "95% interval"),
        [
            *(
                (name, f"{one.value:.2%}", f"{100 * one.low:.2f} to {100 * one.high:.2f}")
                for name, one in rows
            ),
            *(
                (name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}")
                for name, one in errors
                if one
            ),
            ("cross-entropy loss (nats)", f"{found.loss:.4f}", ""),
        ],
    )
    page.note(
        "Intervals say what other rows of the same kind might have shown, not what another "
        "training might. Of shares of rows they are Wilson's; of balanced accuracy and macro "
        "means, percentiles of a bootstrap over rows; of the calibration error, a bootstrap "
        "mirrored at the value. A class with few images, or one that is always or never right, "
        "makes those of the bootstrap too narrow. Values are as scikit-learn gives them, with "
        "zero_division=0."
    )


def add_classes(page: "Page", found: "Evaluation") -> None:
    from ferlab import plots
    from ferlab.evaluation import metrics

    names = found.dataset.class_names
    page.heading("Classes")
    scores = found.scores.classes
    rows = [
        (
            name,
            f"{score.rows:,}",
            f"{score.predicted:,}",
            *map(_percent, (score.recall, score.precision, score.f1)),
        )
        for name, score in zip(names, scores, strict=True)
    ]
    page.table(("class", "images", "predicted", "recall", "precision", "F1"), rows)
    page.note("In brackets: 95% intervals.")
    if any(None in (score.recall, score.precision, score.f1) for score in scores):
        page.note(
            "\N{EN DASH}: nothing to divide by. A class that has images or is predicted counts as "
            "0 in the macro means there; a class that has neither is left out of them, and one "
            "without images of the balanced accuracy."
        )
    page.figure(
        plots.class_scores_figure(found.scores, names, "Recall, precision and F1 by class"),
        "Recall, precision and F1 of each class with their 95% intervals.",
    )
    page.heading("Confusion matrix")
    page.figure(
        plots.confusion_matrix_figure(found.counts, names, f"accuracy {found.scores.accuracy}"),
        "Rows are the true class, columns the predicted; shares are of the true class.",
    )
    if confused := metrics.most_confused(found.counts, names):
        page.paragraph("Confused most often:")
        page.list(confused)


def add_calibration(page: "Page", found: "Evaluation", checkpoint: "Checkpoint") -> None:
    from ferlab import plots
    from ferlab.evaluation import calibration

    labels, temperature = found.dataset.labels, checkpoint.temperature
    panels = [
        ("as it comes", calibration.reliability(found.outputs, labels), found.calibration_error)
    ]
    if temperature is not None:
        scaled = calibration.reliability(found.probabilities, labels)
        panels.append((f"at its temperature of {temperature:.3f}", scaled, found.scaled_error))
    page.heading("Calibration")
    page.paragraph(
        "Whether the model is right as often as it says. Bars below the dotted line are "
        "overconfident, bars above it underconfident."
    )
    page.figure(
        plots.reliability_figure(panels),
        "Reliability diagram. Above: accuracy of the images by the confidence the model has in its "
        f"answer, in 15 bins, pale where it is of fewer than {plots.FEW} images. Below: how many "
        "images have that confidence.",
    )
    if temperature is None:
        page.note(
            "It carries no temperature; `python -m ferlab calibrate` fits one on validation rows."
        )
    else:
        page.note(
            "The temperature was fitted on validation rows. If rows scored here are among those, "
            "the calibration at the temperature is a little better than on others."
        )


def add_mistakes(page: "Page", found: "Evaluation") -> None:
    import numpy as np

    from ferlab import plots

    page.heading("Most confident mistakes")
    wrong = np.flatnonzero(~found.right)
    if not len(wrong):
        page.paragraph("None: every row is right.")
        return
    confidence = found.probabilities.max(axis=1)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    names = found.dataset.class_names
    captions = [
        f"{names[found.predicted[row]]} {confidence[row]:.1%}\n"
        f"truly {names[found.dataset.labels[row]]}\n"
        f"id {found.dataset.ids[row]}"
        for row in shown.tolist()
    ]
    page.paragraph(
        f"{len(wrong):,} of {len(found.right):,} images are mistaken. These are the ones that the "
        "model was surest about. Some may be labelled wrongly."
    )
    page.figure(
        plots.image_grid_figure(list(found.dataset.images[shown]), captions, columns=6, cell=144),
        f"The {len(shown)} mistakes of highest confidence: predicted class with its confidence, "
        "true class, id.",
    )


def add_saliency(page: "Page", found: "Evaluation", checkpoint: "Checkpoint") -> None:
    import numpy as np

    from ferlab import data, interpretation, plots

    # The first ones, and not the finest: nobody chose them by what the maps show.
    shown = []
    for rows in (np.flatnonzero(found.right), np.flatnonzero(~found.right)):
        _, first = np.unique(found.dataset.labels[rows], return_index=True)
        shown += rows[np.sort(first)][:EXPLAINED].tolist()
    dataset = data.fit_images(found.dataset.take(shown), checkpoint.image_shape)
    suitable, _ = interpretation.methods_for(checkpoint, len(shown))
    methods = [method for method in ("gradient", "layercam") if method in suitable]
    maps = interpretation.saliency(checkpoint, dataset, methods, report=print)
    titles = []
    names = dataset.class_names
    for row, true, name in zip(shown, dataset.labels, dataset.ids, strict=True):
        said = found.predicted[row]
        verdict = "right" if said == true else f"taken for {names[said]}"
        titles.append(f"{names[true]}, {verdict}\nid {name}")
    page.heading("Saliency")
    page.paragraph(
        f"What the true class hangs on in the first images of up to {EXPLAINED} classes that the "
        f"model has right, and of up to {EXPLAINED} that it has wrong."
    )
    page.figure(
        plots.saliency_figure(dataset.images, titles, maps, "Saliency for the true class"),
        "Gradient: the squared change of the loss with a pixel's grey level (after Simonyan et al. "
        "2014). "
        "LayerCAM: what the last maps of the convolutions hold for the class (Jiang et al. 2021).",
    )
    if "layercam" not in methods:
        page.note("LayerCAM looks at a convolution's maps, of which this model has none.")


def add_history(page: "Page", checkpoint: "Checkpoint") -> None:
    from ferlab import plots

    page.heading("Training history")
    history = checkpoint.record.history
    if not history.get("loss"):
        page.paragraph("The file carries none.")
        return
    page.figure(
        plots.history_figure(history, checkpoint.path.name, checkpoint.record.phases),
        "By epoch, on training and validation rows.",
    )
    facts = [("epochs", len(history["loss"]))]
    for name, best in (("val_loss", min), ("val_accuracy", max)):
        if values := history.get(name):
            what = name.replace("val_", "validation ")
            epoch = values.index(best(values))
            facts.append((what, f"{values[-1]:.4f} after the last epoch"))
            facts.append((f"best {what}", f"{values[epoch]:.4f} after epoch {epoch}"))
    if seconds := history.get("seconds"):
        facts.append(("training took", f"{sum(seconds) / 60:.1f} minutes"))
    page.facts(facts)
    page.note("Epochs are counted from 0.")


def add_cost(page: "Page", checkpoint: "Checkpoint", speeds: "list[Speed]") -> None:
    from ferlab import backend
    from ferlab.evaluation import costs

    model = checkpoint.sized_model()
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    page.heading("Cost")
    facts = [
        ("parameters", f"{model.count_params():,}, of which {trainable:,} are trainable"),
        ("multiply-adds", f"{costs.multiply_adds(model):,} an image"),
        ("file", f"{checkpoint.path.stat().st_size / 2**20:.1f} MiB"),
        ("device", backend.describe_device()),
    ]
    facts += [(f"time an image, in batches of {speed.batch_size}", f"{speed}") for speed in speeds]
    page.facts(facts)
    page.note(
        "Multiply-adds are those of convolutions and dense layers. Times are the median over "
        "batches, after a warm-up, of images that lie in memory in the model's size, on a machine "
        "that may have been at other work too."
    )


def add_settings(page: "Page", checkpoint: "Checkpoint", found: "Evaluation") -> None:
    from ferlab import backend, files

    record = checkpoint.record
    with files.open_to_read(checkpoint.path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    names = ", ".join(checkpoint.class_names or found.dataset.class_names)
    height, width, channels = checkpoint.image_shape
    page.heading("Settings and versions")
    facts = {
        "model": str(checkpoint.path),
        "SHA-256": digest,
        "written by": checkpoint.vintage,
        "images": f"{height}x{width}x{channels}",
        "pixels": checkpoint.pixels + ("" if record.pixels else " (the file does not tell)"),
        "classes": names + ("" if checkpoint.tells_classes else " (the file does not tell)"),
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
    page.facts((name, value) for name, value in facts.items() if value is not None)
    page.paragraph("Versions, at the training and at this report:")
    then, now = record.versions, backend.versions()
    page.table(
        ("what", "training", "report"),
        [(name, then.get(name, "not told"), now.get(name, "")) for name in {**then, **now}],
    )
    page.paragraph("This page was made by")
    page.code(shlex.join(["python", "-m", "ferlab", *sys.argv[1:]]))


def _percent(measure: "Measure | None") -> str:
    if measure is None:
        return "\N{EN DASH}"
    return f"{measure.value:.1%} ({100 * measure.low:.1f} to {100 * measure.high:.1f})"
