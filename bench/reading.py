"""The time to parse a CSV file, compared with reading its bytes and with pandas.

python bench/reading.py FER_DIR/train.csv
"""

import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, record, report

from ferlab import cli
from ferlab.errors import entry_point

ROUNDS = 5


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("path", type=Path, metavar="CSV")
    path = parser.parse_args().path

    import numpy as np
    import pandas as pd

    from ferlab import data

    data.read(path, role="train")  # raises InputError for a bad file
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # before pandas reads

    def read_bytes() -> float:
        start = time.perf_counter()
        with path.open("rb") as file:
            while file.read(2**20):
                pass
        return time.perf_counter() - start

    def read_by_hand() -> float:
        start = time.perf_counter()
        table = pd.read_csv(path)
        np.stack([np.array(row.split(), dtype="uint8") for row in table.iloc[:, -1]])
        return time.perf_counter() - start

    def read_table() -> float:
        start = time.perf_counter()
        data.read(path, role="train")
        return time.perf_counter() - start

    contenders = {
        "bytes only": read_bytes,
        "ferlab.data.read": read_table,
        "pandas and split": read_by_hand,
    }
    seconds = in_turn(contenders, ROUNDS)
    report(seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"parsing takes {medians['ferlab.data.read'] - medians['bytes only']:.2f} s")
    record("reading a table", seconds, "ferlab.data.read", "pandas and split")
    print(f"peak memory of the process after ferlab.data.read: {peak:.0f} MB")


if __name__ == "__main__":
    main()
