"""Train the DNN, which has about as many parameters as the CNN.

python dnn_train.py train.csv   ->   dnn_[val_acc].h5
"""

import runpy
from pathlib import Path


def main() -> None:
    runpy.run_path(str(Path(__file__).with_name("train.py")))["main"](__doc__, "dnn-report")


if __name__ == "__main__":
    main()
