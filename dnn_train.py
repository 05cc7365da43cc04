"""Train the DNN, which has as many parameters as the CNN.

python dnn_train.py train.csv   ->   dnn_[val_acc].h5
"""

from ferlab import cli
from ferlab.errors import entry_point


def parse_args():
    return cli.training_parser(__doc__, "dnn-report").parse_args()


@entry_point
def main() -> None:
    args = parse_args()
    recipe = cli.chosen_recipe(args)

    from ferlab import data

    dataset = data.read(
        args.data,
        role="train",
        class_names=cli.chosen_class_names(args),
        image_shape=cli.chosen_image_shape(args),
    )
    train, validation = dataset.split(recipe.validation)

    from ferlab import files, training
    from models import build_model

    files.require_writable(args.out_dir / "checkpoint.h5")
    seed = args.seed or 0
    training.set_seed(seed)
    model = build_model(recipe.model, train.image_shape, train.num_classes)
    result = training.fit(
        model,
        train,
        validation,
        recipe,
        seed=seed,
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
    )
    print(training.publish(result, args.out_dir))


if __name__ == "__main__":
    main()
