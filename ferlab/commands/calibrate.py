"""Fit a checkpoint's temperature on validation data.   python -m ferlab calibrate val.csv M.h5"""

import argparse

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="fit the temperature that makes a checkpoint's probabilities believable",
        description="Fit one temperature on VALIDATION and store it in MODEL. It changes how sure "
        "the model is, never what it answers; `test.py --probabilities` uses it. With it go the "
        "pixels and classes it holds for; the model stays as it is. Temperature scaling: Guo et "
        "al. 2017.",
        parents=[
            cli.data_options(),
            cli.checkpoint_options(),
            cli.architecture_options(),
            cli.prediction_options(),
            cli.held_out_options(),
        ],
    )
    parser.add_argument("data", metavar="VALIDATION", help="labelled CSV, .npz or folder")
    parser.add_argument(
        "checkpoint", type=cli.model_file, metavar="MODEL", help="checkpoint to calibrate"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files, inference, pretrained
    from ferlab.evaluation import calibration, held_out
    from ferlab.inference import matching

    if pretrained.is_shipped(args.checkpoint):
        raise InputError(f"{args.checkpoint}: is shipped as it is; copy it and calibrate the copy")
    files.require_writable(args.checkpoint)
    class_names = cli.chosen_class_names(args)
    checkpoint = checkpoints.load(
        args.checkpoint,
        pixels=args.pixels,
        class_names=class_names,
        architecture=args.architecture,
    )
    match = matching.read(
        args.data, [checkpoint], role="train", class_names=class_names, truth=args.truth
    )
    dataset = held_out.tuning_rows(
        match.at(checkpoint.image_shape), [args.checkpoint], usage=args.usage, report=print
    )
    probabilities = inference.predict(checkpoint, dataset, batch_size=args.batch_size, report=print)

    temperature = calibration.fit_temperature(probabilities, dataset.labels)
    # It is valid for these pixels and classes only, so they are recorded with it.
    checkpoints.update_record(
        args.checkpoint,
        temperature=temperature,
        pixels=checkpoint.pixels,
        class_names=checkpoint.class_names,
    )
    for line in calibration.calibration_lines(probabilities, dataset.labels, temperature):
        print(line)
    print(f"{args.checkpoint}: temperature stored")
