"""The one order of the seven emotions, others in use, and how class names are read and compared."""

from collections.abc import Sequence

from ferlab.errors import InputError

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CLASS_ORDERS = {  # in which people train networks on the seven
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
UNLABELLED = -1  # scikit-learn's convention


def parse_class_names(text: str) -> tuple[str, ...]:
    """'happy, sad' -> ('happy', 'sad'). Raises InputError for fewer than two, empty or repeated.

    The seven emotions are known by other words too: 'Happiness, sadness, ...'.
    """
    names = tuple(name.strip() for name in text.split(","))
    folded = tuple(SYNONYMS.get(name.lower(), name.lower()) for name in names)
    if sorted(folded) == sorted(EMOTIONS):
        names = folded
    if len(names) < 2 or "" in names or len(set(names)) != len(names):
        raise InputError(f"class names must be two or more different names. Received: {text!r}")
    return names


def require_same_classes(where: str, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise InputError unless both name the same classes in the same order."""
    if tuple(found) == tuple(expected):
        return
    rule = "the same order" if sorted(found) == sorted(expected) else "the same classes"
    raise InputError(
        f"{where}: data and model must have {rule}: {', '.join(expected)}. "
        f"Received: {', '.join(found)}"
    )


def is_reordering(names: Sequence[str] | None, of: Sequence[str]) -> bool:
    """Whether both name the same classes, in different orders."""
    return names is not None and tuple(names) != tuple(of) and sorted(names) == sorted(of)
