import pytest

from ferlab.errors import InputError
from ferlab.labels import (
    CLASS_ORDERS,
    EMOTIONS,
    are_same,
    class_index,
    indices_in,
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


@pytest.mark.parametrize(
    ("word", "index"),
    [
        *(("happy", 3), ("Happy", 3), ("HAPPINESS", 3), (" joy ", 3), ("3", 3), ("3.0", 3)),
        *(("3.", 3), ("03", 3), ("3e0", 3), ("+3", 3), ("3_happy", 3), ("4 happy", 3)),
        *(
            ("anger", 0),
            ("Sadness", 4),
            ("scared", 2),
            ("surprised!", 5),
            ("Happy faces", 3),
            ("label 3", None),
            ("Neutral", 6),
        ),
        *(("7", None), ("-1", None), ("3.5", None), ("smug", None), ("", None), ("nan", None)),
        *(("inf", None), ("1e999", None), ("1_0", None), ("\u0663", None), ("contempt", None)),
    ],
)
def test_class_index_reads_a_name_or_a_number(word, index):
    assert class_index(word, EMOTIONS) == index


def test_class_index_prefers_the_name_as_it_is():
    assert class_index("anger", ("angry", "anger")) == 1
    assert class_index("ANGER", ("angry", "anger")) == 1
    assert class_index("rage", ("angry", "anger")) is None
    assert class_index("Mad Max", ("mad_max", "sad")) == 0
    assert class_index("A", ("a", "A")) == 1
    assert class_index("\xe0 ", ("a\u0300", "e")) == 0  # composed or not
    assert class_index("3", ("1", "2", "3")) == 2
    assert class_index("0", ("1", "2", "3")) is None
    assert class_index("angry", tuple("0123456")) == 0
    assert class_index("\U0001f600", ("\U0001f600", "\U0001f621")) == 0
    assert class_index("joy", ("happy joy", "joyful", "happiness")) is None  # both may be meant


@pytest.mark.parametrize(
    ("names", "others", "places"),
    [
        (("Sad", "happy"), ("happy", "sad"), (1, 0)),
        (("anger", "joy"), ("angry", "happy"), (0, 1)),
        (tuple("0123456"), tuple(sorted(EMOTIONS)), (0, 1, 2, 3, 5, 6, 4)),
        (("a", "A"), ("A", "a"), (1, 0)),
        (("luffy", "nami"), ("luffy", "zoro"), None),
        (("angry", "anger"), ("angry", "sad"), None),
        (("0", "1"), ("happy", "sad"), None),
        (("a",), ("a", "b"), None),
    ],
)
def test_indices_in_matches_classes_in_any_words(names, others, places):
    assert indices_in(names, others) == places
    assert are_same(names, others) == (places == tuple(range(len(others))))


def test_require_same_classes_names_a_few_of_very_many():
    with pytest.raises(InputError) as caught:
        require_same_classes("t.npz", [str(number) for number in range(10_000)], EMOTIONS)
    assert len(str(caught.value)) < 200
