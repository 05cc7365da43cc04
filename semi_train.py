"""Train with half of the labels, and with a predictor's pseudo-labels for all other images.

python semi_train.py train.csv test.csv 0.643750.h5   ->   semi_[val_acc].h5
"""

from pathlib import Path

from ferlab import cli, files
from ferlab.errors import entry_point
from ferlab.recipes import SemiRecipe


def parse_args():
    parser = cli.parser(__doc__, "data", "test", "predictor", *cli.FOLDER_FLAGS, "--truth")
    cli.add(parser, "--control", *cli.CHECKPOINT_FLAGS, *cli.RUN_FLAGS)
    cli.add_recipe(parser, "semi-report", kind=SemiRecipe)
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()
    recipe = cli.recipe(args)
    files.require_writable(args.out_dir / "checkpoint.h5")

    from ferlab import data
    from ferlab.inference import matching
    from ferlab.reports import pictures
    from ferlab.training import semi_supervised

    class_names = cli.class_names(args)
    predictor = cli.load_checkpoint(args, args.predictor)
    dataset = data.read(
        args.data,
        role="train",
        class_names=matching.names_to_read(args.data, [predictor], class_names),
        image_shape=cli.image_shape(args),
    )
    test = data.read(
        args.test,
        role="test",
        class_names=dataset.class_names,
        image_shape=dataset.image_shape if Path(args.test).is_dir() else None,
    )
    seed = args.seed or 0
    rows = semi_supervised.split_rows(dataset, test, recipe, seed, report=print)
    if recipe.method == "fixmatch":
        recipe = recipe.override(model=predictor.record.recipe.get("model"))

    semi_supervised.run(
        semi_supervised.Experiment(rows, recipe, predictor, seed, keep_epochs=args.keep_epochs),
        out_dir=args.out_dir,
        run_dir=args.run_dir,
        with_control=args.control,
        scored=data.with_truth(test, args.truth).labelled() if args.truth else None,
        draw=pictures.save_pseudo_labels,
        report=cli.say,
    )


if __name__ == "__main__":
    main()
