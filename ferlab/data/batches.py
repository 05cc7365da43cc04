"""Batches of a dataset in a known order, for every Keras backend."""

from collections.abc import Callable

import numpy as np

from ferlab.backend import keras


class Batches(keras.utils.PyDataset):
    """Batches of (images,), (images, targets) or (images, targets, weights).

    Without `steps` an epoch is every row once; the last batch may be smaller, none is dropped.
    With `steps` it is that many full batches, going through the rows as often as that takes.
    `shuffle(epoch)` orders the rows by (seed, epoch) alone, so an epoch is the same whether or not
    others ran before it.
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
    ) -> None:
        """images: uint8 (n, height, width, channels); targets: one for each image, if any.

        weights: gives the weight of every row in an epoch, float32 (n,). mixup: alpha of the Beta
        distribution by which every image of a batch and its target, float32 (n, classes), are
        blended with another's of the batch; the images are then float32.
        """
        super().__init__()
        self.mixup, self.epoch = mixup, 0
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
        return self._mixed(batch, index) if self.mixup else batch

    def _mixed(self, batch: tuple[np.ndarray, ...], index: int) -> tuple[np.ndarray, ...]:
        generator = np.random.default_rng((self.seed, self.epoch, index))
        others = generator.permutation(len(batch[0]))
        share = generator.beta(self.mixup, self.mixup, size=len(others)).astype("float32")
        mixed = []
        for column in batch:
            own = share.reshape(-1, *[1] * (column.ndim - 1))
            mixed.append(own * column + (1 - own) * column[others])
        return tuple(mixed)

    def shuffle(self, epoch: int) -> None:
        self.epoch = epoch
        generator = np.random.default_rng((self.seed, epoch))
        passes = max(-(-self._rows() // max(len(self.images), 1)), 1)
        order = [generator.permutation(len(self.images)) for _ in range(passes)]
        self.order = np.concatenate(order)[: self._rows()]
        self.weights = self.weights_of(epoch) if self.weights_of else None


class PairedBatches(keras.utils.PyDataset):
    """Batches of ((images, unlabelled images), targets)."""

    def __init__(self, labelled: Batches, unlabelled: Batches) -> None:
        """unlabelled: without targets, as many batches as the labelled."""
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
    """What to hand to Keras's fit, evaluate and predict.

    On TensorFlow Keras turns its input into a tf.data pipeline with autotuning, whose thread is
    joined at the end of every epoch and sleeps up to a minute at a time (seen with TensorFlow
    2.21). Here the same pipeline comes without autotuning.
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
