"""The last layer of every architecture, and the names that other rooms know layers by."""

from keras import layers

HEAD = "probabilities"  # the last layer
BACKBONE = "backbone"  # the layer that holds a pretrained network, where there is one


def head(features, num_classes: int):
    """Class probabilities, (batch, num_classes), of features, (batch, n)."""
    return layers.Dense(num_classes, activation="softmax", name=HEAD)(features)
