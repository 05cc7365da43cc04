"""The last layer of every architecture, and the layer names that other modules rely on."""

from keras import layers

HEAD = "probabilities"  # the last layer
BACKBONE = "backbone"  # the layer that holds a pretrained network, where there is one


def head(features, num_classes: int):
    """Class probabilities, (batch, num_classes), of features, (batch, n)."""
    return layers.Dense(num_classes, activation="softmax", name=HEAD)(features)
