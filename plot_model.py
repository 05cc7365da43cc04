"""Draw a model's layers, confusion matrix, training history and saliency maps.

python plot_model.py train.csv 0.643750.h5
  ->   0.643750_struct.png  0.643750_cm.png  0.643750_his.png  0.643750_sm.png
"""

from pathlib import Path

from ferlab import cli, interpretation
from ferlab.errors import entry_point

PICTURES = {
    "struct": "layers",
    "cm": "confusion matrix",
    "his": "training history",
    "sm": "saliency maps",
}


def parse_args():
    parser = cli.parser(
        __doc__,
        "data",
        "checkpoint",
        "--class-names",
        *cli.CHECKPOINT_FLAGS,
        "--batch-size",
        "--out-dir",
    )
    pictures = ", ".join(f"{name} ({meaning})" for name, meaning in PICTURES.items())
    parser.add_argument(
        "--what",
        type=cli.names_of(PICTURES),
        default=tuple(PICTURES),
        metavar="NAME,NAME,...",
        help=f"pictures to draw: {pictures} (default: all)",
    )
    parser.group("data").add_argument(
        "--usage", metavar="NAME", help="rows to evaluate, such as PublicTest (default: Training)"
    )
    saliency = parser.group("saliency")
    saliency.add_argument(
        "--images",
        type=lambda text: tuple(map(str.strip, text.split(","))),
        metavar="ROW,ROW,...",
        help="rows of DATA to explain, counted from 0, or their ids (default: the first correctly "
        "classified row of each class)",
    )
    methods = ", ".join(f"{name} ({each.help})" for name, each in interpretation.METHODS.items())
    saliency.add_argument(
        "--saliency",
        type=cli.names_of(interpretation.METHODS),
        metavar="NAME,NAME,...",
        help=f"methods: {methods} (default: those that suit the model)",
    )
    saliency.add_argument(
        "--layer",
        metavar="NAME",
        help="layer for the methods that use its maps (default: the last convolution)",
    )
    saliency.add_argument(
        "--samples",
        type=cli.whole_number(1, 10_000),
        default=10,
        metavar="N",
        help="noisy copies for smoothgrad; 50 take five times as long and give smoother maps "
        "(default: 10)",
    )
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import files, inference
    from ferlab.evaluation import metrics
    from ferlab.inference import matching
    from ferlab.reports import pictures

    paths = {what: args.out_dir / f"{args.checkpoint.stem}_{what}.png" for what in args.what}
    for path in paths.values():
        files.require_other(path, [args.data, args.checkpoint, args.architecture])
        files.require_writable(path)
    class_names = cli.class_names(args)
    checkpoint = cli.load_checkpoint(args)
    match = matching.read(args.data, [checkpoint], role="train", class_names=class_names)
    whole = match.at(checkpoint.image_shape)
    dataset, examples = whole.of_usage(args.usage), None
    if args.images:
        examples = whole.take(interpretation.rows_by_name(whole, args.images))
    needs_predictions = "cm" in paths or ("sm" in paths and examples is None)
    if needs_predictions:
        metrics.require_labels(dataset.labels, dataset.source)
    if "sm" in paths:
        count = len(examples) if examples else dataset.num_classes
        methods = interpretation.select_methods(
            checkpoint, count, args.saliency, layer=args.layer, report=print
        )
    title = f"{args.checkpoint.name} on {Path(args.data).name} {args.usage or ''}".strip()

    if "struct" in paths:
        pictures.save_structure(checkpoint, paths["struct"], print)
    if needs_predictions:
        predicted = inference.predict(
            checkpoint, dataset, batch_size=args.batch_size, report=print
        ).argmax(axis=1)
    if "cm" in paths:
        pictures.save_confusion_matrix(dataset, predicted, title, paths["cm"], print)
    if "his" in paths:
        pictures.save_history(checkpoint, paths["his"], print)
    if "sm" in paths:
        if examples is None:
            examples = dataset.take(interpretation.one_per_class(dataset.labels, predicted))
        maps = interpretation.saliency(
            checkpoint, examples, methods, layer=args.layer, samples=args.samples, report=print
        )
        pictures.save_saliency(checkpoint, examples, maps, title, paths["sm"], print)


if __name__ == "__main__":
    main()
