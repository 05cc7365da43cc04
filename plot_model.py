"""Draw what a model is, how well it does, how it was trained and what it looks at.

python plot_model.py train.csv 0.643750.h5
  ->   0.643750_struct.png  0.643750_cm.png  0.643750_his.png  0.643750_sm.png
"""

import argparse
from pathlib import Path

from ferlab import cli
from ferlab.errors import InputError, entry_point

PICTURES = {
    "struct": "the layers",
    "cm": "the confusion matrix",
    "his": "the training history",
    "sm": "saliency beside the images",
}


def parse_args():
    parser = cli.parser(
        __doc__,
        cli.data_options(),
        cli.checkpoint_options(),
        cli.architecture_options(),
        cli.prediction_options(),
    )
    parser.add_argument("data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to draw"
    )
    parser.add_argument(
        "--what",
        type=chosen_pictures,
        default=tuple(PICTURES),
        metavar="NAME,NAME,...",
        help="; ".join(f"{name}: {meaning}" for name, meaning in PICTURES.items())
        + " (default: all)",
    )
    parser.add_argument(
        "--usage", metavar="NAME", help="rows to count, such as PublicTest (default: Training)"
    )
    saliency = parser.add_argument_group("saliency")
    saliency.add_argument(
        "--images",
        metavar="ROW,ROW,...",
        help="rows of DATA to explain, counted from 0, or their ids (default: of each class the "
        "first that the model has right)",
    )
    saliency.add_argument(
        "--saliency",
        metavar="NAME,NAME,...",
        help="perturbation (one grey level more, pixel by pixel), gradient, smoothgrad, gradcam, "
        "layercam (default: those that suit the model)",
    )
    saliency.add_argument(
        "--layer", metavar="NAME", help="for gradcam and layercam (default: the last with a map)"
    )
    saliency.add_argument(
        "--samples",
        type=cli.whole_number(1, 10_000),
        default=10,
        metavar="N",
        help="noisy copies for smoothgrad; 50 take five times as long and look smoother "
        "(default: 10)",
    )
    parser.add_argument(
        "--out-dir", type=Path, default=Path(), metavar="DIR", help="(default: here)"
    )
    return parser.parse_args()


def chosen_pictures(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in chosen if name not in PICTURES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(PICTURES)}. Received: {unknown[0]!r}"
        )
    return chosen


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import checkpoints, files, inference, interpretation
    from ferlab.evaluation import metrics

    paths = {what: args.out_dir / f"{args.checkpoint.stem}_{what}.png" for what in args.what}
    for path in paths.values():
        files.require_other(path, [args.data, args.checkpoint, args.architecture])
        files.require_writable(path)
    class_names = cli.chosen_class_names(args)
    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
    )
    dataset = inference.read_for(checkpoint, args.data, role="train", class_names=class_names)
    whole, dataset = dataset, dataset.of_usage(args.usage)
    chosen = None if args.images is None else chosen_rows(whole, args.images)
    counts_rows = "cm" in args.what or ("sm" in args.what and chosen is None)
    if counts_rows:
        metrics.require_labels(dataset.labels, dataset.source)
    if "sm" in args.what:
        count = dataset.num_classes if chosen is None else len(chosen)
        methods = chosen_methods(checkpoint, args, count)
    title = f"{args.checkpoint.name} on {Path(args.data).name} {args.usage or ''}".strip()

    if "struct" in paths:
        draw_structure(checkpoint, paths["struct"])
    if counts_rows:
        predicted = inference.predict(
            checkpoint, dataset, batch_size=args.batch_size, report=print
        ).argmax(axis=1)
    if "cm" in paths:
        draw_confusion(dataset, predicted, title, paths["cm"])
    if "his" in paths:
        draw_history(checkpoint, paths["his"])
    if "sm" in paths:
        rows = examples(dataset, predicted) if chosen is None else whole.take(chosen)
        maps = interpretation.saliency(
            checkpoint, rows, methods, layer=args.layer, samples=args.samples, report=print
        )
        draw_saliency(checkpoint, rows, maps, title, paths["sm"])


