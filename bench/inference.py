"""Prediction throughput of each engine, compared with `model.predict` in a plain Keras script.

    python bench/inference.py FER_DIR MODEL [ROUNDS]

MODEL is a checkpoint for raw pixels and the seven emotions, as train.py writes it. Each contender
predicts the images of FER_DIR/test.csv, already in memory, twice in a process of its own; the first
call includes building or compiling the network. The plain script runs with batches of 32, Keras's
default, and of 256. Also prints each contender's accuracy on the rows of FER_DIR/public_truth.csv,
and the number of images for which its prediction differs from the plain script's.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, printed_by, ratio, record, report

from ferlab import checkpoints, cli
from ferlab.errors import entry_point

PLAIN = """
import sys, time
import keras
import numpy as np

images, path, out, batch_size = sys.argv[1:]
images = np.load(images).astype("float32")
model = keras.models.load_model(path, compile=False)
for call in range(2):
    start = time.perf_counter()
    outputs = model.predict(images, batch_size=int(batch_size), verbose=0)
    print("seconds", time.perf_counter() - start)
np.save(out, outputs)
"""
OURS = """
import sys, time
from pathlib import Path
import numpy as np
from ferlab import checkpoints, inference
from ferlab.data import Dataset
from ferlab.inference import engines

images, path, out, engine = sys.argv[1:]
images = np.load(images)
checkpoint = checkpoints.load(Path(path))
dataset = Dataset(
    images=images,
    labels=np.full(len(images), -1),
    ids=np.arange(len(images)).astype(str),
    class_names=checkpoint.class_names,
    source="test.csv",
)
start = time.perf_counter()
outputs = inference.predict(checkpoint, dataset, engine=engine)
print("seconds", time.perf_counter() - start)
np.save(out, outputs)
if engine == "keras":
    again = lambda: inference.predict(checkpoint, dataset)
else:
    model = checkpoint.raw_pixel_model()
    network = engines.network_on(engine, model, checkpoint.image_shape, images)
    again = lambda: network(images, 256)
start = time.perf_counter()
again()
print("seconds", time.perf_counter() - start)
"""


def time_calls(program: str, *arguments: object) -> tuple[float, float]:
    """(seconds of the first call, seconds of the second call)."""
    printed = printed_by("-c", program, *arguments)
    first, second = (
        float(line.split()[1]) for line in printed.splitlines() if line.startswith("seconds")
    )
    return first, second


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("fer_dir", type=Path, metavar="FER_DIR")
    parser.add_argument("model", type=cli.model_file, metavar="MODEL")
    parser.add_argument("rounds", type=cli.whole_number(1), nargs="?", default=3, metavar="ROUNDS")
    args = parser.parse_args()
    checkpoints.read_record(args.model)  # raises InputError for a bad file

    import numpy as np

    from ferlab import data
    from ferlab.backend import describe_device
    from ferlab.evaluation import metrics
    from ferlab.inference.engines import ENGINES

    dataset = data.read(args.fer_dir / "test.csv", role="test")
    labels = data.read_truth(args.fer_dir / "public_truth.csv", dataset)
    known = labels >= 0
    print(f"{describe_device()}; {len(dataset):,} images")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, dataset.images)
        first_calls: dict[str, list[float]] = {}

        def contender(name: str, program: str, setting: object) -> Callable[[], float]:
            def call() -> float:
                out = Path(folder) / f"{name}.npy"
                first, second = time_calls(program, images, args.model.resolve(), out, setting)
                first_calls.setdefault(name, []).append(first)
                return second

            return call

        contenders = {f"plain, batch {size}": (PLAIN, size) for size in (32, 256)}
        contenders |= {engine: (OURS, engine) for engine in ENGINES}
        calls = {name: contender(name, *program) for name, program in contenders.items()}
        second_calls = in_turn(calls, args.rounds)
        predicted = {name: np.load(Path(folder) / f"{name}.npy").argmax(axis=1) for name in calls}

    plain, *_ = contenders
    for title, seconds in (("first call", first_calls), ("second call", second_calls)):
        print(f"\n{title}")
        report(seconds, unit_count=len(dataset), unit="images/s")
        for engine in ENGINES:
            times = [f"{ratio(seconds, engine, name):.2f}" for name in contenders if "," in name]
            print(f"{engine} is {' and '.join(times)} times as fast as the plain script")
    print()
    for engine in ENGINES:
        record("inference", second_calls, engine, plain)
    for name, classes in predicted.items():
        differ = int((classes != predicted[plain]).sum())
        print(
            f"{name:24s} {metrics.accuracy(labels[known], classes[known])}, "
            f"{differ} predictions differ"
        )


if __name__ == "__main__":
    main()
