"""How many randomly replaced labels `check --model` finds.

    python studies/wrong_labels.py test.csv public_truth.csv 0.643750.h5

Replaces 4% of the labels at random, for five seeds, and searches for label issues as `python -m
ferlab check --model` does. The model should not have been trained on these rows.
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ferlab import cli
from ferlab.errors import entry_point

FRACTION, SEEDS, FIRST = 0.04, 5, 50


@entry_point
def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("data", metavar="CSV", help="images with ids")
    parser.add_argument("truth", metavar="TRUTH", help="CSV with id,label")
    parser.add_argument("model", type=cli.model_file, metavar="MODEL", help="checkpoint")
    args = parser.parse_args()

    import numpy as np

    from ferlab import checkpoints, data, inference
    from ferlab.audit import duplicates, label_errors

    dataset = data.with_truth(data.read(args.data, role="test"), args.truth).labelled()
    features = inference.features(checkpoints.load(args.model), dataset)
    copies = duplicates.find_copies(dataset.images, dataset.row_digests(), np.arange(len(dataset)))
    groups = copies.groups(len(dataset))
    count = round(FRACTION * len(dataset))
    measures: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        replaced = generator.choice(len(dataset), count, replace=False)
        labels = dataset.labels.copy()
        labels[replaced] += generator.integers(1, dataset.num_classes, count)
        labels %= dataset.num_classes
        probabilities = label_errors.out_of_sample_probabilities(
            features, labels, groups, dataset.class_names
        )
        issues = label_errors.find_label_issues(labels, probabilities)
        is_replaced = np.isin(issues.rows, replaced)
        for name, value in {
            f"replaced among the first {count}": is_replaced[:count].mean(),
            f"replaced among the first {FIRST}": is_replaced[:FIRST].mean(),
            "recall of all issues": is_replaced.sum() / count,
            "issues": len(issues),
        }.items():
            measures.setdefault(name, []).append(float(value))
    print(f"{len(dataset):,} rows, {count} labels replaced, {SEEDS} seeds")
    for name, values in measures.items():
        spread = f"from {min(values):.4g} to {max(values):.4g}"
        print(f"{name:34s} mean {statistics.mean(values):.4g}   {spread}")


if __name__ == "__main__":
    main()
