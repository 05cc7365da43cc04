"""Training time to 65% accuracy on the public half, against a plain Keras script.

    python bench/time_to_accuracy.py FER_DIR [--full] [--peer PEER.py] [--goal 0.65]

--full runs both trainings one after the other, about an hour and a half on two cores, and compares
with the best epoch of the peer among 20. Without it, each trains two epochs and the time per epoch
is compared. PEER.py FER_DIR EPOCHS must print `read after SECONDS s`, then for each epoch a line of
`epoch N SECONDS s` that ends in an accuracy; by default it is bench/plain_keras.py.
"""

import csv
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import printed_by, record, report

from ferlab import cli
from ferlab.errors import InputError, entry_point

ROOT = Path(__file__).parent.parent
PEER_EPOCHS = 20


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("fer_dir", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--peer", type=Path, default=Path(__file__).with_name("plain_keras.py"))
    parser.add_argument("--goal", type=float, default=0.65)
    args = parser.parse_args()
    if args.full:
        ours, accuracy = ours_until(args.fer_dir, args.goal)
        print(f"train.py --recipe fast: {accuracy:.4f} on the public half after {ours:.0f} s")
        epochs = peer_epochs(args.peer, args.fer_dir, PEER_EPOCHS)
        best = max(epochs, key=lambda epoch: epoch[1])
        print(f"{args.peer.name}: {best[1]:.4f}, its best, after {best[0]:.0f} s")
        if accuracy < args.goal:
            sys.exit(f"{args.goal:.4f} was not reached; no ratio recorded")
        seconds = {"train.py --recipe fast": [ours], args.peer.name: [best[0]]}
        record("time to accuracy", seconds, *seconds)
        return
    seconds = {"train.py --recipe fast": our_epochs(args.fer_dir, 2)[1:]}
    first, second = (epoch[0] for epoch in peer_epochs(args.peer, args.fer_dir, 2))
    seconds[args.peer.name] = [second - first]
    report(seconds, unit="s/epoch")
    record("an epoch", seconds, *seconds)


def peer_epochs(peer: Path, fer_dir: Path, epochs: int) -> list[tuple[float, float]]:
    """(seconds of training, accuracy) after every epoch, without the time to read files."""
    printed = printed_by(peer, fer_dir, epochs)
    reading = re.search(r"read after +([\d.]+) s", printed)
    lines = re.findall(r"^epoch +\d+ +([\d.]+) s.* ([\d.]+)$", printed, re.MULTILINE)
    if not reading or len(lines) != epochs:
        raise InputError(f"{peer}: does not print the required lines; see --help")
    return [(float(seconds) - float(reading[1]), float(accuracy)) for seconds, accuracy in lines]


def train(fer_dir: Path, folder: Path, *options: str) -> list[dict]:
    """Train with the recipe `fast`; the rows of its history."""
    folders = ("--out-dir", folder, "--run-dir", folder / "run")
    printed_by(ROOT / "train.py", fer_dir / "train.csv", "--recipe", "fast", *options, *folders)
    with (folder / "run" / "history.csv").open() as file:
        return list(csv.DictReader(file))


def our_epochs(fer_dir: Path, epochs: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        options = (
            "--epochs",
            str(epochs),
            "--progressive-scale",
            "0",
            "--progressive-fraction",
            "0",
        )
        return [float(row["seconds"]) for row in train(fer_dir, Path(folder), *options)]


def ours_until(fer_dir: Path, goal: float) -> tuple[float, float]:
    """(seconds of training, public accuracy) when the goal is reached, or at the end."""
    from ferlab import checkpoints, data, inference
    from ferlab.recipes import RECIPES

    epochs = RECIPES["fast"].epochs
    test = data.read(str(fer_dir / "test.csv"), role="test")
    public = data.with_truth(test, fer_dir / "public_truth.csv").labelled()
    with tempfile.TemporaryDirectory() as folder:
        history = train(fer_dir, Path(folder), "--keep-epochs", str(epochs))
        seconds = accuracy = 0.0
        for epoch, row in enumerate(history):
            seconds += float(row["seconds"])
            (path,) = Path(folder).glob(f"*/{epoch}_*.h5")
            probabilities = inference.predict(checkpoints.load(path), public)
            accuracy = float((probabilities.argmax(axis=1) == public.labels).mean())
            if accuracy >= goal:
                break
        return seconds, accuracy


if __name__ == "__main__":
    main()
