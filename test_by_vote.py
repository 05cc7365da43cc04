"""Write a Kaggle submission by a weighted vote of checkpoints.

    python test_by_vote.py test.csv result.csv model_list.txt   ->   result.csv

A line of model_list.txt is `weight path`. Options for a model that does not record them may follow:
`pixels=unit`, `classes=angry,happy,...` and `architecture=model.json`. `#` begins a comment.
"""

from pathlib import Path

from ferlab import cli
from ferlab.errors import entry_point


def parse_args():
    flags = ("--class-names", "--truth", "--pixels", "--cache-dir", "--probabilities")
    parser = cli.parser(__doc__, "data", "result", *flags, *cli.PREDICTION_FLAGS)
    parser.add_argument(
        "model_list", type=Path, metavar="MODEL_LIST", help="text file with the weighted models"
    )
    parser.add_argument(
        "--voting",
        choices=("soft", "hard"),
        default="soft",
        help="soft: weighted mean of the probabilities; hard: weighted majority (default: soft)",
    )
    return cli.arguments(parser)


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import data, files
    from ferlab.evaluation import metrics
    from ferlab.inference import model_list, voting

    files.require_writable(args.result)
    class_names = cli.class_names(args)
    members = model_list.read(args.model_list)
    inputs = [args.data, args.model_list, args.truth, *(member.path for member in members)]
    files.require_other(args.result, inputs)
    dataset = voting.read(members, args.data, class_names, truth=args.truth).dataset
    members = model_list.with_defaults(members, args.pixels, class_names)
    probabilities = voting.collect(
        members,
        dataset,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        cache_dir=args.cache_dir,
        report=print,
    )
    shares = voting.combine(probabilities, [member.weight for member in members], args.voting)
    predicted = shares.argmax(axis=1)
    columns = shares if args.probabilities else None
    data.write_submission(
        args.result, dataset.ids, predicted, probabilities=columns, class_names=dataset.class_names
    )
    print(args.result)
    for line in metrics.accuracy_lines(dataset.labels, predicted, dataset.usage):
        print(line)


if __name__ == "__main__":
    main()
