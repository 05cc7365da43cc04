"""Find the pixel scale and the class order that a checkpoint was trained with.

A checkpoint that ferlab did not write may record neither. Labelled data identifies them: accuracy
is high only with the correct ones.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferlab import checkpoints, data, inference
from ferlab.checkpoints import TrainingRecord
from ferlab.evaluation import held_out, metrics
from ferlab.evaluation.metrics import Proportion
from ferlab.inference import matching
from ferlab.labels import CLASS_ORDERS, EMOTIONS, indices_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferlab.checkpoints import Checkpoint
    from ferlab.data import Dataset

BEST_MATCH = "best match"  # the order with the most correct rows, conventional or not


@dataclass(frozen=True)
class Convention:
    """A pixel scale and a class order, and how many rows are predicted correctly with them.

    order: the name of the class order, such as `FER-2013`; class_names: its classes.
    """

    pixels: str
    order: str
    class_names: tuple[str, ...]
    correct: int


def sample_rows(
    path: str,
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...] | None = None,
    truth: str | None = None,
    usage: str | None = None,
    count: int,
    report: "Callable[[str], None]",
) -> "Dataset":
    """Labelled rows for tuning, at most `count`, drawn with a fixed seed.

    image_shape: shape to resize the images of a folder to. Raises InputError as
    `held_out.tuning_rows`.
    """
    match = matching.read(
        path, [], role="train", class_names=class_names, truth=truth, image_shape=image_shape
    )
    dataset = held_out.tuning_rows(match.dataset, [], usage=usage, report=report)
    if len(dataset) > count:
        rows = np.random.default_rng(0).choice(len(dataset), count, replace=False)
        dataset = dataset.take(np.sort(rows))
    return dataset


def try_all(checkpoint: "Checkpoint", dataset: "Dataset", *, batch_size: int) -> list[Convention]:
    """Score every plausible pixel scale with every class order, ignoring the recorded ones."""
    dataset = data.fit_images(dataset, checkpoint.image_shape)
    labels, class_names = dataset.labels, dataset.class_names
    conventions = []
    for pixels in checkpoints.plausible_scales(checkpoint.image_shape):
        candidate = dataclasses.replace(
            checkpoint, pixels=pixels, class_names=None, record=TrainingRecord(), _raw_model=None
        )
        outputs = inference.predict(candidate, dataset, batch_size=batch_size).argmax(axis=1)
        orders = {**class_orders(class_names), BEST_MATCH: best_match(outputs, labels, class_names)}
        for name, order in orders.items():
            label_of_output = np.array([class_names.index(class_name) for class_name in order])
            correct = int((labels == label_of_output[outputs]).sum())
            conventions.append(Convention(pixels, name, order, correct))
    return conventions


def most_likely(
    conventions: list[Convention], labels: np.ndarray
) -> tuple[Convention, Proportion] | None:
    """(the most likely convention, its accuracy); None if all are as good as chance.

    The best match is fitted to the data, so it is returned only if it is better than the other
    orders beyond chance. Chance is the share of the most frequent class.
    """

    def best(is_match: bool) -> Convention:
        candidates = [each for each in conventions if (each.order == BEST_MATCH) == is_match]
        return max(candidates, key=lambda one: (one.correct, one.pixels, one.order))

    likely, match, n = best(False), best(True), len(labels)
    accuracy = metrics.proportion(likely.correct, n)
    if match.correct / n > accuracy.high:
        likely, accuracy = match, metrics.proportion(match.correct, n)
    return None if accuracy.low <= most_frequent(labels) else (likely, accuracy)


def most_frequent(labels: np.ndarray) -> float:
    """The share of the most frequent label."""
    return float(np.bincount(labels).max() / len(labels))


def class_orders(class_names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The conventional orders of these classes, by name, in the words of `class_names`."""
    if indices_in(class_names, EMOTIONS) is not None:
        places = {
            name: indices_in(order, class_names) or () for name, order in CLASS_ORDERS.items()
        }
        return {
            name: tuple(class_names[place] for place in order) for name, order in places.items()
        }
    orders = {"the data's": class_names}
    if tuple(sorted(class_names)) != class_names:
        orders["alphabetical"] = tuple(sorted(class_names))
    return orders


def best_match(
    outputs: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
) -> tuple[str, ...]:
    """The class order with which most rows are correct. outputs: int (n,), the largest output."""
    from scipy.optimize import linear_sum_assignment

    counts = metrics.confusion_counts(labels, outputs, len(class_names))
    labels_of, outputs_of = linear_sum_assignment(counts, maximize=True)
    order = labels_of[np.argsort(outputs_of)]
    return tuple(class_names[label] for label in order)
