import keras
import numpy as np
from support import faces

from ferlab import checkpoints, inference
from ferlab.checkpoints import TrainingRecord


def test_features_are_the_inputs_of_the_last_layer(tmp_path):
    images = keras.Input((48, 48, 1))
    maps = keras.layers.Conv2D(5, 3, name="maps")(keras.layers.Rescaling(1 / 255)(images))
    body = keras.layers.Dense(7)(keras.layers.Flatten()(keras.layers.MaxPooling2D(8)(maps)))
    drawn = faces(6, seed=6)
    checkpoints.save(keras.Model(images, body), tmp_path / "flat.h5", TrainingRecord(pixels="raw"))
    opened = checkpoints.load(tmp_path / "flat.h5")
    features = inference.features(opened, drawn, batch_size=4)
    assert features.shape == (6, 5 * 5 * 5 + 7)
    kernel, bias = opened.model.layers[-1].get_weights()
    logits = features[:, :125] @ kernel + bias
    expected = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    np.testing.assert_allclose(features[:, 125:], expected, rtol=1e-3, atol=1e-4)
    # Without a dense layer, the mean of the maps before the last convolution; pixels are scaled.
    last = keras.layers.Conv2D(7, 1)(keras.layers.Conv2D(4, 3)(images))
    pooled = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(last))
    keras.Model(images, pooled).save(tmp_path / "map.keras")
    opened = checkpoints.load(tmp_path / "map.keras")
    features = inference.features(opened, drawn)
    first = opened.model.layers[1](drawn.images.astype("float32") / 255)
    np.testing.assert_allclose(
        features[:, :4], keras.ops.convert_to_numpy(first).mean(axis=(1, 2)), rtol=1e-3, atol=1e-4
    )
    predicted = inference.predict(opened, drawn)
    np.testing.assert_allclose(np.exp(features[:, 4:]), predicted, rtol=1e-3)
