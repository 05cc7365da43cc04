"""Objectives: learn from labels, pseudo-labels, or labels and unlabelled images together.

An objective provides the batches, the loss and the model for `training.fit`: the network preceded
by random augmentation, on the network's own variables.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

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
    """The probabilities that another model, or a vote, predicts for the training rows.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, without
    the temperature.

    names: of the files. probabilities: float32 (n, num_classes). rows: digests of the teacher's
    training rows, uint64 (m,); None if some of them are unknown.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    rows: np.ndarray | None


class Objective(Protocol):
    """The interface of an objective for `training.fit`.

    train: the labelled training rows. loss: a Keras loss for the targets of the batches. outputs:
    the kind of the model's outputs, as in `inference.output_kind`.
    """

    train: Dataset
    recipe: Recipe
    seed: int
    teacher: Teacher | None
    loss: str
    outputs: str

    def set_outputs(self, kind: str) -> None:
        """Learn by outputs of this kind. Raises InputError for a kind that does not suit."""
        ...

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, phase: Phase) -> Batches | PairedBatches:
        """The batches of an epoch; their `shuffle(epoch)` orders them."""
        ...

    def validation_batches(self, validation: Dataset, batch_size: int) -> Batches | PairedBatches:
        """All validation rows, in order, in batches of the same structure."""
        ...

    def training_model(self, model: keras.Model, phase: Phase) -> keras.Model:
        """The model to fit, on the variables of `model`."""
        ...

    def learned_from(self) -> LearnedFrom:
        """What the model learns from besides the labelled images."""
        ...

    def training_rows(self) -> np.ndarray:
        """Digests of all rows that the model learns from, uint64 (n,).

        Models must not be tuned or scored on these.
        """
        ...


