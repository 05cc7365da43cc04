"""Write a Kaggle submission with a checkpoint; with labelled rows, print the accuracy too.

python test.py test.csv result.csv 0.643750.h5   ->   result.csv
"""

from ferlab import cli
from ferlab.errors import entry_point


def parse_args(description: str):
    parser = cli.parser(
        description,
        "data",
        "result",
        "checkpoint",
        "--class-names",
        "--truth",
        *cli.CHECKPOINT_FLAGS,
        *cli.PREDICTION_FLAGS,
        "--probabilities",
    )
    return cli.arguments(parser)


@entry_point
def main(description: str = __doc__) -> None:
    args = parse_args(description)

    from ferlab import data, files, inference
    from ferlab.evaluation import calibration, metrics
    from ferlab.inference import matching

    files.require_writable(args.result)
    files.require_other(args.result, [args.data, args.checkpoint, args.truth])
    class_names = cli.class_names(args)
    checkpoint = cli.load_checkpoint(args)
    dataset = matching.read(
        args.data, [checkpoint], role="test", class_names=class_names, truth=args.truth
    ).dataset
    probabilities = inference.predict(
        checkpoint,
        dataset,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        report=print,
    )
    predicted = probabilities.argmax(axis=1)
    calibrated = None
    if args.probabilities:
        calibrated = calibration.with_temperature(probabilities, checkpoint.temperature or 1)
    data.write_submission(
        args.result,
        dataset.ids,
        predicted,
        probabilities=calibrated,
        class_names=dataset.class_names,
    )
    print(args.result)
    for line in metrics.accuracy_lines(dataset.labels, predicted, dataset.usage):
        print(line)
    if args.probabilities:
        temperature = checkpoint.temperature
        for line in calibration.calibration_lines(probabilities, dataset.labels, temperature):
            print(line)


if __name__ == "__main__":
    main()
