"""A vote with fitted weights, compared with its best member and with equal weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ferlab.evaluation import metrics
from ferlab.evaluation.metrics import Proportion
from ferlab.inference import ensemble_selection, voting

FOLDS = 5  # folds of the cross-validation


@dataclass(frozen=True)
class VoteScores:
    """Accuracies on the rows that the weights were fitted on, which makes `fitted` optimistic.

    best_member: an index. cross_validated: each fold predicted with weights fitted on the others;
    None for fewer rows than FOLDS.
    """

    best_member: int
    best: Proportion
    equal: Proportion
    fitted: Proportion
    cross_validated: Proportion | None


def vote_scores(
    probabilities: np.ndarray, labels: np.ndarray, weights: Sequence[int], rounds: int
) -> VoteScores:
    """Score a vote on rows that all have a label.

    probabilities: (members, n, num_classes). rounds: as in `ensemble_selection.select`.
    """

    def accuracy(weights: Sequence[int]) -> Proportion:
        shares = voting.combine(probabilities, weights, "soft")
        return metrics.accuracy(labels, shares.argmax(axis=1))

    predicted = probabilities.argmax(axis=2)
    best = int((predicted == labels).mean(axis=1).argmax())
    cross_validated = None
    if len(labels) >= FOLDS:
        cross_validated = metrics.accuracy(labels, _cross_validated(probabilities, labels, rounds))
    return VoteScores(
        best_member=best,
        best=metrics.accuracy(labels, predicted[best]),
        equal=accuracy([1] * len(weights)),
        fitted=accuracy(weights),
        cross_validated=cross_validated,
    )


def _cross_validated(probabilities: np.ndarray, labels: np.ndarray, rounds: int) -> np.ndarray:
    """int (n,): the predictions for each fold, by weights fitted on the other folds."""
    folds = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    predicted = np.empty(len(labels), dtype=int)
    for fold in range(FOLDS):
        held_out = folds == fold
        weights = ensemble_selection.select(
            probabilities[:, ~held_out], labels[~held_out], rounds=rounds
        )
        shares = voting.combine(probabilities[:, held_out], weights, "soft")
        predicted[held_out] = shares.argmax(axis=1)
    return predicted
