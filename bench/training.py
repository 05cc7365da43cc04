"""Images a second of a whole epoch, validation included, against a plain Keras script, in turn.

    python bench/training.py FER_DIR PEER.py [ROUNDS]

PEER.py FER_DIR EPOCHS prints `epoch N  SECONDS s` lines, counted from its start, and before them
`read after SECONDS s`. Two epochs a round; the first, which builds the graph, does not count.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import in_turn, record, report

ROOT = Path(__file__).parent.parent
IMAGES = 26_309 + 2_400  # trained on and validated on in an epoch


def peer_epoch(peer: str, fer: str) -> float:
    printed = subprocess.run(
        [sys.executable, peer, fer, "2"], capture_output=True, text=True, check=True
    ).stdout
    first, second = (float(seconds) for seconds in re.findall(r"epoch +\d+ +([\d.]+) s", printed))
    return second - first


def our_epoch(fer: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, ROOT / "train.py", Path(fer) / "train.csv"),
                *("--recipe", "cnn-report", "--epochs", "2"),
                *("--out-dir", folder, "--run-dir", f"{folder}/run"),
            ],
            check=True,
            capture_output=True,
        )
        header, _, second = (Path(folder) / "run" / "history.csv").read_text().splitlines()
    return float(second.split(",")[header.split(",").index("seconds")])


def main() -> None:
    fer, peer, *rounds = sys.argv[1:]
    contenders = {"train.py": lambda: our_epoch(fer), "peer": lambda: peer_epoch(peer, fer)}
    seconds = in_turn(contenders, int(rounds[0]) if rounds else 3)
    report(seconds, unit_count=IMAGES, unit="images/s")
    record("training epoch", seconds, "train.py", "peer")


if __name__ == "__main__":
    main()
