"""Images that are there twice: byte for byte, nearly, or mirrored.

Nearly means: the Pearson correlation of the pixels reaches a threshold. Brightness, contrast,
JPEG's traces and a shift by a fraction of a pixel leave it near 1. On FER-2013, all pairs above
0.95 that were looked at (some 250) show the same photograph; other faces begin at about 0.92.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

SIMILARITY = 0.95
SIDE = 12  # pixels of the thumbnails by which all pairs are compared
# Details differ more than what a thumbnail keeps, so that is allowed to be less alike, a little.
_SLACK = 0.02
_ROWS, _COLUMNS = 1024, 8192  # pairs compared at once
_CHUNK = 1 << 23  # grey levels compared at once
_MOST_PAIRS = 1 << 20  # kept before they are thinned out to those that connect


@dataclasses.dataclass(frozen=True)
class Copies:
    """Pairs of rows that show the same, as few as connect each group of them.

    first, second: int64 (pairs,), rows, first < second
    correlation: float64 (pairs,), of the pixels; the pairs chosen are a group's most alike, so as
        many are above a threshold as there are rows too many at that threshold
    exact, mirrored: bool (pairs,)
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray
    exact: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def groups(self, rows: int, *, exact: bool = False) -> np.ndarray:
        """int32 (rows,): rows that show the same have the same number; those byte for byte."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        chosen = self.exact if exact else slice(None)
        first, second = self.first[chosen], self.second[chosen]
        edges = coo_matrix((np.ones(len(first)), (first, second)), shape=(rows, rows))
        return connected_components(edges, directed=False)[1]


def find_copies(
    images: np.ndarray,
    digests: np.ndarray,
    rows: np.ndarray,
    *,
    similarity: float = SIMILARITY,
    report: Callable[[str], None] | None = None,
) -> Copies:
    """Compare every image with every other.

    images: uint8 (n, height, width, channels); digests: uint64 (n,), equal for equal images
    rows: int (m,), in order, the rows to compare: leave out blank ones, which look like anything
    similarity: least correlation of a pair

    Takes m^2 operations, and memory for m thumbnails and some blocks. `report` is told how far it
    is where it takes long.
    """
    _, firsts, places = np.unique(digests[rows], return_index=True, return_inverse=True)
    distinct = np.sort(firsts)
    later = np.flatnonzero(firsts[places] != np.arange(len(rows)))
    a, b, correlation, mirrored = _similar_pairs(images, rows[distinct], similarity, report)
    return Copies(
        first=np.concatenate([rows[firsts[places[later]]], rows[distinct[a]]]),
        second=np.concatenate([rows[later], rows[distinct[b]]]),
        correlation=np.concatenate([np.ones(len(later)), correlation]),
        exact=np.arange(len(later) + len(a)) < len(later),
        mirrored=np.concatenate([np.zeros(len(later), bool), mirrored]),
    )


def thumbnails(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """float32 (n, side, side), grey levels: means over equal areas, and over the channels."""
    height, width, channels = images.shape[1:]
    down = _areas(height, side) / channels
    across = _areas(width, side).T
    small = np.empty((len(images), side, side), np.float32)
    step = max(_CHUNK // (height * width * channels), 1)
    for start in range(0, len(images), step):
        chunk = images[start : start + step].sum(axis=3, dtype=np.float32)
        small[start : start + step] = down @ chunk @ across
    return small


def _areas(length: int, side: int) -> np.ndarray:
    """float32 (side, length): the share that each pixel has in each of `side` equal parts."""
    edges = np.linspace(0, length, side + 1)
    pixels = np.arange(length)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(high - low, 0) * side / length).astype(np.float32)


def _similar_pairs(
    images: np.ndarray,
    rows: np.ndarray,
    similarity: float,
    report: Callable[[str], None] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(a, b, correlation, mirrored) of pairs of `rows` that connect all similar ones."""
    small = thumbnails(images[rows])
    kept = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, bool))
    told = len(rows) // 4 if len(rows) > 50_000 else len(rows)
    for done, a, b, mirrored in _candidates(small, similarity - _SLACK):
        correlation = _correlations(images, rows[a], rows[b], mirrored)
        alike = correlation >= similarity
        found = (a[alike], b[alike], correlation[alike], np.full(alike.sum(), mirrored))
        kept = tuple(np.concatenate(both) for both in zip(kept, found, strict=True))
        if len(kept[0]) > _MOST_PAIRS:
            kept = _connecting(*kept, len(rows))
        if report and done >= told:
            if done < len(rows):
                report(f"  {done:,} of {len(rows):,} images compared with all")
            told += len(rows) // 4
    return _connecting(*kept, len(rows))


def _candidates(
    small: np.ndarray, threshold: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray, bool]]:
    """(rows done, a, b, mirrored): pairs whose thumbnails' correlation reaches the threshold."""
    upright = _standardised(small)
    flipped = _standardised(small[:, :, ::-1])
    for top in range(0, len(small), _ROWS):
        block = upright[top : top + _ROWS]
        for left in range(top, len(small), _COLUMNS):
            for mirrored, other in ((False, upright), (True, flipped)):
                products = block @ other[left : left + _COLUMNS].T
                found = np.flatnonzero(products >= threshold)
                a, b = np.divmod(found, products.shape[1])
                a, b = a + top, b + left
                yield top, a[a < b], b[a < b], mirrored


def _standardised(images: np.ndarray) -> np.ndarray:
    """float32 (n, values): of mean 0 and length 1, so that products are correlations."""
    values = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return values


def _correlations(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: bool
) -> np.ndarray:
    """float64 (pairs,): the correlation of all pixels, the second image mirrored or not."""
    correlation = np.empty(len(first))
    step = max(_CHUNK // images[:1].size, 1)
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        other = images[second[part]]
        other = other[:, :, ::-1] if mirrored else other
        correlation[part] = np.einsum(
            "ij,ij->i", _standardised(images[first[part]]), _standardised(other)
        )
    return np.minimum(correlation, 1)


def _connecting(
    a: np.ndarray, b: np.ndarray, correlation: np.ndarray, mirrored: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of these pairs the most alike that connect the same rows: a maximum spanning forest."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    pair = a * rows + b
    order = np.lexsort((mirrored, -correlation, pair))  # upright before mirrored, if as alike
    order = order[np.unique(pair[order], return_index=True)[1]]
    distance = coo_matrix((2 - correlation[order], (a[order], b[order])), shape=(rows, rows))
    forest = minimum_spanning_tree(distance.tocsr()).tocoo()
    chosen = np.sort(forest.row.astype(np.int64) * rows + forest.col)
    order = order[np.searchsorted(pair[order], chosen)]
    return a[order], b[order], correlation[order], mirrored[order]
