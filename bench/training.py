"""Throughput of a whole epoch, including validation, against a plain Keras script.

    python bench/training.py FER_DIR PEER.py [ROUNDS]

PEER.py FER_DIR EPOCHS must print lines of `epoch N SECONDS s`, counted from its start, as
bench/plain_keras.py does. Each round trains two epochs; the first, which builds the graph, is not
counted.
"""

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, printed_by, record, report

from ferlab import cli
from ferlab.errors import entry_point

ROOT = Path(__file__).parent.parent
IMAGES = 26_309 + 2_400  # for training and for validation


def peer_epoch(peer: Path, fer_dir: Path) -> float:
    printed = printed_by(peer, fer_dir, 2)
    first, second = (float(seconds) for seconds in re.findall(r"epoch +\d+ +([\d.]+) s", printed))
    return second - first


def our_epoch(fer_dir: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        options = ("--recipe", "cnn-report", "--epochs", 2)
        folders = ("--out-dir", folder, "--run-dir", f"{folder}/run")
        printed_by(ROOT / "train.py", fer_dir / "train.csv", *options, *folders)
        header, _, second = (Path(folder) / "run" / "history.csv").read_text().splitlines()
    return float(second.split(",")[header.split(",").index("seconds")])


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("fer_dir", type=Path, metavar="FER_DIR")
    parser.add_argument("peer", type=Path, metavar="PEER.py")
    parser.add_argument("rounds", type=cli.whole_number(1), nargs="?", default=3, metavar="ROUNDS")
    args = parser.parse_args()
    contenders = {
        "train.py": lambda: our_epoch(args.fer_dir),
        "peer": lambda: peer_epoch(args.peer, args.fer_dir),
    }
    seconds = in_turn(contenders, args.rounds)
    report(seconds, unit_count=IMAGES, unit="images/s")
    record("training epoch", seconds, "train.py", "peer")


if __name__ == "__main__":
    main()
