"""The time of a vote beyond its members' forward passes, without and with cached predictions.

    python bench/vote.py test.csv [model_list.txt]

Without a list, five untrained CNNs vote. The first vote starts with an empty
cache, so every member predicts; the time of these predictions is measured separately. Further votes
use other weights and the cached predictions. Imports are not counted.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import record, report

from ferlab import cli
from ferlab.errors import entry_point

REPETITIONS = 5


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("data", metavar="CSV")
    parser.add_argument("list", type=Path, nargs="?", metavar="LIST")
    args = parser.parse_args()

    from ferlab import backend, data, inference
    from ferlab.inference import model_list, voting

    data.read(args.data, role="test")  # raises InputError for a bad file before networks are built

    print(backend.describe_device())
    forward = []
    predict = inference.predict

    def timed_predict(*args, **kwargs):
        start = time.perf_counter()
        probabilities = predict(*args, **kwargs)
        forward.append(time.perf_counter() - start)
        return probabilities

    inference.predict = timed_predict

    def vote(list_path: Path, cache_dir: Path, offset: int) -> float:
        start = time.perf_counter()
        members = model_list.read(list_path)
        dataset = voting.read(members, args.data, None).dataset
        probabilities = voting.collect(
            members,
            dataset,
            batch_size=256,
            cache_dir=cache_dir,
            report=lambda line: None,
        )
        weights = [member.weight + (number + offset) % 3 for number, member in enumerate(members)]
        voting.combine(probabilities, weights, "soft").argmax(axis=1)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        list_path = args.list or untrained(Path(folder))
        first = vote(list_path, Path(folder), 0)
        cached = [vote(list_path, Path(folder), number) for number in range(REPETITIONS)]
    report({"a member's forward pass": forward, "a cached vote": cached})
    record("vote", {"vote": [first], "forward passes": [sum(forward)]}, "vote", "forward passes")
    print(
        f"{len(forward)} members: {first:.1f} s, including {sum(forward):.1f} s of "
        f"forward passes; ratio {first / sum(forward):.3f}"
    )


def untrained(folder: Path) -> Path:
    """Write five untrained CNNs and a list of them."""
    from ferlab import checkpoints, training
    from ferlab.labels import EMOTIONS
    from models import build_model

    lines = []
    for seed in range(5):
        training.set_seed(seed)
        record = checkpoints.TrainingRecord(
            class_names=EMOTIONS, image_shape=(48, 48, 1), pixels="raw"
        )
        checkpoints.save(build_model("cnn", (48, 48, 1), 7), folder / f"{seed}.h5", record)
        lines.append(f"1 {seed}.h5\n")
    (folder / "model_list.txt").write_text("".join(lines))
    return folder / "model_list.txt"


if __name__ == "__main__":
    main()
