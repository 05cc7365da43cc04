"""Whole-number weights for a vote, by greedy ensemble selection.

Source: Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models",
ICML 2004.
"""

import numpy as np

from ferlab.errors import InputError

SMALLEST = float(np.finfo("float32").tiny)  # float32 softmax rounds smaller values to 0


def select(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    rounds: int = 50,
    max_weight: int | None = None,
) -> tuple[int, ...]:
    """A whole-number weight for each member, at least one above 0, without a common divisor.

    probabilities: (members, n, num_classes). labels: int (n,); rows without a label (-1) are
    ignored. max_weight: the largest weight before common divisors are removed.

    The bag starts with the N most accurate members, where N maximizes the accuracy (sorted
    initialization, which overfits less than an empty bag if members are similar). Each round adds
    the member, with replacement, that makes the bag's mean most accurate; the weights are the
    counts of the best bag of all rounds. Ties go to the lower negative log likelihood, then to the
    smaller bag or the earlier member. On these rows the vote is at least as accurate as the best
    member and as equal weights (N is 1, or all); elsewhere it may not be, so score it on held-out
    rows.

    Raises InputError if no row has a label, and for rounds or a max_weight below 1.

    >>> import numpy as np
    >>> labels = np.array([0, 0, 1, 1])
    >>> good = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    >>> poor = np.array([[0.4, 0.6], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
    >>> select(np.stack([poor, good]), labels)
    (0, 1)
    """
    if rounds < 1 or (max_weight is not None and max_weight < 1):
        raise InputError(
            f"rounds and max_weight must be 1 or more. Received: {rounds} and {max_weight}"
        )
    known = labels >= 0
    if not known.any():
        raise InputError(f"selection requires rows with labels. Received: 0 of {len(labels)}")
    # Classes first: comparing them then reads memory in order.
    members = np.moveaxis(probabilities[:, known], 2, 0).astype("float64", order="C")
    labels = labels[known]

    order = _best_first(*_scores(members, labels, 1))
    sizes = np.arange(1, len(order) + 1)
    correct, losses = _scores(members[:, order].cumsum(axis=1), labels, sizes[:, None])
    start = _best_first(correct, losses)[0]
    counts = np.zeros(len(order), int)
    counts[order[: start + 1]] = 1
    total = members[:, order[: start + 1]].sum(axis=1, keepdims=True)
    bags = [(-correct[start], losses[start], counts.copy())]
    for _ in range(rounds):
        correct, losses = _scores(total + members, labels, counts.sum() + 1)
        if max_weight is not None:
            correct[counts >= max_weight] = -1
        best = _best_first(correct, losses)[0]
        if correct[best] < 0:
            break
        counts[best] += 1
        total += members[:, [best]]
        bags.append((-correct[best], losses[best], counts.copy()))
    counts = min(bags, key=lambda bag: bag[:2])[2]  # the first of equals is the smallest
    return tuple(int(count) for count in counts // np.gcd.reduce(counts))


def _best_first(correct: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return np.lexsort((losses, -correct))


def _scores(
    totals: np.ndarray, labels: np.ndarray, size: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(correct predictions, mean negative log likelihood) for each bag.

    totals: (num_classes, bags, n), sums of the members' probabilities. size: how many members each
    bag has, one number or (bags, 1). The first largest wins a tie, as in `voting.combine`.
    """
    own = np.take_along_axis(totals, labels[None, None], axis=0)[0]
    losses = -np.log(np.maximum(own / size, SMALLEST)).mean(axis=1)
    earlier = np.arange(len(totals))[:, None, None] < labels
    lost = np.where(earlier, totals >= own, totals > own).any(axis=0)
    return (~lost).sum(axis=1), losses
