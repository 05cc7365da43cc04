"""Train a checkpoint for more epochs with what a predictor says of the unlabelled images.

python semi_retrain.py train.csv test.csv 0.643750.h5 semi_0.642500.h5 20 30
    ->   [val_acc]_semi_0.642500.h5
"""

import dataclasses
import functools

from ferlab import cli
from ferlab.errors import InputError, entry_point
from ferlab.recipes import MAX_EPOCHS, RECIPES, SemiRecipe, settings


def parse_args():
    parser = cli.parser(
        __doc__,
        "data",
        "test",
        "predictor",
        "--class-names",
        "--truth",
        *cli.CHECKPOINT_FLAGS,
        *cli.RUN_FLAGS,
    )
    parser.add_argument(
        "existing",
        type=cli.model_file,
        metavar="EXISTING",
        help="checkpoint to train for more epochs",
    )
    parser.add_argument(
        "previous_epoch",
        type=cli.whole_number(0, MAX_EPOCHS),
        metavar="PREVIOUS_EPOCH",
        help="epochs that EXISTING has been trained for",
    )
    parser.add_argument(
        "last_epoch",
        type=cli.whole_number(1, MAX_EPOCHS),
        metavar="LAST_EPOCH",
        help="epochs after this training, those of EXISTING included",
    )
    cli.add_recipe(parser, None, kind=SemiRecipe, without=("epochs", "rounds"))
    cli.add(parser, "--control")
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import checkpoints

    recorded = checkpoints.recorded_recipe(args.existing)
    base = semi_recipe(recorded).override(epochs=args.last_epoch, rounds=1, ramp_epochs=0)
    recipe = cli.recipe(args, base)
    if recorded and recipe.validation != recorded.validation:
        raise InputError(
            f"{args.existing}: --validation must stay {recorded.validation}, "
            "since the model was trained on other rows"
        )

    from ferlab import files, plots
    from ferlab.inference import matching
    from ferlab.training import semi_supervised

    class_names = cli.class_names(args)

    load = functools.partial(cli.load_checkpoint, args, fill_in=True)
    existing, predictor = load(args.existing, with_optimizer=True), load(args.predictor)
    dataset, test = (
        matching.read(
            path, [existing], role=role, class_names=class_names, truth=truth
        ).in_order_of(existing)
        for path, role, truth in ((args.data, "train", None), (args.test, "test", args.truth))
    )

    files.require_writable(args.out_dir / "checkpoint.h5")
    seed = (existing.record.seed or 0) if args.seed is None else args.seed
    rows = semi_supervised.split_rows(dataset, test, recipe, seed, report=print)

    def start():
        previous = load(args.existing, with_optimizer=True)
        return previous.raw_pixel_model(), previous

    experiment = semi_supervised.Experiment(
        rows,
        recipe,
        predictor,
        start,
        seed=seed,
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
        existing=existing,
        initial_epoch=args.previous_epoch,
    )
    path, outcome = semi_supervised.run(
        experiment,
        out_dir=args.out_dir,
        suffix=f"_{args.existing.stem}",
        with_control=args.control,
        scored=test.labelled() if args.truth else None,
    )
    picture = path.with_name(f"{path.stem}_pseudo.png")
    class_names = rows.labelled.class_names
    plots.save(plots.pseudo_labels_figure(outcome.rounds(), class_names, path.name), picture)
    print(picture)
    print(path)


def semi_recipe(recorded):
    """The recipe of the existing checkpoint, as far as semi-report knows its settings."""
    base = RECIPES["semi-report"]
    if recorded is None or isinstance(recorded, SemiRecipe):
        return recorded or base
    shared = {
        name: getattr(recorded, name)
        for name, setting in settings(type(recorded)).items()
        if not setting.supervised_only
    }
    return dataclasses.replace(base, model=recorded.model, **shared)


if __name__ == "__main__":
    main()
