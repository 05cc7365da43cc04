"""Training throughput of the CNN and the ResNet, against the same networks in plain PyTorch.

    python bench/throughput.py [ROUNDS]

Both train in float32 on the same batch of 128 images of noise, without augmentation. PyTorch uses
channels-last memory format; the faster of eager and compiled is the peer. The throughput in
bfloat16, which the recipes of `resnet` use, is printed too.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, record, report

from ferlab import cli
from ferlab.errors import entry_point

BATCH, STEPS = 128, 6


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("rounds", type=cli.whole_number(1), nargs="?", default=5, metavar="ROUNDS")
    rounds = parser.parse_args().rounds

    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (BATCH, 48, 48, 1)).astype("float32")
    labels = generator.integers(0, 7, BATCH)
    for name in ("cnn", "resnet"):
        steps = {
            f"ferlab {name}": keras_step(name, images, labels, bfloat16=False),
            f"ferlab {name}, bfloat16": keras_step(name, images, labels, bfloat16=True),
            f"torch {name}, eager": torch_step(name, images, labels, compiled=False),
            f"torch {name}, compiled": torch_step(name, images, labels, compiled=True),
        }
        for step in steps.values():
            seconds_of(step)
        seconds = in_turn(
            {key: lambda step=step: seconds_of(step) for key, step in steps.items()}, rounds
        )
        report(seconds, unit_count=BATCH, unit="images/s")
        ours, _, *peers = seconds
        best = min(peers, key=lambda peer: sorted(seconds[peer])[rounds // 2])
        record("training throughput", seconds, ours, best)


def seconds_of(step) -> float:
    """The mean seconds of a step."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def keras_step(name: str, images, labels, *, bfloat16: bool):
    from ferlab import backend, training
    from ferlab.backend import keras
    from ferlab.training.acceleration import accelerate
    from models import build_model

    training.set_seed(0)
    model = accelerate(build_model(name, (48, 48, 1), 7), bfloat16=bfloat16)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, jit_compile=backend.jit_compile())
    images, labels = map(keras.ops.convert_to_tensor, (images, labels))
    return lambda: model.train_on_batch(images, labels)


def torch_step(name: str, images, labels, *, compiled: bool):
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    network = {"cnn": torch_cnn, "resnet": torch_resnet}[name](nn)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True)
    loss = nn.CrossEntropyLoss()
    images = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(labels)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(forward(images), labels).backward()
        optimizer.step()

    return step


def torch_cnn(nn):
    parts, channels = [], 1
    for filters in (32, 64, 128):
        for _ in range(3):
            parts += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            parts.append(nn.BatchNorm2d(filters))
            channels = filters
        parts.append(nn.MaxPool2d(2))
    parts.append(nn.Flatten())
    width = 128 * 6 * 6
    for units in (256, 128, 64):
        parts += [nn.Linear(width, units), nn.ReLU(inplace=True)]
        width = units
    return nn.Sequential(*parts, nn.Linear(width, 7))


def torch_resnet(nn):
    from models.resnet import STAGE_BLOCKS, STAGE_FILTERS, STEM_FILTERS

    def convolution(before, after, relu=True):
        parts = [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        ]
        return nn.Sequential(*parts, *([nn.ReLU(inplace=True)] if relu else []))

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first = convolution(width, width)
            self.second = convolution(width, width, relu=False)

        def forward(self, x):
            return nn.functional.relu(x + self.second(self.first(x)), inplace=True)

    width = STEM_FILTERS
    parts = [convolution(1, width), convolution(width, width)]
    for filters, blocks in zip(STAGE_FILTERS, STAGE_BLOCKS, strict=True):
        parts += [nn.MaxPool2d(2), convolution(width, filters)]
        parts += [Block(filters) for _ in range(blocks)]
        width = filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 7))


if __name__ == "__main__":
    main()
