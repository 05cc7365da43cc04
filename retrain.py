"""Train a checkpoint for more epochs, from PREVIOUS_EPOCH (how many it has had) to LAST_EPOCH.

python retrain.py train.csv 0.643750.h5 20 30   ->   [val_acc]_0.643750.h5
"""

from ferlab import cli
from ferlab.errors import InputError, entry_point
from ferlab.recipes import RECIPES, SemiRecipe


def parse_args():
    parser = cli.training_parser(
        __doc__, None, cli.checkpoint_options(), cli.architecture_options()
    )
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to go on with"
    )
    parser.add_argument("previous_epoch", type=cli.whole_number(0), metavar="PREVIOUS_EPOCH")
    parser.add_argument("last_epoch", type=cli.whole_number(1), metavar="LAST_EPOCH")
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
    recipe = cli.chosen_recipe(args, recorded or RECIPES["cnn-report"])
    recipe = recipe.override(epochs=args.last_epoch)
    if recorded and recipe.validation != recorded.validation:
        raise InputError(
            f"{args.checkpoint}: --validation must stay {recorded.validation}, "
            "since the model was trained on other rows"
        )

    from ferlab import files, training
    from ferlab.inference import matching

    class_names = cli.chosen_class_names(args)
    previous = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
        with_optimizer=True,
    )
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
