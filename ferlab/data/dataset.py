"""`Dataset`: images with labels, and how validation rows are split off."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, Self

import numpy as np

from ferlab.data import usages
from ferlab.errors import InputError, did_you_mean
from ferlab.labels import UNLABELLED, indices_in, require_same_classes

Role = Literal["train", "test"]  # the part to read from a source with two
ROLES: tuple[Role, ...] = ("train", "test")
# How improbable other class shares of the validation rows must be, in rows shuffled by chance, for
# a stratified sample to be drawn; and how improbable a single class.
_CHANCE = 0.01
_CHANCE_OF_ONE_CLASS = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels; immutable.

    images: uint8 (n, height, width, channels), 0 to 255
    labels: int64 (n,), indices into `class_names`, -1 for no label
    ids: str (n,), the row's id in a submission
    usage: str (n,), such as 'Training' or 'PublicTest', or None if the source has no usage
    source: the path as given by the user, for messages

    Raises InputError for inconsistent arrays.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...]
    usage: np.ndarray | None = None
    source: str = "data"

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise self._error("class names must be unique", self.class_names)
        if self.images.dtype != np.uint8:
            raise self._error("images must be uint8, 0 to 255", self.images.dtype)
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise self._error("images must be (n, height, width, channels)", self.images.shape)
        if self.labels.dtype != np.int64:
            raise self._error("labels must be int64", self.labels.dtype)
        for name in ("labels", "ids", "usage"):
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (len(self),):
                raise self._error(f"{name} must be {len(self):,}, one per image", column.shape)
            if name != "labels" and column.dtype.kind != "U":
                raise self._error(f"{name} must be text", column.dtype)
        is_invalid = (self.labels < UNLABELLED) | (self.labels >= self.num_classes)
        if is_invalid.any():
            rule = f"labels must be 0 to {self.num_classes - 1}, or {UNLABELLED} for none"
            raise self._error(rule, self.labels[is_invalid][0])
        for name in ("images", "labels", "ids", "usage"):
            if getattr(self, name) is not None:
                frozen = getattr(self, name).view()  # the caller's array stays writeable
                frozen.flags.writeable = False
                object.__setattr__(self, name, frozen)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_labelled(self) -> bool:
        """Whether every row has a label."""
        return bool((self.labels != UNLABELLED).all())

    @property
    def has_labels(self) -> bool:
        """Whether any row has a label."""
        return bool((self.labels != UNLABELLED).any())

    @property
    def is_grouped(self) -> bool:
        """Whether the training rows are sorted by class, as rows of folders are."""
        labels = self.labels[self.training_rows()]
        changes = np.count_nonzero(labels[1:] != labels[:-1])
        return 0 < changes == len(np.unique(labels)) - 1

    def take(self, rows: np.ndarray | Sequence[int]) -> Self:
        """The rows selected by an index array, in its order, or by a boolean mask."""
        rows = np.asarray(rows)
        if rows.dtype != bool:
            rows = rows.astype(np.intp)  # NumPy converts an empty list to float
        return dataclasses.replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            ids=self.ids[rows],
            usage=None if self.usage is None else self.usage[rows],
        )

    def split(
        self,
        validation: int | float | str,
        seed: int = 0,
        report: Callable[[str], None] = print,
    ) -> tuple[Self, Self]:
        """(training, validation), both labelled and in the order of the rows.

        validation: a number of rows, taken from the start; a fraction of the rows, taken from the
            end, as in Keras; or the name of a usage
        seed: for the stratified sample that is drawn instead where the class shares of these rows
            differ from those of the others by more than chance, as in rows sorted by class
        report: called with notes on such a sample, on classes without a training row, and on
            validation rows of one class

        If there are usages, only rows for training are trained on, and a number or a fraction is
        taken from them. Raises InputError for an empty side, a number above half of the rows, a
        usage reserved for the final score, and rows without a label.

        >>> images, labels = np.zeros((10, 48, 48, 1), np.uint8), np.arange(10) % 2
        >>> dataset = Dataset(images, labels, np.arange(10).astype(str), ("happy", "sad"))
        >>> training, validation = dataset.split(0.2)
        >>> validation.ids.tolist(), len(training)
        (['8', '9'], 8)
        """
        rows = self.training_rows()
        if isinstance(validation, str):
            validation_rows = self._rows_of_usage(validation)
        else:
            count = self._validation_count(validation, len(rows))
            is_number = isinstance(validation, int)
            validation_rows = rows[:count] if is_number else rows[-count:]
            others = rows[count:] if is_number else rows[:-count]
            if self.is_grouped or _shares_differ(self.labels[validation_rows], self.labels[others]):
                validation_rows = _stratified_sample(rows, self.labels[rows], count, seed)
                report(
                    f"note: {self.source}: the {'first' if is_number else 'last'} {count:,} rows "
                    "have other class shares than the others, so the validation rows are a "
                    "stratified sample"
                )
            rows = np.setdiff1d(rows, validation_rows)
        self._require_labels(np.union1d(rows, validation_rows))
        missing = np.setdiff1d(np.arange(self.num_classes), self.labels[rows])
        if len(missing):
            names = ", ".join(self.class_names[label] for label in missing)
            report(f"note: {self.source}: no training row has the label {names}")
        if len(np.unique(self.labels[rows])) > 1 == len(np.unique(self.labels[validation_rows])):
            name = self.class_names[self.labels[validation_rows[0]]]
            report(f"note: {self.source}: all validation rows have the label {name}")
        return self.take(rows), self.take(validation_rows)

    def without_labels(self, fraction: float, seed: int) -> Self:
        """The same rows without a random fraction of the labels of each class.

        For comparing pseudo-labels with the true labels. At least one label
        of each class remains. Raises InputError for a fraction outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise self._error("the fraction of labels to remove must be in [0, 1)", fraction)
        generator = np.random.default_rng(seed)
        labels = self.labels.copy()
        for label in range(self.num_classes):
            rows = generator.permutation(np.flatnonzero(self.labels == label))
            labels[rows[: min(round(fraction * len(rows)), max(len(rows) - 1, 0))]] = UNLABELLED
        return dataclasses.replace(self, labels=labels)

    def labelled(self) -> Self:
        """The rows that have a label."""
        return self.take(self.labels != UNLABELLED)

    def of_usage(self, usage: str | None) -> Self:
        """The rows of a usage, None for the training rows. Raises InputError if there are none."""
        if usage is None:
            rows = self.training_rows()
        elif self.usage is None:
            raise self._error("has no usage column to select rows by", usage)
        else:
            rows = np.flatnonzero(usages.is_of(self.usage, usage))
        if not len(rows):
            raise self._unknown_usage(f"usage must be one of {self._usages()}", usage or "Training")
        return self.take(rows)

    def fingerprint(self) -> str:
        """SHA-256 of images, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def in_order_of(self, class_names: Sequence[str]) -> Self:
        """The same rows with the same classes in another order, or in other words.

        Raises InputError for other classes.
        """
        new_labels = indices_in(self.class_names, class_names)
        if new_labels is None:
            raise self._error(f"must have the classes {', '.join(class_names)}", self.class_names)
        lookup = np.array([*new_labels, UNLABELLED], dtype=np.int64)  # -1 is the last
        return dataclasses.replace(self, labels=lookup[self.labels], class_names=tuple(class_names))

    def row_digests(self) -> np.ndarray:
        """uint64 (n,): BLAKE2b of each image's pixels, equal for identical images."""
        shape = repr(self.image_shape).encode()
        digests = b"".join(
            hashlib.blake2b(image.tobytes(), digest_size=8, key=shape).digest()
            for image in self.images
        )
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    def _error(self, rule: str, received: object) -> InputError:
        return InputError(f"{self.source}: {rule}. Received: {received}")

    def training_rows(self) -> np.ndarray:
        """Indices of the rows whose usage is for training; all rows where there is no usage."""
        if self.usage is None:
            return np.arange(len(self))
        return np.flatnonzero(usages.kinds(self.usage) == "training")

    def _rows_of_usage(self, usage: str) -> np.ndarray:
        if usages.kind(usage) == "scoring":
            raise self._error(
                "rows reserved for the final score cannot be used for validation", usage
            )
        if self.usage is None:
            raise self._error("has no usage column to select validation rows by", usage)
        rows = np.flatnonzero(usages.is_of(self.usage, usage))
        if usages.kind(usage) == "training" or not len(rows):
            rule = f"validation must be a usage other than Training, one of {self._usages()}"
            raise self._unknown_usage(rule, usage)
        if not len(self.training_rows()):
            raise self._error("has no training rows (usage Training)", self._usages())
        return rows

    def _unknown_usage(self, rule: str, usage: str) -> InputError:
        known = () if self.usage is None else set(self.usage.tolist())
        return self._error(rule, f"{usage}{did_you_mean(usage, known)}")

    def _usages(self) -> str:
        names = [] if self.usage is None else self.usage.tolist()
        return ", ".join(sorted(set(names) - {""}))

    def _validation_count(self, validation: int | float, rows: int) -> int:
        if rows < 2:
            names = "" if self.usage is None else f" of usage {self._usages()}"
            raise self._error(
                "requires two or more training rows", f"{rows} of {len(self):,} rows{names}"
            )
        if isinstance(validation, int):
            if not validation > 0:
                raise self._error("validation must be a positive number of rows", validation)
            if validation > rows / 2:
                raise InputError(
                    f"{self.source}: {validation:,} validation rows are more than half of the "
                    f"{rows:,} rows; use a fraction instead, such as --validation 0.1"
                )
            return validation
        if not 0 < validation < 1:
            raise self._error("validation must be a fraction between 0 and 1", validation)
        count = rows - int(rows * (1 - validation))  # rounded as in Keras
        return max(1, min(count, rows - 1))

    def _require_labels(self, rows: np.ndarray) -> None:
        missing = rows[self.labels[rows] == UNLABELLED]
        if len(missing):
            raise InputError(
                f"{self.source}: training requires labels; {len(missing):,} of {len(rows):,} rows "
                f"have none, the first is row {missing[0] + 1:,} (id {self.ids[missing[0]]})"
            )


