"""Draw a model's confusion matrix over a labelled file, and its training history.

python plot_model.py train.csv 0.643750.h5   ->   0.643750_cm.png  0.643750_his.png
"""

from pathlib import Path

from ferlab import cli
from ferlab.errors import entry_point


def parse_args():
    parser = cli.parser(
        __doc__,
        cli.data_options(),
        cli.checkpoint_options(),
        cli.architecture_options(),
        cli.prediction_options(),
    )
    parser.add_argument("data", metavar="DATA", help="labelled CSV, .npz or folder")
    parser.add_argument("checkpoint", type=Path, metavar="MODEL", help="checkpoint to draw")
    parser.add_argument(
        "--usage", metavar="NAME", help="rows to count, such as PublicTest (default: Training)"
    )
    parser.add_argument(
        "--out-dir", type=Path, default=Path(), metavar="DIR", help="(default: here)"
    )
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import checkpoints, files, inference, metrics, plots

    stem = args.out_dir / args.checkpoint.stem
    files.require_writable(f"{stem}_cm.png")
    class_names = cli.chosen_class_names(args)
    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
    )
    dataset = inference.read_for(checkpoint, args.data, role="train", class_names=class_names)
    dataset = dataset.of_usage(args.usage)
    metrics.require_labels(dataset.labels, dataset.source)
    predicted = inference.predict(
        checkpoint, dataset, batch_size=args.batch_size, report=print
    ).argmax(axis=1)

    counts = metrics.confusion_counts(dataset.labels, predicted, dataset.num_classes)
    found = metrics.accuracy(dataset.labels, predicted)
    title = f"{args.checkpoint.name} on {Path(args.data).name} {args.usage or ''}\n{found}"
    plots.save(
        plots.confusion_matrix_figure(counts, dataset.class_names, title), Path(f"{stem}_cm.png")
    )
    print(f"{stem}_cm.png")
    for pair in metrics.most_confused(counts, dataset.class_names):
        print(f"  {pair}")
    if history := checkpoint.metadata.get("history"):
        plots.save(plots.history_figure(history, args.checkpoint.name), Path(f"{stem}_his.png"))
        print(f"{stem}_his.png")
    else:
        print(f"{args.checkpoint} carries no training history to draw")


if __name__ == "__main__":
    main()
