"""Class names and their order: the seven emotions, other orders in use, parsing and comparison.

Class names are compared here only: for flags, folders, tables, archives, truth, votes and models.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence

from ferlab.errors import InputError, a_few

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CLASS_ORDERS = {  # orders in which networks are trained on the seven emotions
    "FER-2013": EMOTIONS,
    "alphabetical": tuple(sorted(EMOTIONS)),
    "FER+": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
    "RAF-DB": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "AffectNet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
}
_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "disgusting": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "frightened": "fear",
    "scared": "fear",
    "happiness": "happy",
    "happyness": "happy",
    "joy": "happy",
    "joyful": "happy",
    "sadness": "sad",
    "suprise": "surprise",  # a folder name of several published data sets
    "surprised": "surprise",
    "surprising": "surprise",
    "neutrality": "neutral",
}
_UNLABELLED_NAMES = ("unlabelled", "unlabeled", "no label", "without label")
_BESIDE_NAME = re.compile(
    r"^(?:class |label |emotion )?[0-9]+ | (?:face|image|expression|emotion)s?$"
)
_NUMBER = re.compile(r"\+?[0-9]+(?:\.0*)?(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_NUMBERED = tuple(map(str, range(len(EMOTIONS))))
_MOST_LISTED = 100  # classes in a message
UNLABELLED = -1  # the label of a row without one, as in scikit-learn


def parse_class_names(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of class names; other words for all seven are replaced.

    Raises InputError for fewer than two names, and for empty or repeated ones.

    >>> parse_class_names("luffy, nami, zoro")
    ('luffy', 'nami', 'zoro')
    >>> parse_class_names("Anger,Disgust,Fear,Happiness,Sadness,Surprise,Neutral")
    ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')
    """
    names = tuple(name.strip() for name in text.split(","))
    emotions = tuple(map(_meaning, names))
    if sorted(emotions) == sorted(EMOTIONS):
        names = emotions
    if len(names) < 2 or "" in names or len(set(names)) != len(names):
        raise InputError(f"class names must be two or more different names. Received: {text!r}")
    return names


def class_index(word: str, class_names: Sequence[str]) -> int | None:
    """The class that a word stands for: its name or its number, as people write them.

    A name may differ in capitals, spaces and punctuation, be a synonym (`anger`, `happiness`), and
    follow a number (`0_angry`). A number may be written as `3.0`. None for an unknown word and for
    one that could be several classes.

    >>> [class_index(word, EMOTIONS) for word in ("happy", "HAPPINESS", "3.0", "3-happy", "smug")]
    [3, 3, 3, 3, None]
    """
    spellings, has_numbers = _spellings(tuple(class_names))
    exact, plain, meanings = spellings
    word = word.strip()
    if word in exact:
        return exact[word]
    if _NUMBER.fullmatch(word) and (value := float(word)).is_integer():
        if has_numbers:  # then 1 is a name
            return exact.get(str(int(value)))
        return int(value) if value < len(class_names) else None
    for known, form in ((plain, _plain(word)), (meanings, _meaning(word))):
        if form in known:
            return known[form]
    return None


def indices_in(names: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...] | None:
    """The place of each name in `class_names`, if both are the same classes in any words and order.

    The names 0 to 6 are FER-2013's classes. None for other classes.

    >>> indices_in(("Sadness", "joy"), ("happy", "sad"))
    (1, 0)
    """
    for mine, others in zip(_forms(tuple(names)), _forms(tuple(class_names)), strict=True):
        if sorted(mine) == sorted(others) and len(set(mine)) == len(mine):
            return tuple(others.index(form) for form in mine)
    return None


def are_same(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether both are the same classes in the same order, in any words."""
    return indices_in(names, others) == tuple(range(len(others)))


def require_same_classes(where: str, names: Sequence[str], expected: Sequence[str]) -> None:
    """Raise InputError unless both have the same classes in the same order, in any words."""
    if are_same(names, expected):
        return
    rule = "the same classes" if indices_in(names, expected) is None else "the same order"
    raise InputError(
        f"{where}: data and model must have {rule}: {_listed(expected)}. Received: {_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    """All names of a usual number of classes, a few of very many."""
    return ", ".join(names) if len(names) <= _MOST_LISTED else a_few(list(names))


def is_reordering(names: Sequence[str] | None, others: Sequence[str]) -> bool:
    """Whether both have the same classes, in any words, in different orders.

    >>> is_reordering(("sad", "happy"), ("Happy", "Sad"))
    True
    """
    if names is None or are_same(names, others):
        return False
    return indices_in(names, others) is not None


def numbered(class_names: Sequence[str]) -> tuple[str, ...]:
    """The classes that numbers mean beside these: of the emotions in another order, FER-2013's.

    >>> numbered(("happy", "angry", "sad", "fear", "neutral", "disgust", "surprise"))[:3]
    ('angry', 'disgust', 'fear')
    >>> numbered(("luffy", "nami"))
    ('luffy', 'nami')
    """
    return EMOTIONS if is_reordering(class_names, EMOTIONS) else tuple(class_names)


def means_unlabelled(word: str) -> bool:
    """Whether a folder's name says that its images have no label."""
    return _plain(word) in _UNLABELLED_NAMES


def is_emotion(word: str) -> bool:
    """Whether a word is one of the seven emotions, in any spelling."""
    return _meaning(word) in EMOTIONS


def _forms(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The names as they are, in plain spelling, and by their meaning."""
    plain = tuple(map(_plain, names))
    if sorted(names) == sorted(_NUMBERED):
        return names, plain, tuple(EMOTIONS[int(name)] for name in names)
    return names, plain, tuple(map(_meaning, names))


@functools.lru_cache(maxsize=64)
def _spellings(class_names: tuple[str, ...]) -> tuple[tuple[dict[str, int | None], ...], bool]:
    """(the classes by each of `_forms`, None for ambiguous ones; whether any name is a number)."""
    tables = []
    for forms in _forms(class_names):
        places = {form: place for place, form in enumerate(forms)}
        tables.append(
            {form: place if forms.count(form) == 1 else None for form, place in places.items()}
        )
    return tuple(tables), any(name.isdecimal() for name in class_names)


def _plain(name: str) -> str:
    """A name without capitals and punctuation, which remain where there is nothing else."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip() or folded.strip()


def _meaning(name: str) -> str:
    """The emotion that a name is a synonym of, else the name in plain spelling."""
    plain = _plain(name)
    word = _BESIDE_NAME.sub("", plain)
    word = _SYNONYMS.get(word, word)
    return word if word in EMOTIONS else plain
