"""The cost of the input pipeline and augmentation in a training step of the CNN.

    python bench/pipeline.py

With: shuffled uint8 batches of drawn faces from ferlab.data.batches, flipped and shifted.
Without: the same prepared batch in every step, no augmentation.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import in_turn, record, report

from ferlab import cli
from ferlab.errors import entry_point

ROUNDS, STEPS = 9, 12


@entry_point
def main() -> None:
    cli.parser(__doc__).parse_args()

    from ferlab import backend, training
    from ferlab.backend import keras
    from ferlab.data.batches import Batches, feed
    from ferlab.data.drawn_faces import drawn_faces
    from ferlab.recipes import RECIPES
    from ferlab.training import objectives
    from models import build_model

    recipe = RECIPES["cnn-report"]
    plain = recipe.override(shift=0.0, horizontal_flip=False)
    images, labels = drawn_faces(STEPS * recipe.batch_size, 0)
    settings = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"}

    def contender(recipe, steps):
        training.set_seed(0)
        model = objectives.behind_augmentation(build_model("cnn", (48, 48, 1), 7), recipe)
        model.compile(**settings, metrics=["accuracy"], jit_compile=backend.jit_compile())

        def step() -> float:
            batches = Batches(images, labels, recipe.batch_size)
            batches.shuffle(0)
            start = time.perf_counter()
            steps(model, batches)
            return (time.perf_counter() - start) / STEPS

        step()
        return step

    def with_pipeline(model, batches):
        model.fit(feed(batches), shuffle=False, verbose=0)

    def without_pipeline(model, batches):
        batch = tuple(map(keras.ops.convert_to_tensor, batches[0]))
        for _ in range(STEPS):
            model.train_on_batch(*batch)

    seconds = in_turn(
        {
            "with": contender(recipe, with_pipeline),
            "without": contender(plain, without_pipeline),
        },
        ROUNDS,
    )
    report(seconds, unit="s/step")
    record("input pipeline", seconds, "with", "without")
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    overheads = sorted(slower / faster - 1 for slower, faster in pairs)
    print(
        f"the pipeline and augmentation add {overheads[ROUNDS // 2]:.1%} "
        f"(from {overheads[0]:.1%} to {overheads[-1]:.1%}, {ROUNDS} pairs)"
    )


if __name__ == "__main__":
    main()
