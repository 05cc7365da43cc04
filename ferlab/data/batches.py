"""Batches of a dataset in a reproducible order, for every Keras backend."""

from collections.abc import Callable

import numpy as np

from ferlab.backend import keras


class Batches(keras.utils.PyDataset):
    """Batches of (images,), (images, targets) or (images, targets, weights).

    Without `steps` an epoch is one pass over the rows, including a smaller last batch. With `steps`
    it is this number of full batches, which repeat the rows as often as necessary.
    `shuffle(epoch)` orders the rows by (seed, epoch) only, and a batch is blended by (seed, epoch,
    index) only, so an epoch does not depend on the epochs run before it.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray | None,
        batch_size: int,
        seed: int = 0,
        *,
        steps: int | None = None,
        weights: Callable[[int], np.ndarray] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        """images: uint8 (n, height, width, channels). targets: one for each image, if any.

        weights: a function from an epoch to the weights of the rows, float32 (n,).
        mixup, cutmix: alpha of the Beta distribution of the blending weights; 0 for off. Each image
            and its target, float32 (n, num_classes), are blended with those of another row of the
            batch. Blended images are float32. With both, each batch gets one of the two at random.
        """
        super().__init__()
        self.mixup, self.cutmix, self.epoch = mixup, cutmix, 0
        self.images, self.targets = images, targets
        self.batch_size, self.seed, self.steps = batch_size, seed, steps
        self.weights_of, self.weights = weights, weights(0) if weights else None
        self.order = np.resize(np.arange(len(images)), self._rows())

    def _rows(self) -> int:
        return len(self.images) if self.steps is None else self.steps * self.batch_size

    def __len__(self) -> int:
        return -(-self._rows() // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        columns = (self.images, self.targets, self.weights)
        batch = tuple(column[rows] for column in columns if column is not None)
        return self._blended(batch, index) if self.mixup or self.cutmix else batch

    def _blended(self, batch: tuple[np.ndarray, ...], index: int) -> tuple[np.ndarray, ...]:
        generator = np.random.default_rng((self.seed, self.epoch, index))
        if self.cutmix and (not self.mixup or generator.random() < 0.5):
            return cutmix(batch, self.cutmix, generator)
        return mixup(batch, self.mixup, generator)

    def shuffle(self, epoch: int) -> None:
        self.epoch = epoch
        generator = np.random.default_rng((self.seed, epoch))
        passes = max(-(-self._rows() // max(len(self.images), 1)), 1)
        order = [generator.permutation(len(self.images)) for _ in range(passes)]
        self.order = np.concatenate(order)[: self._rows()]
        self.weights = self.weights_of(epoch) if self.weights_of else None


def mixup(
    batch: tuple[np.ndarray, ...], alpha: float, generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Blend every row of a batch with another one. Zhang et al. 2018, arXiv 1710.09412.

    batch: images (n, height, width, channels), and other columns (n, ...) such as targets.
    """
    others = generator.permutation(len(batch[0]))
    share = generator.beta(alpha, alpha, size=len(others)).astype("float32")
    return tuple(_weighted(column, column[others], share) for column in batch)


def cutmix(
    batch: tuple[np.ndarray, ...], alpha: float, generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Paste a patch of another image over every image. Yun et al. 2019, arXiv 1905.04899.

    batch: as for `mixup`. The other columns are blended by the area of the patch. In the
    paper a batch shares one patch; here each image has its own.
    """
    images, *columns = batch
    count, *sides = images.shape[:3]
    others = generator.permutation(count)
    side = np.sqrt(1 - generator.beta(alpha, alpha, size=count))[:, None]
    covered = [
        np.abs(np.arange(length) + 0.5 - length * generator.random((count, 1))) < side * length / 2
        for length in sides
    ]
    patch = covered[0][:, :, None] & covered[1][:, None, :]
    own = 1 - patch.mean(axis=(1, 2), dtype="float32")
    pasted = np.where(patch[..., None], images[others], images).astype("float32")
    return (pasted, *(_weighted(column, column[others], own) for column in columns))


def _weighted(column: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """share * column + (1 - share) * other, row by row. share: float32 (n,)."""
    own = share.reshape(-1, *[1] * (column.ndim - 1))
    return own * column + (1 - own) * other


class PairedBatches(keras.utils.PyDataset):
    """Batches of ((images, unlabelled images), targets)."""

    def __init__(self, labelled: Batches, unlabelled: Batches) -> None:
        """unlabelled: without targets, and as many batches as labelled."""
        super().__init__()
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> tuple:
        images, targets = self.labelled[index]
        return (images, *self.unlabelled[index]), targets

    def shuffle(self, epoch: int) -> None:
        self.labelled.shuffle(epoch)
        self.unlabelled.shuffle(epoch)


def feed(batches: keras.utils.PyDataset):
    """The input for Keras's fit, evaluate and predict.

    On TensorFlow, Keras would turn the batches into a tf.data pipeline with autotuning. Its thread
    is joined at the end of every epoch and sleeps up to a minute at a time (observed with
    TensorFlow 2.21), so this is the same pipeline without autotuning.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    signature = keras.tree.map_structure(
        lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), batches[0]
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: (batches[index] for index in range(len(batches))), output_signature=signature
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
        .prefetch(2)
        .with_options(options)
    )
