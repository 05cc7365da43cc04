"""How many labels that were made wrong `check --model` finds.

    python studies/wrong_labels.py test.csv public_truth.csv 0.643750.h5

Of the rows with a label 4% get another one at random, five times; then the labels are doubted as
`python -m ferlab check --model` does. The model should not have been trained on these rows.
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ferlab import cli
from ferlab.errors import entry_point

SHARE, SEEDS, FIRST = 0.04, 5, 50


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("data", metavar="CSV")
    parser.add_argument("truth", metavar="TRUTH")
    parser.add_argument("model", type=cli.model_file, metavar="MODEL")
    args = parser.parse_args()

    import numpy as np

    from ferlab import checkpoints, data, inference
    from ferlab.audit import duplicates, label_errors

    dataset = data.with_truth(data.read(args.data, role="test"), args.truth).labelled()
    features = inference.features(checkpoints.load(args.model), dataset)
    copies = duplicates.find_copies(dataset.images, dataset.row_digests(), np.arange(len(dataset)))
    groups = copies.groups(len(dataset))
    count = round(SHARE * len(dataset))
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        planted = generator.choice(len(dataset), count, replace=False)
        labels = dataset.labels.copy()
        labels[planted] += generator.integers(1, dataset.num_classes, count)
        labels %= dataset.num_classes
        probabilities = label_errors.out_of_sample_probabilities(
            features, labels, groups, dataset.class_names
        )
        doubts = label_errors.find(labels, probabilities)
        right = np.isin(doubts.rows, planted)
        for name, value in {
            f"planted among the first {count}": right[:count].mean(),
            f"planted among the first {FIRST}": right[:FIRST].mean(),
            "of the planted among all doubts": right.sum() / count,
            "rows doubted": len(doubts),
        }.items():
            found.setdefault(name, []).append(float(value))
    print(f"{len(dataset):,} rows, {count} labels made wrong, {SEEDS} seeds")
    for name, values in found.items():
        spread = f"from {min(values):.4g} to {max(values):.4g}"
        print(f"{name:34s} mean {statistics.mean(values):.4g}   {spread}")


if __name__ == "__main__":
    main()
