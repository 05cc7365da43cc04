"""What a training learns from: labels, pseudo-labels, or labels and unlabelled images together.

An objective gives `training.fit` its batches, its loss, and the model that is fitted: the model
itself behind what is done at random to its images, on the model's own variables.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from ferlab.backend import has_bfloat16, keras
from ferlab.checkpoints import LearnedFrom
from ferlab.data import Dataset
from ferlab.data.batches import Batches, PairedBatches
from ferlab.errors import InputError
from ferlab.recipes import WHOLE_TRAINING, Phase, Recipe, SemiRecipe
from ferlab.training.acceleration import accelerate
from ferlab.training.augmentation import augmentation_layers, strong_augmentation_layers


@dataclass(frozen=True, eq=False)
class Teacher:
    """What another model, or a vote of them, says of the rows to train on.

    Hinton et al. 2015, arXiv 1503.02531, without their temperature.

    names: of its files, as a user would give them. probabilities: float32 (n, num_classes). rows:
    digests of those it was trained on itself, uint64 (m,); None where that is not all known.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    rows: np.ndarray | None


class Supervised:
    """Cross-entropy on the given labels, which the recipe may smooth and blend.

    steps: of an epoch, where that is not every row once: a control learns for as many as another.
    teacher: is learned from beside the labels.
    """

    loss = "sparse_categorical_crossentropy"

    def __init__(
        self,
        train: Dataset,
        recipe: Recipe,
        *,
        steps: int | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.train, self.recipe, self.steps, self.teacher = train, recipe, steps, teacher
        if self._is_soft:
            self.loss = "categorical_crossentropy"

    @property
    def _is_soft(self) -> bool:
        return self.recipe.learns_soft_targets or self.teacher is not None

    def __str__(self) -> str:
        return f"{len(self.train):,} training"

    def seen(self) -> np.ndarray:
        """Digests of the rows on which nothing may be decided afterwards, uint64 (n,)."""
        own = self.train.row_digests()
        taught = self.teacher.rows if self.teacher else None
        return own if taught is None else np.concatenate([own, taught])

    def taught_rows(self, validation: Dataset) -> int:
        """How many of the rows to decide on the teacher was trained on, as far as it tells."""
        if self.teacher is None or self.teacher.rows is None:
            return 0
        others = np.setdiff1d(self.teacher.rows, self.train.row_digests())
        return int(np.isin(validation.row_digests(), others).sum())

    def learned_from(self) -> LearnedFrom:
        """What the model learns from beside the labelled images."""
        if self.teacher is None:
            return LearnedFrom(steps=self.steps)
        return LearnedFrom(
            steps=self.steps,
            teachers=self.teacher.names,
            teacher_probabilities=_fingerprint(self.teacher.probabilities),
        )

    def _recipe_in(self, phase: Phase) -> Recipe:
        return self.recipe if phase.augment else self.recipe.without_augmentation()

    def batches(self, seed: int, phase: Phase = WHOLE_TRAINING) -> Batches | PairedBatches:
        return Batches(
            self.train.images,
            self._targets(),
            self.recipe.batch_size,
            seed,
            steps=self.steps,
            mixup=self._recipe_in(phase).mixup,
            cutmix=self._recipe_in(phase).cutmix,
        )

    def _targets(self) -> np.ndarray:
        """The labels, or float32 (n, num_classes) where there is more to learn than those."""
        if not self._is_soft:
            return self.train.labels
        targets = one_hot(self.train)
        if self.teacher is not None:
            weight = self.recipe.teacher_weight
            targets = weight * self.teacher.probabilities + (1 - weight) * targets
        smoothing = self.recipe.label_smoothing
        return (1 - smoothing) * targets + np.float32(smoothing / self.train.num_classes)

    def validation_batches(self, validation: Dataset, batch_size: int) -> Batches | PairedBatches:
        targets = one_hot(validation) if self._is_soft else validation.labels
        return Batches(validation.images, targets, batch_size)

    def training_model(self, model: keras.Model, phase: Phase = WHOLE_TRAINING) -> keras.Model:
        return behind_augmentation(model, self._recipe_in(phase), phase.scale)


def one_hot(dataset: Dataset) -> np.ndarray:
    """float32 (n, num_classes)."""
    return np.eye(dataset.num_classes, dtype="float32")[dataset.labels]


class PseudoLabelled(Supervised):
    """Cross-entropy on given labels and on pseudo-labels, whose weight may grow.

    After Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method", who
    labels anew at every step; here pseudo-labels stay as a predictor gave them, and a batch mixes
    both kinds.

    train: the rows with given labels. images and targets: those with pseudo-labels, uint8 (n,
    height, width, channels), and what is learned for them, float32 (n, num_classes). known:
    digests of the rows among them whose truth somebody may know, uint64 (m,). labelled_by: who
    gave the pseudo-labels, for the record. initial_epoch: when the weight begins to grow.
    """

    loss = "categorical_crossentropy"

    def __init__(
        self,
        train: Dataset,
        recipe: SemiRecipe,
        *,
        images: np.ndarray,
        targets: np.ndarray,
        known: np.ndarray,
        labelled_by: str,
        initial_epoch: int = 0,
    ) -> None:
        super().__init__(train, recipe)
        self.initial_epoch = initial_epoch
        self.images, self.targets, self.known = images, targets, known
        self.labelled_by = labelled_by

    def __str__(self) -> str:
        return f"{len(self.train):,} labelled and {len(self.images):,} pseudo-labelled training"

    def seen(self) -> np.ndarray:
        return np.concatenate([super().seen(), self.known])

    def learned_from(self) -> LearnedFrom:
        return LearnedFrom(
            pseudo_labels=_fingerprint(self.images, self.targets), labelled_by=self.labelled_by
        )

    def weights(self, epoch: int) -> np.ndarray:
        """float32 (rows,): 1 for a given label; a pseudo-label's grows from 0 over the ramp."""
        ramp = self.recipe.ramp_epochs
        passed = max(0, epoch - self.initial_epoch)
        weight = self.recipe.unlabelled_weight * (min(1.0, passed / ramp) if ramp else 1.0)
        ones = np.ones(len(self.train), "float32")
        return np.concatenate([ones, np.full(len(self.images), weight, "float32")])

    def batches(self, seed: int, phase: Phase = WHOLE_TRAINING) -> Batches:
        return Batches(
            np.concatenate([self.train.images, self.images]),
            np.concatenate([one_hot(self.train), self.targets]),
            self.recipe.batch_size,
            seed,
            weights=self.weights,
        )

    def validation_batches(self, validation: Dataset, batch_size: int) -> Batches:
        return Batches(validation.images, one_hot(validation), batch_size)


class FixMatch(Supervised):
    """Cross-entropy on given labels, and consistency on unlabelled images.

    What the model is confident of in a weak view of an image it is to say of a strong view too.
    Sohn et al. 2020, arXiv 2001.07685. Other than there: the weak view is judged in inference
    mode, the recipe's optimiser at a constant rate takes the place of SGD with a cosine schedule
    and of averaged weights, and the labelled images are not among the unlabelled.

    unlabelled: uint8 (n, height, width, channels); a step takes recipe.unlabelled_ratio times as
    many of them as labelled images. thresholds: float (num_classes,). known: digests of the rows
    among the unlabelled whose truth somebody may know.
    """

    def __init__(
        self,
        train: Dataset,
        recipe: SemiRecipe,
        *,
        unlabelled: np.ndarray,
        thresholds: np.ndarray,
        known: np.ndarray,
    ) -> None:
        super().__init__(train, recipe)
        self.unlabelled, self.thresholds, self.known = unlabelled, thresholds, known

    def __str__(self) -> str:
        return f"{len(self.train):,} labelled and {len(self.unlabelled):,} unlabelled training"

    def seen(self) -> np.ndarray:
        return np.concatenate([super().seen(), self.known])

    def learned_from(self) -> LearnedFrom:
        return LearnedFrom(unlabelled=_fingerprint(self.unlabelled, self.thresholds))

    def batches(self, seed: int, phase: Phase = WHOLE_TRAINING) -> PairedBatches:
        labelled = super().batches(seed)
        count = self.recipe.unlabelled_ratio * self.recipe.batch_size
        other_seed = seed + 2**32  # a stream of its own
        unlabelled = Batches(self.unlabelled, None, count, other_seed, steps=len(labelled))
        return PairedBatches(labelled, unlabelled)

    def validation_batches(self, validation: Dataset, batch_size: int) -> PairedBatches:
        labelled = super().validation_batches(validation, batch_size)
        none = Batches(validation.images[:1], None, 1, steps=len(labelled))
        return PairedBatches(labelled, none)

    def training_model(self, model: keras.Model, phase: Phase = WHOLE_TRAINING) -> keras.Model:
        images, unlabelled = (
            keras.Input(model.input_shape[1:], name=f"{name}_images")
            for name in ("labelled", "unlabelled")
        )
        fast = accelerate(model, bfloat16=self.recipe.bfloat16 and has_bfloat16())
        step = _TwoViews(fast, self.recipe, self.thresholds)
        outputs = step([images, unlabelled])
        return keras.Model([images, unlabelled], outputs, name=f"{model.name}_training")


class _TwoViews(keras.layers.Layer):
    """The probabilities of the labelled images; FixMatch's loss of the unlabelled is added."""

    def __init__(self, network: keras.Model, recipe: SemiRecipe, thresholds: np.ndarray) -> None:
        super().__init__(name="two_views")
        self.network, self.thresholds = network, thresholds.astype("float32")
        self.weight = recipe.unlabelled_weight
        self.weak = augmentation_layers(recipe)
        self.strong = [*augmentation_layers(recipe), *strong_augmentation_layers()]

    def build(self, input_shapes):
        for layer in (*self.weak, *self.strong):
            layer.build(input_shapes[0])

    @property
    def metrics(self):
        return []  # not those that the network, which is compiled too, has for itself

    def call(self, inputs, training=False):
        images, unlabelled = inputs
        if not training:
            return self.network(images, training=False)
        ops, count = keras.ops, keras.ops.shape(images)[0]
        weak, strong = ops.concatenate([images, unlabelled]), unlabelled
        for layer in self.weak:
            weak = layer(weak, training=True)
        for layer in self.strong:
            strong = layer(strong, training=True)
        guesses = ops.stop_gradient(self.network(weak[count:], training=False))
        outputs = self.network(ops.concatenate([weak[:count], strong]), training=True)
        labels = ops.argmax(guesses, axis=-1)
        sure = ops.max(guesses, axis=-1) >= ops.take(self.thresholds, labels)
        losses = keras.losses.sparse_categorical_crossentropy(labels, outputs[count:])
        self.add_loss(self.weight * ops.mean(ops.cast(sure, losses.dtype) * losses))
        return outputs[:count]


def behind_augmentation(
    model: keras.Model, recipe: Recipe, scale: float | None = None
) -> keras.Model:
    """The model behind the recipe's random layers, on the model's own variables.

    Raises InputError where images are to be made smaller for a model that takes one size alone.
    """
    images = keras.Input(model.input_shape[1:], name="training_images")
    x = images
    for layer in augmentation_layers(recipe):
        x = layer(x)
    shape = None
    if scale:
        height, width, channels = model.input_shape[1:]
        shape = (round(scale * height), round(scale * width), channels)
        x = keras.layers.Resizing(*shape[:2], antialias=True, name="smaller")(x)
    try:
        body = accelerate(model, bfloat16=recipe.bfloat16 and has_bfloat16(), image_shape=shape)
    except ValueError as error:  # Keras's, of a layer with weights for every place
        if shape is None:
            raise
        raise InputError(
            f"model {model.name} cannot take images of {shape[0]}x{shape[1]}; "
            "--progressive-scale 0 --progressive-fraction 0 trains on whole images alone"
        ) from error
    return keras.Model(images, body(x), name=f"{model.name}_training")


def _fingerprint(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
