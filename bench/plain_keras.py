"""The report's CNN trained by a plain Keras script: the peer of the benchmarks.

    python bench/plain_keras.py FER_DIR EPOCHS

FER_DIR has train.csv, test.csv and public_truth.csv. Uses no code of ferlab. Prints the seconds
since its start after reading and after every epoch, and the public accuracy after every epoch.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import pandas as pd
from keras import layers


def read(path: str) -> tuple[np.ndarray, pd.DataFrame]:
    table = pd.read_csv(path)
    pixels = [np.array(row.split(), dtype="float32") for row in table["feature"]]
    return np.stack(pixels).reshape(-1, 48, 48, 1) / 255, table


def network() -> keras.Model:
    model = keras.Sequential([keras.Input((48, 48, 1))])
    model.add(layers.RandomFlip("horizontal"))
    model.add(layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"))
    for filters in (32, 64, 128):
        for _ in range(3):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    for units in (256, 128, 64):
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(7, activation="softmax"))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fer_dir", metavar="FER_DIR")
    parser.add_argument("epochs", type=int, metavar="EPOCHS")
    args = parser.parse_args()
    start = time.time()
    keras.utils.set_random_seed(0)
    images, table = read(f"{args.fer_dir}/train.csv")
    labels = keras.utils.to_categorical(table["label"], 7)
    test, _ = read(f"{args.fer_dir}/test.csv")
    truth = pd.read_csv(f"{args.fer_dir}/public_truth.csv")
    print(f"read after {time.time() - start:.1f} s", flush=True)
    model = network()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    evaluation = 0.0  # seconds, not counted as training
    for epoch in range(1, args.epochs + 1):
        model.fit(
            images[2400:],
            labels[2400:],
            batch_size=128,
            validation_data=(images[:2400], labels[:2400]),
            verbose=0,
        )
        now = time.time() - start - evaluation
        predicted = model.predict(test[truth["id"]], batch_size=256, verbose=0).argmax(axis=1)
        accuracy = (predicted == truth["label"]).mean()
        print(f"epoch {epoch} {now:.1f} s public accuracy {accuracy:.4f}", flush=True)
        evaluation = time.time() - start - now


if __name__ == "__main__":
    main()
