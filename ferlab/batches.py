"""Batches of a dataset in a known order, for every Keras backend."""

import numpy as np

from ferlab.backend import keras


class Batches(keras.utils.PyDataset):
    """Batches of (images, labels), or of (images,) when there are no labels to give.

    The last batch may be smaller; none is dropped. `shuffle(epoch)` orders the rows by (seed,
    epoch) alone, so an epoch is the same whether or not others ran before it.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        """images: uint8 (n, height, width, channels); labels: int64 (n,)."""
        super().__init__()
        self.images, self.labels = images, labels
        self.batch_size, self.seed = batch_size, seed
        self.order = np.arange(len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.labels is None:
            return (self.images[rows],)
        return self.images[rows], self.labels[rows]

    def shuffle(self, epoch: int) -> None:
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))


def feed(batches: Batches):
    """What to hand to Keras's fit, evaluate and predict.

    On TensorFlow Keras turns its input into a tf.data pipeline with autotuning, whose thread is
    joined at the end of every epoch and sleeps up to a minute at a time (seen with TensorFlow
    2.21). Here the same pipeline comes without autotuning.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0])
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
