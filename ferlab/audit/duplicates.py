"""Copies of images: exact, near, or mirrored.

Two images are near copies if the Pearson correlation of their pixels reaches a threshold. Changes
of brightness or contrast, JPEG artefacts and shifts of less than a pixel leave it close to 1. On
FER-2013, all of about 250 inspected pairs above 0.95 show the same photograph; pairs of different
faces begin at about 0.92.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

SIMILARITY = 0.95
SIDE = 12  # side, in pixels, of the thumbnails by which all pairs are compared first
_SLACK = 0.02  # the correlation of two thumbnails may be this much lower than that of the images
_ROWS, _COLUMNS = 1024, 8192  # size of a block of pairs
_CHUNK = 1 << 23  # grey levels processed at once
_MAX_PAIRS = 1 << 20  # pairs in memory before they are reduced to a spanning forest

_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # a, b, correlation, mirrored


@dataclasses.dataclass(frozen=True)
class Copies:
    """Pairs of rows that show the same image.

    Within a group of copies, the pairs are a spanning tree of the highest correlations.

    first, second: int64 (pairs,), row numbers, first < second
    correlation: float64 (pairs,), correlation of the pixels; the number of pairs above a threshold
        is the number of rows to remove if copies are defined by that threshold
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
        """int32 (rows,): equal for rows that are copies of each other.

        rows: the number of rows of the data; exact: whether to count only exact copies
        """
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        pairs = self.exact if exact else slice(None)
        first, second = self.first[pairs], self.second[pairs]
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
    rows: int (m,), ascending, the rows to compare, without blank images, which resemble anything
    similarity: minimum correlation of a pair
    report: receives the progress of a long comparison, a line at a time

    Takes O(m^2) time, and memory for m thumbnails and a few blocks.
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
    """float32 (n, side, side): grey levels averaged over equal areas and over the channels."""
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
    """float32 (side, length): the weight of each pixel in each of `side` equal parts."""
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
) -> _Pairs:
    """The fewest pairs of `rows` that connect all similar ones: (a, b, correlation, mirrored)."""
    small = thumbnails(images[rows])
    pairs: _Pairs = (np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0, bool))
    next_report = len(rows) // 4 if len(rows) > 50_000 else len(rows)
    for done, a, b, mirrored in _candidates(small, similarity - _SLACK):
        correlation = _correlations(images, rows[a], rows[b], mirrored)
        similar = correlation >= similarity
        pairs = (
            np.concatenate([pairs[0], a[similar]]),
            np.concatenate([pairs[1], b[similar]]),
            np.concatenate([pairs[2], correlation[similar]]),
            np.concatenate([pairs[3], np.full(similar.sum(), mirrored)]),
        )
        if len(pairs[0]) > _MAX_PAIRS:
            pairs = _spanning_forest(*pairs, len(rows))
        if report and done >= next_report:
            if done < len(rows):
                report(f"  {done:,} of {len(rows):,} images compared with all others")
            next_report += len(rows) // 4
    return _spanning_forest(*pairs, len(rows))


def _candidates(
    small: np.ndarray, threshold: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray, bool]]:
    """Pairs whose thumbnails' correlation reaches the threshold: (rows done, a, b, mirrored)."""
    upright = _standardized(small)
    flipped = _standardized(small[:, :, ::-1])
    for top in range(0, len(small), _ROWS):
        block = upright[top : top + _ROWS]
        for left in range(top, len(small), _COLUMNS):
            for mirrored, other in ((False, upright), (True, flipped)):
                products = block @ other[left : left + _COLUMNS].T
                a, b = np.divmod(np.flatnonzero(products >= threshold), products.shape[1])
                a, b = a + top, b + left
                yield top, a[a < b], b[a < b], mirrored


def _standardized(images: np.ndarray) -> np.ndarray:
    """float32 (n, values) of mean 0 and norm 1, so that dot products are correlations."""
    values = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return values


def _correlations(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: bool
) -> np.ndarray:
    """float64 (pairs,): the correlation of all pixels; the second image may be mirrored."""
    correlation = np.empty(len(first))
    step = max(_CHUNK // images[:1].size, 1)
    for start in range(0, len(first), step):
        chunk = slice(start, start + step)
        other = images[second[chunk]]
        other = other[:, :, ::-1] if mirrored else other
        correlation[chunk] = np.einsum(
            "ij,ij->i", _standardized(images[first[chunk]]), _standardized(other)
        )
    return np.minimum(correlation, 1)


def _spanning_forest(
    a: np.ndarray, b: np.ndarray, correlation: np.ndarray, mirrored: np.ndarray, rows: int
) -> _Pairs:
    """The most similar pairs that connect the same rows: a maximum spanning forest."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    pair = a * rows + b
    order = np.lexsort((mirrored, -correlation, pair))  # at a tie, upright before mirrored
    order = order[np.unique(pair[order], return_index=True)[1]]
    distance = coo_matrix((2 - correlation[order], (a[order], b[order])), shape=(rows, rows))
    forest = minimum_spanning_tree(distance.tocsr()).tocoo()
    edges = np.sort(forest.row.astype(np.int64) * rows + forest.col)
    order = order[np.searchsorted(pair[order], edges)]
    return a[order], b[order], correlation[order], mirrored[order]
