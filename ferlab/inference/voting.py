"""A weighted vote of checkpoints, each of which predicts a data set only once."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ferlab import checkpoints, inference
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.data.sources import Role
from ferlab.errors import InputError, a_few
from ferlab.inference import engines, matching, model_list
from ferlab.inference.matching import Match, Outputs
from ferlab.inference.model_list import Member
from ferlab.inference.vote_cache import VoteCache, default_folder
from ferlab.labels import UNLABELLED, is_reordering, require_same_classes


def read(
    members: Sequence[Member],
    path: str,
    class_names: tuple[str, ...] | None,
    *,
    role: Role = "test",
    truth: str | Path | None = None,
) -> Match:
    """Read the data to vote on, as `matching.read` does for several models.

    Raises InputError, naming the member's line, for one with other classes than the other
    members or the labelled data, or in another order without `classes=` on its line.
    """
    models = [_outputs(member) for member in members]
    recorded = [model.recorded for model in models if model.recorded]
    for member, model in zip(members, models, strict=True):
        if model.recorded:
            _require_order(member, model.recorded, class_names or recorded[0])
    return matching.read(path, models, role=role, class_names=class_names, truth=truth)


def collect(
    members: Sequence[Member],
    dataset: Dataset,
    *,
    batch_size: int,
    tta: str = "none",
    cache_dir: Path | None = None,
    engine: str = "keras",
    report: Callable[[str], None],
) -> np.ndarray:
    """Every member's predictions: float32 (members, n, num_classes); tta, engine as in `predict`.

    Predictions are read from the cache or stored there: `cache_dir`, by default in the user's
    cache. report: called with a line for each member. Raises InputError, naming the member's line,
    for one that cannot be opened or does not match the data.
    """
    engines.require_engine(engine)
    cache = VoteCache(cache_dir or default_folder())
    # Predictions do not depend on the labels, so neither does the key of a cache entry.
    unlabelled = replace(dataset, labels=np.full_like(dataset.labels, UNLABELLED))
    fingerprint = unlabelled.fingerprint()
    _report_unnamed(members, dataset, report)
    matching.report_numbering(dataset, report)
    shape = (len(dataset), dataset.num_classes)

    def key_of(member: Member) -> str:
        return cache.key(member, fingerprint, dataset.class_names, tta=tta, engine=engine)

    checkpoint: Checkpoint | None = None
    keys: list[str] = []
    predictions: dict[str, np.ndarray] = {}
    for number, member in enumerate(members, start=1):
        with _naming(member):
            key = key_of(member)
        _require_stated_classes(member, dataset)
        title = f"{number}/{len(members)}  {member.path}"
        if key not in predictions:
            probabilities = cache.get(key, shape)
            if probabilities is not None:
                report(f"{title}  from the cache")
            else:
                report(f"{title}  predicts")
                with _naming(member):
                    checkpoint = _load(member).on_network_of(checkpoint)
                    if checkpoint.pixels_note:
                        report(checkpoint.pixels_note)
                    probabilities = inference.predict(
                        checkpoint,
                        dataset,
                        batch_size=batch_size,
                        tta=tta,
                        engine=engine,
                        columns=_columns(member, checkpoint, dataset),
                    )
                    if key_of(member) == key:  # else the file was replaced while it was read
                        cache.put(key, probabilities)
            predictions[key] = probabilities
        keys.append(key)
    return np.stack([predictions[key] for key in keys])


def combine(
    probabilities: np.ndarray, weights: Sequence[float], voting: Literal["soft", "hard"]
) -> np.ndarray:
    """float64 (n, num_classes): the shares of the vote. The first largest wins a tie.

    probabilities: (members, n, num_classes). soft: weighted mean of probabilities. hard: weighted
    share of members for which a class is the most probable. Raises InputError for weights that
    `require_weights` refuses.

    >>> import numpy as np
    >>> probabilities = np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.3, 0.7]]])  # one row, 3 members
    >>> combine(probabilities, [2, 1, 1], "soft")
    array([[0.625, 0.375]])
    >>> combine(probabilities, [2, 1, 1], "hard")
    array([[0.5, 0.5]])
    """
    model_list.require_weights(weights)
    if voting == "hard":
        num_classes = probabilities.shape[2]
        probabilities = np.eye(num_classes)[probabilities.argmax(axis=2)]
    parts = np.asarray(weights, "float64") / sum(weights)
    shares = np.average(probabilities.astype("float64"), axis=0, weights=parts)
    return shares.round(12)  # 0.1 + 0.2 and 0.3 are a tie


def _outputs(member: Member) -> Outputs:
    """The classes of a member that is not opened yet."""
    with _naming(member):
        record = checkpoints.read_record(member.path)
    return Outputs(
        where=f"{member.where}: {member.path}",
        recorded=record.class_names,
        stated=member.class_names,
        image_shape=record.image_shape,
    )


def _columns(member: Member, checkpoint: Checkpoint, dataset: Dataset) -> np.ndarray:
    """The columns of an opened member; names on its line allow another order than the data's."""
    outputs = replace(matching.outputs_of(checkpoint), stated=member.class_names)
    return matching.columns(outputs, dataset)


def _require_order(member: Member, names: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Raise InputError unless the recorded names equal the others, in the same order."""
    if not is_reordering(names, others):
        require_same_classes(f"{member.where}: {member.path}", names, others)
    elif member.class_names is None:
        raise InputError(
            f"{member.where}: {member.path}: must have its classes in the same order as the "
            f"others ({', '.join(others)}), or its line must have classes={','.join(names)}"
        )


def _require_stated_classes(member: Member, dataset: Dataset) -> None:
    """Raise InputError for a member whose line names other classes than the data has."""
    names = member.class_names
    if names is not None and not is_reordering(names, dataset.class_names):
        require_same_classes(f"{member.where}: {member.path}", dataset.class_names, names)


def _report_unnamed(
    members: Sequence[Member], dataset: Dataset, report: Callable[[str], None]
) -> None:
    """Report which members' outputs are taken to be in the order of the data's classes."""
    unnamed = [
        str(member.path)
        for member in members
        if member.class_names is None and not checkpoints.read_record(member.path).class_names
    ]
    if unnamed:
        report(
            f"note: no class names recorded, taken as {', '.join(dataset.class_names)}: "
            f"{a_few(unnamed)}; set classes= on their lines for another order, which `python -m "
            "ferlab inspect` finds"
        )


def _load(member: Member) -> Checkpoint:
    return checkpoints.load(
        member.path,
        pixels=member.pixels,
        class_names=member.class_names,
        architecture=member.architecture,
    )


@contextlib.contextmanager
def _naming(member: Member) -> Iterator[None]:
    """Begin the message of an InputError in the block with the member's line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{member.where}: {error}") from error
