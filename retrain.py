"""Train a checkpoint for more epochs, from PREVIOUS_EPOCH (how many it has had) to LAST_EPOCH.

python retrain.py train.csv 0.643750.h5 20 30   ->   [val_acc]_0.643750.h5
"""

from ferlab import cli
from ferlab.errors import InputError, entry_point
from ferlab.recipes import MAX_EPOCHS, RECIPES, SemiRecipe


def parse_args():
    parser = cli.parser(
        __doc__, "data", "checkpoint", "--class-names", *cli.CHECKPOINT_FLAGS, *cli.RUN_FLAGS
    )
    parser.add_argument(
        "previous_epoch",
        type=cli.whole_number(0, MAX_EPOCHS),
        metavar="PREVIOUS_EPOCH",
        help="epochs that MODEL has been trained for",
    )
    parser.add_argument(
        "last_epoch",
        type=cli.whole_number(1, MAX_EPOCHS),
        metavar="LAST_EPOCH",
        help="epochs after this training, those of MODEL included",
    )
    cli.add_recipe(parser, None, without=("epochs", "teacher_weight"))
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import checkpoints

    recorded = checkpoints.recorded_recipe(args.checkpoint)
    if isinstance(recorded, SemiRecipe):
        raise InputError(
            f"{args.checkpoint}: has learned from unlabelled images; "
            "semi_retrain.py goes on with it"
        )
    recipe = cli.recipe(args, recorded or RECIPES["cnn-report"])
    recipe = recipe.override(epochs=args.last_epoch)
    if recorded and recipe.validation != recorded.validation:
        raise InputError(
            f"{args.checkpoint}: --validation must stay {recorded.validation}, "
            "since the model was trained on other rows"
        )

    from ferlab import files, training
    from ferlab.inference import matching

    class_names = cli.class_names(args)
    previous = cli.load_checkpoint(args, with_optimizer=True)
    match = matching.read(args.data, [previous], role="train", class_names=class_names)
    dataset = match.in_order_of(previous)
    train, validation = dataset.split(recipe.validation)

    files.require_writable(args.out_dir / "checkpoint.h5")
    seed = (previous.record.seed or 0) if args.seed is None else args.seed
    training.set_seed(seed)
    result = training.fit(
        previous.raw_pixel_model(),
        train,
        validation,
        recipe,
        seed=seed,
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
        previous=previous,
        initial_epoch=args.previous_epoch,
    )
    print(training.publish(result, args.out_dir, suffix=f"_{args.checkpoint.stem}"))


if __name__ == "__main__":
    main()
