"""Train a network.

    python train.py train.csv   ->   [val_acc].h5

The recipe selects it: `best` trains a small residual network in about an hour on two cores, `fast`
the same network in 20 minutes, `cnn-report` the course report's CNN.
"""

from ferlab import cli, files
from ferlab.errors import entry_point


def parse_args(description: str, default_recipe: str):
    parser = cli.parser(description, "data", *cli.FOLDER_FLAGS, *cli.RUN_FLAGS, "--teacher")
    cli.add_recipe(parser, default_recipe)
    return cli.arguments(parser)


@entry_point
def main(description: str = __doc__, default_recipe: str = "best") -> None:
    args = parse_args(description, default_recipe)
    cli.require_with(args, "--teacher", "--teacher-weight")
    recipe = cli.recipe(args)
    dataset = cli.read_training_data(args)
    train, validation = dataset.split(recipe.validation)

    files.require_writable(args.out_dir / "checkpoint.h5")

    from ferlab import training

    result = training.train(
        train,
        validation,
        recipe,
        seed=args.seed or 0,
        teachers=args.teacher,
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
    )
    training.publish(result, args.out_dir, report=cli.say)


if __name__ == "__main__":
    main()