class Supervised:
    """Cross-entropy with the labels, with optional label smoothing, mixup and CutMix.

    steps: steps per epoch; by default an epoch is every row once. teacher: its probabilities are
    learned besides the labels.
    """

    loss = "sparse_categorical_crossentropy"
    outputs = "probabilities"

    def __init__(
        self,
        train: Dataset,
        recipe: Recipe,
        *,
        seed: int = 0,
        steps: int | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.train, self.recipe, self.seed = train, recipe, seed
        self.steps, self.teacher = steps, teacher
        if self._has_soft_targets:
            self.loss = "categorical_crossentropy"

    def set_outputs(self, kind: str) -> None:
        self.outputs = kind
        if kind == "independent":  # each class by itself
            self.loss = "binary_crossentropy"

    @property
    def _has_soft_targets(self) -> bool:
        is_soft = self.recipe.learns_soft_targets or self.teacher is not None
        return is_soft or self.outputs == "independent"

    def __str__(self) -> str:
        return f"{len(self.train):,} training"

    @property
    def steps_per_epoch(self) -> int:
        return self.steps or -(-len(self.train) // self.recipe.batch_size)

    def training_rows(self) -> np.ndarray:
        own = self.train.row_digests()
        teachers = self.teacher.rows if self.teacher else None
        return own if teachers is None else np.concatenate([own, teachers])

    def learned_from(self) -> LearnedFrom:
        if self.teacher is None:
            return LearnedFrom(steps=self.steps)
        return LearnedFrom(
            steps=self.steps,
            teachers=self.teacher.names,
            teacher_probabilities=_fingerprint(self.teacher.probabilities),
        )

    def _recipe_in(self, phase: Phase) -> Recipe:
        return self.recipe if phase.augment else self.recipe.without_augmentation()

    def batches(self, phase: Phase = WHOLE_TRAINING) -> Batches | PairedBatches:
        recipe = self._recipe_in(phase)
        return Batches(
            self.train.images,
            self._targets(),
            recipe.batch_size,
            self.seed,
            steps=self.steps,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
        )

    def _targets(self) -> np.ndarray:
        """The labels, int64 (n,), or soft targets, float32 (n, num_classes)."""
        if not self._has_soft_targets:
            return self.train.labels
        targets = one_hot(self.train)
        if self.teacher is not None:
            weight = self.recipe.teacher_weight
            targets = weight * self.teacher.probabilities + (1 - weight) * targets
        smoothing = self.recipe.label_smoothing
        return (1 - smoothing) * targets + np.float32(smoothing / self.train.num_classes)

    def validation_batches(self, validation: Dataset, batch_size: int) -> Batches | PairedBatches:
        targets = one_hot(validation) if self._has_soft_targets else validation.labels
        return Batches(validation.images, targets, batch_size)

    def training_model(self, model: keras.Model, phase: Phase = WHOLE_TRAINING) -> keras.Model:
        return behind_augmentation(model, self._recipe_in(phase), phase.scale)


def one_hot(dataset: Dataset) -> np.ndarray:
    """The labels as probabilities, float32 (n, num_classes)."""
    return keras.utils.to_categorical(dataset.labels, dataset.num_classes).astype("float32")


class PseudoLabelled(Supervised):
    """Cross-entropy with labels and with pseudo-labels, whose weight can ramp up.

    After Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method". There,
    the model updates the pseudo-labels at every step; here a predictor assigns them before
    training, and a batch mixes labels and pseudo-labels.

    train: the rows with labels. images: the images with pseudo-labels, uint8 (n, height, width,
    channels). targets: the pseudo-labels as probabilities, float32 (n, num_classes). known:
    digests of the unlabelled rows whose labels are known elsewhere, uint64 (m,). labelled_by: name
    of the predictor. initial_epoch: the epoch at which the ramp begins.
    """

    loss = "categorical_crossentropy"

    def __init__(
        self,
        train: Dataset,
        recipe: SemiRecipe,
        *,
        seed: int,
        images: np.ndarray,
        targets: np.ndarray,
        known: np.ndarray,
        labelled_by: str,
        initial_epoch: int = 0,
    ) -> None:
        super().__init__(train, recipe, seed=seed)
        self.initial_epoch = initial_epoch
        self.images, self.targets, self.known = images, targets, known
        self.labelled_by = labelled_by

    def __str__(self) -> str:
        return f"{len(self.train):,} labelled and {len(self.images):,} pseudo-labelled training"

    @property
    def steps_per_epoch(self) -> int:
        return -(-(len(self.train) + len(self.images)) // self.recipe.batch_size)

    def training_rows(self) -> np.ndarray:
        return np.concatenate([super().training_rows(), self.known])

    def learned_from(self) -> LearnedFrom:
        return LearnedFrom(
            pseudo_labels=_fingerprint(self.images, self.targets), labelled_by=self.labelled_by
        )

    def weights(self, epoch: int) -> np.ndarray:
        """float32 (rows,): 1 for a label; the weight of a pseudo-label ramps up from 0."""
        ramp = self.recipe.ramp_epochs
        passed = max(0, epoch - self.initial_epoch)
        weight = self.recipe.unlabelled_weight * (min(1.0, passed / ramp) if ramp else 1.0)
        ones = np.ones(len(self.train), "float32")
        return np.concatenate([ones, np.full(len(self.images), weight, "float32")])

    def batches(self, phase: Phase = WHOLE_TRAINING) -> Batches:
        return Batches(
            np.concatenate([self.train.images, self.images]),
            np.concatenate([one_hot(self.train), self.targets]),
            self.recipe.batch_size,
            self.seed,
            weights=self.weights,
        )

    def validation_batches(self, validation: Dataset, batch_size: int) -> Batches:
        return Batches(validation.images, one_hot(validation), batch_size)


class FixMatch(Supervised):
    """Cross-entropy with labels, and consistency on unlabelled images.

    Sohn et al. 2020, arXiv 2001.07685: where the prediction for a weakly augmented image is
    confident, it becomes the label of a strongly augmented one. Unlike there, weakly augmented
    images are predicted in inference mode, the recipe's optimizer and schedule are used, and the
    labelled images are not among the unlabelled ones.

    unlabelled: uint8 (n, height, width, channels); a step uses recipe.unlabelled_ratio times as
    many as labelled images. thresholds: minimum confidence for each class, float
    (num_classes,). known: as in `PseudoLabelled`.
    """

    def __init__(
        self,
        train: Dataset,
        recipe: SemiRecipe,
        *,
        seed: int,
        unlabelled: np.ndarray,
        thresholds: np.ndarray,
        known: np.ndarray,
    ) -> None:
        super().__init__(train, recipe, seed=seed)
        self.unlabelled, self.thresholds, self.known = unlabelled, thresholds, known

    def set_outputs(self, kind: str) -> None:
        if kind == "independent":
            raise InputError(
                "fixmatch requires a model whose outputs add up to 1, such as those of a softmax. "
                "Received: an independent probability for each class"
            )
        super().set_outputs(kind)

    def __str__(self) -> str:
        return f"{len(self.train):,} labelled and {len(self.unlabelled):,} unlabelled training"

    def training_rows(self) -> np.ndarray:
        return np.concatenate([super().training_rows(), self.known])

    def learned_from(self) -> LearnedFrom:
        return LearnedFrom(unlabelled=_fingerprint(self.unlabelled, self.thresholds))

    def batches(self, phase: Phase = WHOLE_TRAINING) -> PairedBatches:
        labelled = super().batches()
        count = self.recipe.unlabelled_ratio * self.recipe.batch_size
        other_seed = self.seed + 2**32  # above the seed of any training
        unlabelled = Batches(self.unlabelled, None, count, other_seed, steps=len(labelled))
        return PairedBatches(labelled, unlabelled)

    def validation_batches(self, validation: Dataset, batch_size: int) -> PairedBatches:
        labelled = super().validation_batches(validation, batch_size)
        placeholder = Batches(validation.images[:1], None, 1, steps=len(labelled))
        return PairedBatches(labelled, placeholder)

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
    """Probabilities of the labelled images; adds FixMatch's loss of the unlabelled ones."""

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
        return []  # the compiled network inside has metrics of its own, which must not be added

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
        predicted = ops.stop_gradient(self.network(weak[count:], training=False))
        outputs = self.network(ops.concatenate([weak[:count], strong]), training=True)
        labels = ops.argmax(predicted, axis=-1)
        is_confident = ops.max(predicted, axis=-1) >= ops.take(self.thresholds, labels)
        losses = keras.losses.sparse_categorical_crossentropy(labels, outputs[count:])
        self.add_loss(self.weight * ops.mean(ops.cast(is_confident, losses.dtype) * losses))
        return outputs[:count]


def behind_augmentation(
    model: keras.Model, recipe: Recipe, scale: float | None = None
) -> keras.Model:
    """The model preceded by the recipe's random layers, on the model's own variables.

    scale: factor of the images' sides, to train on smaller images. Raises InputError for a model
    that takes only one image size.
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
    except ValueError as error:  # from Keras, for a layer with weights per pixel
        if shape is None:
            raise
        raise InputError(
            f"model {model.name} cannot take images of {shape[0]}x{shape[1]}; "
            "--progressive-scale 0 --progressive-fraction 0 trains on whole images only"
        ) from error
    return keras.Model(images, body(x), name=f"{model.name}_training")


def _fingerprint(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