def chosen_rows(dataset, text: str) -> list[int]:
    """The rows of `--images`: an id, or else a row's number."""
    by_id = {name: row for row, name in enumerate(dataset.ids.tolist())}
    rows = []
    for name in map(str.strip, text.split(",")):
        row = by_id.get(name)
        if row is None and name.isdecimal() and int(name) < len(dataset):
            row = int(name)
        if row is None:
            raise InputError(
                f"{dataset.source}: --images must be ids or rows from 0 to {len(dataset) - 1:,}. "
                f"Received: {name!r}"
            )
        rows.append(row)
    return rows


def chosen_methods(checkpoint, args: argparse.Namespace, count: int) -> tuple[str, ...]:
    """The methods that the user names, or those that suit the model and so many images."""
    from ferlab import interpretation

    if args.saliency is not None:
        methods = tuple(dict.fromkeys(map(str.strip, args.saliency.split(","))))
    else:
        methods, notes = interpretation.methods_for(checkpoint, count)
        for note in notes:
            print(f"note: {note}")
    interpretation.require_methods(checkpoint, methods, args.layer)
    return methods


def examples(dataset, predicted):
    """Of each class in the data the first row that the model has right, else its first row."""
    import numpy as np

    rows = []
    for label in np.unique(dataset.labels):
        of_class = np.flatnonzero(dataset.labels == label)
        right = of_class[predicted[of_class] == label]
        rows.append(right[0] if len(right) else of_class[0])
    return dataset.take(rows)


def draw_structure(checkpoint, path: Path) -> None:
    """By Keras where Graphviz is there, else by hand."""
    from ferlab import plots
    from ferlab.evaluation import costs

    network = checkpoint.sized_model()
    layers = costs.layer_costs(network)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    title = (
        f"{checkpoint.path.name}: {network.count_params():,} parameters, "
        f"{multiply_adds:,} multiply-adds an image"
    )
    if not plots.save_keras_plot(network, path):
        plots.save(plots.layers_figure(layers, title), path)
    print(title.partition(": ")[2])
    print(path)


def draw_confusion(dataset, predicted, title: str, path: Path) -> None:
    from ferlab import plots
    from ferlab.evaluation import metrics

    counts = metrics.confusion_counts(dataset.labels, predicted, dataset.num_classes)
    found = metrics.accuracy(dataset.labels, predicted)
    pairs = metrics.most_confused(counts, dataset.class_names)
    figure = plots.confusion_matrix_figure(
        counts, dataset.class_names, f"{title}\naccuracy {found}", ["confused most:", *pairs]
    )
    plots.save(figure, path)
    print(f"accuracy {found}")
    print(path)
    for pair in pairs:
        print(f"  {pair}")


def draw_history(checkpoint, path: Path) -> None:
    from ferlab import plots

    history = checkpoint.metadata.get("history")
    if not history:
        print(f"{checkpoint.path} carries no training history to draw")
        return
    phases = checkpoint.metadata.get("phases", ())
    plots.save(plots.history_figure(history, checkpoint.path.name, phases), path)
    print(path)


def draw_saliency(checkpoint, rows, maps: dict, title: str, path: Path) -> None:
    from ferlab import inference, plots

    probabilities = inference.predict(checkpoint, rows)
    titles = []
    for name, label, row in zip(rows.ids, rows.labels, probabilities, strict=True):
        says = f"says {rows.class_names[row.argmax()]} {row.max():.0%}"
        titles.append(f"#{name} {rows.class_names[label] if label >= 0 else ''}\n{says}")
    plots.save(plots.saliency_figure(rows.images, titles, maps, title), path)
    print(path)


if __name__ == "__main__":
    main()
