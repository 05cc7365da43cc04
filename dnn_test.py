"""Write a Kaggle submission with a DNN checkpoint; with labelled rows, print the accuracy too.

python dnn_test.py test.csv result.csv dnn_0.384200.h5   ->   result.csv
"""

import runpy
from pathlib import Path


def main() -> None:
    runpy.run_path(str(Path(__file__).with_name("test.py")))["main"](__doc__)


if __name__ == "__main__":
    main()
