"""Say what a checkpoint is, and how it wants its images.   python -m ferlab inspect MODEL.h5"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ferlab import cli
from ferlab.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ferlab.checkpoints import Checkpoint
    from ferlab.data import Dataset

SAMPLE = 2000  # rows asked about under each pixel scale


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="say what a checkpoint is; with labelled data, which pixels and class order it wants",
        description="Say of each MODEL what wrote it, its layers and cost, what it takes and gives "
        "and what it carries. With --data, its accuracy under each plausible pixel scale and class "
        "order, and the flags of the most likely.",
        parents=[cli.data_options(), cli.prediction_options(), cli.architecture_options()],
    )
    parser.add_argument(
        "models", type=cli.model_file, nargs="+", metavar="MODEL", help="checkpoints"
    )
    parser.add_argument("--data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "--truth", metavar="FILE", help="`id,label` rows with the labels that the data lacks"
    )
    parser.add_argument(
        "--usage",
        metavar="NAME",
        help="rows of the data, such as PublicTest (default: those neither for training nor for "
        "the final score, else the training rows)",
    )
    parser.add_argument(
        "--rows",
        type=cli.whole_number(1),
        default=SAMPLE,
        metavar="N",
        help=f"rows drawn from the data (default: {SAMPLE})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints

    if args.architecture and len(args.models) > 1:
        raise InputError(f"--architecture is for one model. Received: {len(args.models)} models")
    if not args.data and (args.truth or args.usage or args.class_names):
        raise InputError(
            "--truth, --usage and --class-names say how to read --data, which is missing"
        )
    for model in args.models:
        checkpoint = checkpoints.load(model, architecture=args.architecture)
        print(f"{model}")
        lines = [*description(checkpoint), *layer_lines(checkpoint)]
        if args.data:
            dataset = read_labelled(args, checkpoint.image_shape)
            lines += search(checkpoint, dataset, args.batch_size)
        for line in lines:
            print(f"  {line}".rstrip())


def read_labelled(args: argparse.Namespace, image_shape: tuple[int, int, int]) -> "Dataset":
    """The labelled rows to ask about, `--rows` of them at most, drawn by a fixed seed.

    None of them is of the final score: what is found here is a choice.
    """
    import numpy as np

    from ferlab import data, inference
    from ferlab.evaluation import held_out

    is_folder = Path(args.data).is_dir()
    dataset = data.read(
        args.data,
        role="train",
        class_names=inference.data_class_names(
            cli.chosen_class_names(args), is_folder=is_folder, is_the_models=True
        ),
        image_shape=image_shape if is_folder else None,
    )
    dataset = data.with_truth(dataset, args.truth)
    dataset = held_out.rows(dataset, [], usage=args.usage, report=print)
    if len(dataset) > args.rows:
        drawn = np.random.default_rng(0).choice(len(dataset), args.rows, replace=False)
        dataset = dataset.take(np.sort(drawn))
    return dataset


def description(checkpoint: "Checkpoint") -> list[str]:
    from ferlab import checkpoints
    from ferlab.evaluation import costs

    record = checkpoint.record
    trained_on = checkpoints.read_training_rows(checkpoint.path)
    accuracies = record.history.get("val_accuracy") or []
    names = ", ".join(checkpoint.class_names) if checkpoint.class_names else "not told"
    pixels = f"{checkpoint.pixels} ({checkpoints.PIXEL_SCALES[checkpoint.pixels]})"
    if record.pixels is None:
        pixels = f"not told; taken as {pixels}"
    height, width, channels = checkpoint.image_shape
    parameters = checkpoint.model.count_params()
    facts = {
        "written by": checkpoint.vintage,
        "images": f"{height}x{width}x{channels}",
        "pixels": pixels,
        "classes": f"{checkpoint.num_classes}: {names}",
        "parameters": f"{parameters:,}",
        "multiply-adds": f"{costs.multiply_adds(checkpoint.sized_model()):,} an image",
        "recipe": record.recipe.get("name"),
        "epochs": record.epochs or None,
        "validation": f"accuracy {accuracies[-1]:.4f}" if accuracies else None,
        "seed": record.seed,
        "trained on": trained_on is not None and f"{len(trained_on):,} rows, which it knows again",
        "temperature": checkpoint.temperature and f"{checkpoint.temperature:.3f}",
        "resumed from": record.resumed_from,
        "created": record.created,
        "git commit": record.git_commit,
        "record": "none: not written by ferlab" if record.is_empty else None,
    }
    return [
        f"{name:<14} {value}" for name, value in facts.items() if value not in (None, False, "")
    ]


def layer_lines(checkpoint: "Checkpoint") -> list[str]:
    from ferlab.evaluation import costs

    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    rows += [
        (
            cost.name,
            cost.kind,
            "x".join(str(side or "?") for side in cost.output_shape),
            f"{cost.parameters:,}",
            f"{cost.multiply_adds:,}",
        )
        for cost in costs.layer_costs(checkpoint.sized_model())
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "",
        *(
            f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {output:<{widths[2]}}  "
            f"{parameters:>{widths[3]}}  {multiply_adds:>{widths[4]}}"
            for name, kind, output, parameters, multiply_adds in rows
        ),
    ]


def search(checkpoint: "Checkpoint", dataset: "Dataset", batch_size: int) -> list[str]:
    """The accuracy under each pixel scale and class order, and the most likely of them."""
    from ferlab import checkpoints, data, inference
    from ferlab.checkpoints import TrainingRecord
    from ferlab.evaluation import metrics

    if checkpoint.num_classes != dataset.num_classes:
        return [
            "",
            f"cannot be scored: it has {checkpoint.num_classes} outputs, {dataset.source} has "
            f"{dataset.num_classes} classes ({', '.join(dataset.class_names)})",
        ]
    dataset = data.fit_images(dataset, checkpoint.image_shape)
    labels = dataset.labels
    orders = class_orders(dataset.class_names)
    lines = ["", f"accuracy on {len(labels):,} rows of {dataset.source}, % by pixels and order"]
    lines.append(f"{'':<14}" + "".join(f"{name:>14}" for name in (*orders, "best match")))
    found = []
    for pixels in checkpoints.plausible_scales(checkpoint.image_shape):
        # What the file says of itself is left aside: it may be what is wrong.
        asked = dataclasses.replace(
            checkpoint, pixels=pixels, class_names=None, record=TrainingRecord(), _raw_model=None
        )
        outputs = inference.predict(asked, dataset, batch_size=batch_size).argmax(axis=1)
        candidates = {**orders, "best match": best_match(outputs, labels, dataset.class_names)}
        row = []
        for name, order in candidates.items():
            as_labels = [dataset.class_names.index(class_name) for class_name in order]
            correct = int((labels == [as_labels[output] for output in outputs]).sum())
            row.append(correct)
            found.append((correct, name != "best match", pixels, name, order))
        lines.append(f"{pixels:<14}" + "".join(f"{c / len(labels):>14.2%}" for c in row))
    named = max(entry for entry in found if entry[1])
    matched = max(entry for entry in found if not entry[1])
    accuracy = metrics.proportion(named[0], len(labels))
    # A match found in the data itself is believed only when chance does not explain it.
    if matched[0] / len(labels) > accuracy.high:
        named, accuracy = matched, metrics.proportion(matched[0], len(labels))
    _, _, pixels, name, order = named
    most_frequent = max((labels == label).mean() for label in range(dataset.num_classes))
    if accuracy.low <= most_frequent:
        return [
            *lines,
            f"no better than naming the most frequent class ({most_frequent:.2%}) in any of them",
        ]
    lines.append(f"most likely    pixels {pixels}, classes in the order of {name}: {accuracy}")
    lines.append(f"               --pixels {pixels} --class-names {','.join(order)}")
    record = checkpoint.record
    if record.pixels not in (None, pixels) or record.class_names not in (None, tuple(order)):
        lines.append("               which is not what the file says of itself")
    return lines


def class_orders(class_names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The orders that people train in, of the classes of this data."""
    from ferlab.labels import CLASS_ORDERS, EMOTIONS

    if sorted(class_names) == sorted(EMOTIONS):
        return CLASS_ORDERS
    orders = {"the data's": class_names}
    if tuple(sorted(class_names)) != tuple(class_names):
        orders["alphabetical"] = tuple(sorted(class_names))
    return orders


def best_match(
    outputs: "np.ndarray", labels: "np.ndarray", class_names: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of the outputs with which most rows are right, each name once."""
    from scipy.optimize import linear_sum_assignment

    from ferlab.evaluation import metrics

    counts = metrics.confusion_counts(labels, outputs, len(class_names))
    true, output = linear_sum_assignment(counts, maximize=True)
    names = dict(zip(output.tolist(), true.tolist(), strict=True))
    return tuple(class_names[names[output]] for output in range(len(class_names)))
