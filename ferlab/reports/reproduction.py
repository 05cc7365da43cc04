"""Train a shipped model again: the rows to score it on, and whether its accuracy is reproduced."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ferlab import backend, checkpoints, pretrained
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import scoring
from ferlab.recipes import Recipe
from ferlab.reports import model_facts

VERSIONS = ("device", "bfloat16", "backend", "keras")  # a result depends on these most


@dataclass(frozen=True)
class Reproduction:
    """A shipped model and the part of its scores to compare with: "public" or "validation"."""

    name: str
    facts: dict
    part: str

    @classmethod
    def of(cls, name: str, *, has_data: bool) -> Self:
        """has_data: whether to score rows of another file than the training file.

        Raises InputError for an unknown model, for a file that is not the shipped one, and for a
        model without a score on such rows.
        """
        facts = pretrained.read_facts(name)
        model_facts.require_whole(name, facts)
        pretrained.resolve(f"{pretrained.PREFIX}{name}")
        part = "public" if has_data else "validation"
        if part not in facts["scores"]:
            raise InputError(f"{name}: has an accuracy on validation rows only; omit --data")
        return cls(name, facts, part)

    @property
    def recipe(self) -> Recipe:
        return model_facts.recipe_of(self.facts)

    @property
    def teachers(self) -> list[Path]:
        names = self.facts.get("teachers", {})
        return [pretrained.resolve(f"{pretrained.PREFIX}{name}") for name in names]

    def split(self, source: str) -> tuple[Dataset, Dataset]:
        """(training rows, validation rows), as the recorded training split them."""
        return model_facts.split(source, self.facts)

    def scored_rows(
        self,
        source: str,
        truth: str | None,
        train: Dataset,
        validation: Dataset,
        *,
        report: Callable[[str], None],
    ) -> Dataset:
        """The rows of a file that the model is scored on, without those in the training file."""
        shipped = checkpoints.load(pretrained.resolve(f"{pretrained.PREFIX}{self.name}"))
        scored = model_facts.rows_to_score(shipped, source, truth=truth, report=report)
        digests, training_digests = scored.row_digests(), train.row_digests()
        if np.isin(digests, np.union1d(training_digests, validation.row_digests())).all():
            raise InputError(f"{scored.source}: has no rows other than those in {train.source}")
        known = np.isin(digests, training_digests)
        if known.any():
            report(f"{known.sum():,} of {len(known):,} rows left out: they are training rows")
        return scored.take(~known)

    def notes(self, train: Dataset, scored: Dataset) -> Iterator[str]:
        """How this training differs from the recorded one."""
        facts, name = self.facts, self.name
        if model_facts.fingerprint(train, facts) != facts["data"]["fingerprint"]:
            yield f"{train.source} has other rows than {name} was trained on"
        if scored.fingerprint() != facts["scores"][self.part]["fingerprint"]:
            yield f"{scored.source} has other rows than {name} was scored on"
        for teacher, digest in facts.get("teachers", {}).items():
            if pretrained.read_facts(teacher)["sha256"] != digest:
                yield f"{pretrained.PREFIX}{teacher} is not the recorded teacher of {name}"
        then, now = facts["versions"], backend.versions()
        for version in VERSIONS:
            if then.get(version) != now[version]:
                yield f"{version} was {then.get(version, 'unknown')} and is {now[version]}"

    def verdict(
        self, path: Path, scored: Dataset, batch_size: int, *, report: Callable[[str], None]
    ) -> tuple[str, bool]:
        """A line to print, and whether the new accuracy is in the stated 95% interval."""
        checkpoint = checkpoints.load(path)
        evaluation = scoring.evaluate(checkpoint, scored, batch_size=batch_size, report=report)
        accuracy, stated = evaluation.scores.accuracy, self.facts["scores"][self.part]["accuracy"]
        is_within = stated["low"] <= accuracy.value <= stated["high"]
        interval = f"{100 * stated['low']:.2f} to {100 * stated['high']:.2f}"
        line = (
            f"{self.part} accuracy {accuracy}; {self.name} states {stated['value']:.2%} "
            f"(n={stated['n']}, 95% interval {interval}): "
            f"{'within' if is_within else 'NOT within'} that interval"
        )
        return line, is_within
