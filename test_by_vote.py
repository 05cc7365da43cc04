"""Write a Kaggle submission by a weighted vote of checkpoints.

    python test_by_vote.py test.csv result.csv model_list.txt   ->   result.csv

A line of model_list.txt is `weight path`, and may go on with `pixels=unit`,
`classes=angry,happy,...` and `architecture=model.json` for a model that does not tell;
`#` begins a comment.
"""

from pathlib import Path

from ferlab import cli
from ferlab.errors import entry_point


def parse_args():
    parser = cli.parser(
        __doc__,
        "data",
        "result",
        "--class-names",
        "--truth",
        "--pixels",
        *cli.PREDICTION_FLAGS,
        "--cache-dir",
        "--probabilities",
    )
    parser.add_argument(
        "model_list", type=Path, metavar="MODEL_LIST", help="text file with the weighted models"
    )
    parser.add_argument(
        "--voting",
        choices=("soft", "hard"),
        default="soft",
        help="soft: weighted mean of the probabilities; hard: weighted majority (default: soft)",
    )
    return parser.parse_args()


@entry_point
def main() -> None:
    args = parse_args()

    from ferlab import data, files
    from ferlab.evaluation import metrics
    from ferlab.inference import model_list, vote_cache, voting

    files.require_writable(args.result)
    class_names = cli.class_names(args)
    members = model_list.read(args.model_list)
    read = [args.data, args.model_list, args.truth, *(member.path for member in members)]
    files.require_other(args.result, read)
    dataset = voting.read(members, args.data, class_names, truth=args.truth).dataset
    members = model_list.with_defaults(members, args.pixels, class_names)
    probabilities = voting.collect(
        members,
        dataset,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        cache_dir=args.cache_dir or vote_cache.default_folder(),
        report=print,
    )
    shares = voting.combine(probabilities, [member.weight for member in members], args.voting)
    predicted = shares.argmax(axis=1)
    data.write_submission(
        args.result,
        dataset.ids,
        predicted,
        probabilities=shares if args.probabilities else None,
        class_names=dataset.class_names,
    )
    print(args.result)
    for line in metrics.accuracy_lines(dataset.labels, predicted, dataset.usage):
        print(line)


if __name__ == "__main__":
    main()
