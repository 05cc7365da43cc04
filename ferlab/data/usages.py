"""What rows are for: training, validation ("public"), or the final score, by their usage's name."""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Literal

import numpy as np

Kind = Literal["training", "public", "scoring", "unknown"]
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("train", "training", "trn"), "training"),
    **dict.fromkeys(("validation", "validate", "valid", "val"), "public"),
    **dict.fromkeys(("public", "development", "dev"), "public"),
    **dict.fromkeys(
        ("test", "testing", "tst", "private", "final", "holdout", "heldout"), "scoring"
    ),
    **dict.fromkeys(("hidden", "blind", "unseen", "secret", "reserved"), "scoring"),
}
# Words that say the same in a folder's name, whatever lies beside it; `hidden` may be a class.
_PLAIN = ("train", "training", "test", "testing", "private", "validation", "val")
_FILLERS = (
    *("set", "sets", "data", "split", "part", "subset", "fold", "folder", "usage"),
    *("image", "images", "img", "imgs", "face", "faces", "pics", "pictures", "photos", "files"),
    *("sample", "samples", "rows", "examples", "fer", "plus", "the", "of", "for", "and"),
)
_WORD = "|".join(sorted((*_KINDS, *_FILLERS), key=len, reverse=True))
_WORDS = re.compile(f"(?:{_WORD})+")
_CANONICAL = {"training": "train", "public": "val", "scoring": "test"}  # names of parts


def key(usage: str) -> str:
    """A usage for comparison: case, spaces and punctuation do not matter.

    >>> key("Private Test") == key("private_test") == key("PRIVATE-TEST")
    True
    """
    return "".join(filter(str.isalnum, _plain(usage).casefold()))


@functools.lru_cache(maxsize=4096)
def kind(usage: str) -> Kind:
    """What rows of a usage are for. Whatever is neither for training nor public is held out.

    'scoring' rows are never decided by; 'unknown' ones only where the user names their usage.

    >>> kind("Training"), kind("PublicTest"), kind("Private Test"), kind("test_set"), kind("extra")
    ('training', 'public', 'scoring', 'scoring', 'unknown')
    """
    words, has_others = _words(_tokens(usage))
    if "public" in words:  # the public test set
        words -= {"test", "testing", "tst"}
    kinds = {_KINDS[word] for word in words}
    if "scoring" in kinds:
        return "scoring"
    return "unknown" if has_others or len(kinds) != 1 else kinds.pop()


def kinds(usages: np.ndarray) -> np.ndarray:
    """The kind of each row, str (n,)."""
    names, places = np.unique(usages, return_inverse=True)
    return np.array([kind(name) for name in names.tolist()], dtype=np.str_)[places]


def is_of(usages: np.ndarray, usage: str) -> np.ndarray:
    """bool (n,): whether each row has a usage."""
    names, places = np.unique(usages, return_inverse=True)
    return np.array([key(name) == key(usage) for name in names.tolist()], dtype=bool)[places]


def parts(folders: Iterable[str]) -> dict[str, Kind]:
    """Those folders beside each other that are parts of a data set by their names, and their kinds.

    A word that all names share, as in `ck_train` and `ck_test`, does not matter. A name such as
    `hidden`, which may be a class, is a part only where there is a training part, or only parts.

    >>> parts(["test_set", "training_set"])
    {'test_set': 'scoring', 'training_set': 'training'}
    >>> parts(["angry", "hidden", "test pilot"])
    {}
    """
    tokens = {name: _tokens(name) for name in folders}
    common = set.intersection(*map(set, tokens.values())) if len(tokens) > 1 else set()
    shortened = {name: [word for word in tokens[name] if word not in common] for name in tokens}
    result = _parts(shortened)
    if len(result) < 2:  # `train_driver` beside `bus_driver`
        result = _parts(tokens)
    if "training" in result.values() or len(result) == len(tokens):
        return result
    return {name: its_kind for name, its_kind in result.items() if name in _parts(tokens, _PLAIN)}


def is_unnamed_part(folder: str) -> bool:
    """Whether a folder's name has only words such as in `set 1`, `part_b` and `fold2`."""
    words = [token for token in _tokens(folder) if len(token) > 1]
    return bool(words) and all(token in _FILLERS for token in words)


def of_part(folder: str, its_kind: Kind) -> str:
    """The usage of the rows of a part: its name if that says what it is for, else `train`, ..."""
    return folder if kind(folder) == its_kind else _CANONICAL[its_kind]


def _parts(
    tokens: dict[str, list[str]], allowed: Collection[str] = tuple(_KINDS)
) -> dict[str, Kind]:
    """The folders whose words are all known, and the kind that they say, in `allowed` words."""
    result: dict[str, Kind] = {}
    for name in tokens:
        words, has_others = _words(tokens[name])
        its_kind = kind(" ".join(words))
        if words and not has_others and its_kind != "unknown" and words <= set(allowed):
            result[name] = its_kind
    return result


def _plain(usage: str) -> str:
    """Without invisible characters, which copied text contains."""
    text = unicodedata.normalize("NFKC", usage)
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def _tokens(usage: str) -> list[str]:
    """The words of a name, without digits: `fer2013_testSet` has fer, test and set."""
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _plain(usage))
    return re.findall(r"[^\W\d_]+", separated.casefold())


def _words(tokens: list[str]) -> tuple[set[str], bool]:
    """(the words that say what rows are for, whether there are words of unknown meaning)."""
    joined = "".join(tokens)  # `hold out` is `holdout`
    if _WORDS.fullmatch(joined):
        known, has_others = [joined], False
    else:
        known = [token for token in tokens if _WORDS.fullmatch(token)]
        has_others = len(known) < len(tokens)
    words = {word for token in known for word in re.findall(_WORD, token)}
    return words & set(_KINDS), has_others
