"""Train a network.

    python train.py train.csv   ->   [val_acc].h5

The recipe says which: `best` trains a small residual network for about an hour of two cores,
`fast` the same for 20 minutes, `cnn-report` the course report's CNN.
"""

from ferlab import cli
from ferlab.errors import InputError, entry_point
from ferlab.recipes import Recipe, settings


def parse_args():
    parser = cli.training_parser(__doc__, "best")
    group = parser.add_argument_group("distillation")
    group.add_argument(
        "--teacher",
        type=cli.model_file,
        action="append",
        default=[],
        metavar="MODEL",
        help="learn the probabilities of this checkpoint, or of a vote (a model_list.txt), beside "
        "the labels; given several times, of all of them as one vote",
    )
    group.add_argument(
        "--teacher-weight",
        type=float,
        metavar="FRACTION",
        help=settings(Recipe)["teacher_weight"].help,
    )
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()
    if args.teacher_weight is not None and not args.teacher:
        raise InputError("--teacher-weight requires --teacher")
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
    from ferlab.training import distillation
    from ferlab.training.objectives import Supervised
    from models import build_model

    files.require_writable(args.out_dir / "checkpoint.h5")
    seed = args.seed or 0
    train = train.without_labels(recipe.labels_removed, seed).labelled()
    teacher = distillation.teacher(args.teacher, train, recipe, report=print)
    training.set_seed(seed)
    model = build_model(recipe.model, train.image_shape, train.num_classes)
    result = training.fit(
        model,
        train,
        validation,
        recipe,
        seed=seed,
        objective=Supervised(train, recipe, teacher=teacher),
        run_dir=args.run_dir,
        keep_epochs=args.keep_epochs,
    )
    print(training.publish(result, args.out_dir))


if __name__ == "__main__":
    main()
