"""Class names and their order: the seven emotions, other orders in use, parsing and comparison."""

from collections.abc import Sequence

from ferlab.errors import InputError

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CLASS_ORDERS = {  # orders in which networks are trained on the seven emotions
    "FER-2013": EMOTIONS,
    "alphabetical": tuple(sorted(EMOTIONS)),
    "FER+": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
    "RAF-DB": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "AffectNet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
}
SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "neutrality": "neutral",
}
UNLABELLED = -1  # the label of a row without one, as in scikit-learn


def parse_class_names(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of class names; synonyms of all seven emotions are replaced.

    Raises InputError for fewer than two names, and for empty or repeated ones.

    >>> parse_class_names("luffy, nami, zoro")
    ('luffy', 'nami', 'zoro')
    >>> parse_class_names("Anger,Disgust,Fear,Happiness,Sadness,Surprise,Neutral")
    ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')
    """
    names = tuple(name.strip() for name in text.split(","))
    emotions = tuple(SYNONYMS.get(name.lower(), name.lower()) for name in names)
    if sorted(emotions) == sorted(EMOTIONS):
        names = emotions
    if len(names) < 2 or "" in names or len(set(names)) != len(names):
        raise InputError(f"class names must be two or more different names. Received: {text!r}")
    return names


def require_same_classes(where: str, names: Sequence[str], expected: Sequence[str]) -> None:
    """Raise InputError unless both have the same classes in the same order."""
    if tuple(names) == tuple(expected):
        return
    rule = "the same order" if sorted(names) == sorted(expected) else "the same classes"
    raise InputError(
        f"{where}: data and model must have {rule}: {', '.join(expected)}. "
        f"Received: {', '.join(names)}"
    )


def is_reordering(names: Sequence[str] | None, others: Sequence[str]) -> bool:
    """Whether both have the same classes in different orders.

    >>> is_reordering(("sad", "happy"), ("happy", "sad"))
    True
    """
    return names is not None and tuple(names) != tuple(others) and sorted(names) == sorted(others)
