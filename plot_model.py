"""Draw a model's layers, confusion matrix, training history and saliency maps.

python plot_model.py train.csv 0.643750.h5   ->   0.643750_struct.png, _cm.png, _his.png, _sm.png
"""

from pathlib import Path

from ferlab import cli, interpretation
from ferlab.errors import entry_point

PICTURES = ("struct", "cm", "his", "sm")


@entry_point
def main() -> None:
    flags = ("--class-names", *cli.CHECKPOINT_FLAGS, "--batch-size", "--out-dir")
    parser = cli.parser(__doc__, "data", "checkpoint", *flags, *cli.SALIENCY_FLAGS)
    parser.add_argument(
        "--what",
        type=cli.names_of(PICTURES),
        default=PICTURES,
        metavar="NAME,NAME,...",
        help="struct (layers), cm (confusion matrix), his (history), sm (saliency) (default: all)",
    )
    parser.group("data").add_argument(
        "--usage", metavar="NAME", help="rows to evaluate, such as PublicTest (default: Training)"
    )
    args = cli.arguments(parser)
    from ferlab import files, inference
    from ferlab.evaluation import metrics
    from ferlab.inference import matching
    from ferlab.reports import pictures

    paths = {what: args.out_dir / f"{args.checkpoint.stem}_{what}.png" for what in args.what}
    for path in paths.values():
        files.require_other(path, [args.data, args.checkpoint, args.architecture])
        files.require_writable(path)
    checkpoint, names = cli.load_checkpoint(args), cli.class_names(args)
    match = matching.read(args.data, [checkpoint], role="train", class_names=names)
    whole = match.at(checkpoint.image_shape)
    dataset, examples = whole.of_usage(args.usage), None
    if args.images:
        examples = whole.take(interpretation.rows_by_name(whole, args.images))
    if needs_predictions := "cm" in paths or ("sm" in paths and examples is None):
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
        outputs = inference.predict(checkpoint, dataset, batch_size=args.batch_size, report=print)
        predicted = outputs.argmax(axis=1)
        examples = examples or dataset.take(interpretation.one_per_class(dataset.labels, predicted))
    if "cm" in paths:
        pictures.save_confusion_matrix(dataset, predicted, title, paths["cm"], print)
    if "his" in paths:
        pictures.save_history(checkpoint, paths["his"], print)
    if "sm" in paths:
        maps = interpretation.saliency(
            checkpoint, examples, methods, layer=args.layer, samples=args.samples, report=print
        )
        pictures.save_saliency(checkpoint, examples, maps, title, paths["sm"], print)


if __name__ == "__main__":
    main()
