import pytest

from ferlab.errors import InputError
from ferlab.labels import (
    CLASS_ORDERS,
    EMOTIONS,
    is_reordering,
    parse_class_names,
    require_same_classes,
)


def test_parse_class_names_replaces_synonyms_of_all_seven_emotions():
    names = parse_class_names("Anger,disgusted,fearful,Happy,neutral,sadness,surprised")
    assert names == tuple(sorted(EMOTIONS))
    assert parse_class_names("joy,sad") == ("joy", "sad")


@pytest.mark.parametrize("text", ["", "happy", "happy,", "happy,happy", "a, a"])
def test_parse_class_names_requires_two_or_more_different_names(text):
    with pytest.raises(InputError, match="class names"):
        parse_class_names(text)


def test_class_orders_are_orders_of_the_seven_emotions():
    assert all(sorted(names) == sorted(EMOTIONS) for names in CLASS_ORDERS.values())


def test_is_reordering():
    assert is_reordering(["a", "b"], ("b", "a"))
    assert not is_reordering(("a", "b"), ["a", "b"])
    assert not is_reordering(("a", "c"), ("b", "a"))
    assert not is_reordering(None, ("a", "b"))


def test_require_same_classes_distinguishes_order_from_names():
    require_same_classes("x.npz", ["a", "b"], ("a", "b"))
    with pytest.raises(InputError, match=r"x\.npz: .*same order.*a, b.*b, a"):
        require_same_classes("x.npz", ("b", "a"), ("a", "b"))
    with pytest.raises(InputError, match=r"x\.npz: .*same classes.*a, b.*a, c"):
        require_same_classes("x.npz", ("a", "c"), ("a", "b"))