def concatenate(parts: Sequence[Dataset]) -> Dataset:
    """All rows in one dataset, with the source of the first. Raises InputError for a mismatch."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        require_alike(part, first.class_names, first.image_shape)
    columns = [part.usage for part in parts if part.usage is not None]
    return dataclasses.replace(
        first,
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        usage=np.concatenate(columns) if len(columns) == len(parts) else None,
    )


def require_alike(
    dataset: Dataset, class_names: Sequence[str], image_shape: tuple[int, ...]
) -> None:
    """Raise InputError unless a dataset has these classes, in this order, and this image shape."""
    require_same_classes(dataset.source, dataset.class_names, class_names)
    if dataset.image_shape != tuple(image_shape):
        raise InputError(
            f"{dataset.source}: images must be {describe(image_shape)}. "
            f"Received: {describe(dataset.image_shape)}"
        )


def describe(image_shape: tuple[int, ...]) -> str:
    """A shape as text.

    >>> describe((48, 48, 1))
    '48x48x1'
    """
    return "x".join(map(str, image_shape))


def _shares_differ(labels: np.ndarray, others: np.ndarray) -> bool:
    """Whether the class shares of two parts of the rows differ by more than chance.

    For each class, the hypergeometric probability of a count as extreme, at both ends and for all
    classes together.
    """
    from scipy.stats import hypergeom

    classes, counts = np.unique(np.concatenate([labels, others]), return_counts=True)
    if len(classes) < 2:
        return False
    counts_here = np.array([np.count_nonzero(labels == label) for label in classes])
    by_chance = hypergeom(counts.sum(), counts, len(labels))
    upper = by_chance.sf(counts_here - 1)
    if 1 < len(labels) == counts_here.max() and upper.min() < _CHANCE_OF_ONE_CLASS:
        return True
    tails = np.minimum(by_chance.cdf(counts_here), upper)
    return bool(2 * tails.min() * len(classes) < _CHANCE)


def _stratified_sample(rows: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import train_test_split

    classes, sizes = np.unique(labels, return_counts=True)
    can_stratify = sizes.min() > 1 and min(count, len(rows) - count) >= len(classes)
    _, sample = train_test_split(
        rows, test_size=count, random_state=seed, stratify=labels if can_stratify else None
    )
    return np.sort(sample)
