"""Train a checkpoint for more epochs, with a predictor's pseudo-labels for unlabelled images.

python semi_retrain.py train.csv test.csv 0.643750.h5 semi_0.642500.h5 20 30
    ->   [val_acc]_semi_0.642500.h5
"""

from ferlab import cli, files
from ferlab.errors import entry_point
from ferlab.recipes import SemiRecipe


def parse_args():
    parser = cli.parser(__doc__, "data", "test", "predictor", "existing", "--class-names")
    cli.add(parser, "previous_epoch", "last_epoch", "--truth", "--control")
    cli.add(parser, *cli.CHECKPOINT_FLAGS, *cli.RUN_FLAGS)
    cli.add_recipe(parser, None, kind=SemiRecipe, without=("epochs", "rounds"))
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()
    files.require_writable(args.out_dir / "checkpoint.h5")

    from ferlab.inference import matching
    from ferlab.reports import pictures
    from ferlab.training import further, semi_supervised

    recipe = cli.recipe(args, further.semi_supervised_recipe(args.existing, args.last_epoch))
    further.require_same_validation(args.existing, recipe)
    existing = cli.load_checkpoint(args, args.existing, with_optimizer=True, fill_in=True)
    predictor = cli.load_checkpoint(args, args.predictor, fill_in=True)
    names = cli.class_names(args)
    train, test = (
        matching.read(path, [existing], role=role, class_names=names, truth=truth)
        for path, role, truth in ((args.data, "train", None), (args.test, "test", args.truth))
    )
    dataset, test = train.in_order_of(existing), test.in_order_of(existing)
    seed = (existing.record.seed or 0) if args.seed is None else args.seed
    experiment = semi_supervised.Experiment(
        semi_supervised.split_rows(dataset, test, recipe, seed, report=print),
        recipe,
        predictor,
        seed,
        resume_from=existing,
        initial_epoch=args.previous_epoch,
        keep_epochs=args.keep_epochs,
    )
    semi_supervised.run(
        experiment,
        out_dir=args.out_dir,
        run_dir=args.run_dir,
        suffix=f"_{args.existing.stem}",
        with_control=args.control,
        scored=test.labelled() if args.truth else None,
        draw=pictures.save_pseudo_labels,
        report=cli.say,
    )


if __name__ == "__main__":
    main()
