"""Fit a checkpoint's temperature on validation data.   python -m ferlab calibrate val.csv M.h5"""

import argparse

from ferlab import cli
from ferlab.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    parser = cli.command(
        subparsers,
        "calibrate",
        "--class-names",
        "--truth",
        "--usage",
        *cli.CHECKPOINT_FLAGS,
        "--batch-size",
        help="fit the temperature that calibrates a checkpoint's probabilities",
        description="Fit a temperature on VALIDATION and store it in MODEL, with the pixel scale "
        "and the class names that it was fitted with. It changes the probabilities, never the "
        "predicted class; `test.py --probabilities` uses it. Rows that MODEL was trained on are "
        "not used. Temperature scaling: Guo et al. 2017.",
        run=run,
    )
    parser.add_argument("data", metavar="VALIDATION", help="labelled CSV, .npz or folder")
    cli.add(parser, "checkpoint")


def run(args: argparse.Namespace) -> None:
    from ferlab import checkpoints, files, inference, pretrained
    from ferlab.evaluation import calibration, held_out
    from ferlab.inference import matching

    if pretrained.is_shipped(args.checkpoint):
        raise InputError(f"{args.checkpoint}: is a shipped model; copy it and calibrate the copy")
    files.require_writable(args.checkpoint)
    class_names = cli.class_names(args)
    checkpoint = cli.load_checkpoint(args)
    match = matching.read(
        args.data, [checkpoint], role="train", class_names=class_names, truth=args.truth
    )
    dataset = held_out.tuning_rows(
        match.at(checkpoint.image_shape), [args.checkpoint], usage=args.usage, report=print
    )
    probabilities = inference.predict(checkpoint, dataset, batch_size=args.batch_size, report=print)

    temperature = calibration.fit_temperature(probabilities, dataset.labels)
    # The temperature is valid only for these pixels and classes, so they are recorded with it.
    checkpoints.update_record(
        args.checkpoint,
        temperature=temperature,
        pixels=checkpoint.pixels,
        class_names=checkpoint.class_names,
    )
    for line in calibration.calibration_lines(probabilities, dataset.labels, temperature):
        print(line)
    print(f"{args.checkpoint}: temperature stored")
