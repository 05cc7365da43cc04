"""Train a checkpoint for more epochs, from PREVIOUS_EPOCH (completed so far) to LAST_EPOCH.

python retrain.py train.csv 0.643750.h5 20 30   ->   [val_acc]_0.643750.h5
"""

from ferlab import cli, files
from ferlab.errors import entry_point


def parse_args():
    parser = cli.parser(__doc__, "data", "checkpoint", "previous_epoch", "last_epoch")
    cli.add(parser, "--class-names", *cli.CHECKPOINT_FLAGS, *cli.RUN_FLAGS)
    cli.add_recipe(parser, None, without=("epochs", "teacher_weight"))
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()
    files.require_writable(args.out_dir / "checkpoint.h5")

    from ferlab import training
    from ferlab.inference import matching
    from ferlab.training import further

    recipe = cli.recipe(args, further.supervised_recipe(args.checkpoint, args.last_epoch))
    further.require_same_validation(args.checkpoint, recipe)
    checkpoint = cli.load_checkpoint(args, with_optimizer=True)
    names = cli.class_names(args)
    match = matching.read(args.data, [checkpoint], role="train", class_names=names)
    train, validation = match.in_order_of(checkpoint).split(recipe.validation)
    seed = (checkpoint.record.seed or 0) if args.seed is None else args.seed
    train = train.without_labels(recipe.labels_removed, seed).labelled()
    training.set_seed(seed)
    result = training.fit(
        checkpoint.raw_pixel_model(),
        training.Supervised(train, recipe, seed=seed),
        validation,
        start=training.Start(resume_from=checkpoint, epoch=args.previous_epoch),
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
    )
    training.publish(result, args.out_dir, suffix=f"_{args.checkpoint.stem}", report=cli.say)


if __name__ == "__main__":
    main()
