"""The class orders in which networks are trained, in the words of the data."""

import pytest

from ferlab.evaluation import conventions
from ferlab.labels import CLASS_ORDERS, EMOTIONS

WORDS = {
    "angry": "Anger",
    "disgust": "Disgusted",
    "fear": "fearful",
    "happy": "HAPPY",
    "sad": "sadness",
    "surprise": "Surprise",
    "neutral": "neutral",
}


@pytest.mark.parametrize("order", CLASS_ORDERS)
def test_class_orders_are_in_the_words_of_the_data(order):
    names = tuple(sorted(WORDS.values()))
    expected = tuple(WORDS[emotion] for emotion in CLASS_ORDERS[order])
    assert conventions.class_orders(names)[order] == expected
    assert conventions.class_orders(EMOTIONS)[order] == CLASS_ORDERS[order]


def test_class_orders_of_other_classes():
    assert set(conventions.class_orders(("b", "a"))) == {"the data's", "alphabetical"}
