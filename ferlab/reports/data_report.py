"""The page of `check`: what was found in a data set, in pictures and tables."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ferlab import plots
from ferlab.audit.checks import (
    BLANK_DEVIATION,
    FLAT_SHARE,
    SAMPLE,
    Comparison,
    FileSizes,
    Findings,
    Rows,
    copies_between,
)
from ferlab.audit.cleaning import REASONS, Removal
from ferlab.audit.label_errors import Doubts
from ferlab.labels import UNLABELLED
from ferlab.reports.page import Page

EXAMPLES = 100
_SHOWN = 40  # pictures of one kind
_IN_A_GROUP = 3  # images shown of one group
_LEVELS = (0.999, 0.99, 0.98, 0.95)


def page(
    rows: Rows,
    findings: Findings,
    sizes: Sequence[FileSizes],
    removed: Sequence[Removal],
    *,
    similarity: float,
    doubts: Doubts | None = None,
    doubts_notes: Sequence[str] = (),
    cleaned: str | None = None,
) -> Page:
    """The whole report.

    doubts: by rows of `rows`, with notes on the models that they come from
    cleaned: the folder with the cleaned copies, if they are written
    """
    dataset = rows.dataset
    shape = "x".join(map(str, dataset.image_shape))
    report = Page("Data report", f"{len(dataset):,} images of {shape} (height, width, channels)")
    _overview(report, rows)
    _examples(report, rows)
    _copies(report, rows, findings, similarity)
    _conflicts(report, rows, findings)
    _blank(report, rows, findings)
    if sizes:
        _sizes(report, sizes, dataset.image_shape)
    if doubts is not None:
        _doubts(report, rows, doubts, doubts_notes, findings.blank)
    if len(rows.parts) > 1:
        _differences(report, rows, findings.comparisons)
    _removed(report, removed, cleaned)
    return report


def summary(
    rows: Rows, findings: Findings, sizes: Sequence[FileSizes], similarity: float
) -> list[str]:
    """The findings in some lines, to print."""
    lines = []
    for part in rows.parts:
        labels = _labels(rows, part.rows)
        counts = [f"{name} {count:,}" for name, count in zip(*_counted(rows, labels), strict=True)]
        told = ", ".join(counts) if len(labels) else "without labels"
        lines.append(f"{part.name}: {len(part.rows):,} images; {told}")
    copies, between = findings.copies, copies_between(rows, findings.groups)
    lines.append(
        f"copies: {len(copies):,} beyond the first of each group ("
        f"{copies.exact.sum():,} byte for byte, "
        f"{(~copies.exact & ~copies.mirrored).sum():,} nearly, {copies.mirrored.sum():,} mirrored; "
        f"correlation {similarity} or more)"
    )
    for one, first in enumerate(rows.parts):
        for other, second in enumerate(rows.parts):
            if other != one and between[one, other]:
                lines.append(
                    f"  {between[one, other]:,} images of {first.name} have one in {second.name}"
                )
    lines.append(f"contradictory: {len(findings.conflicts):,} groups of copies with unlike labels")
    lines.append(
        f"blank: {findings.blank.sum():,} images; mostly one grey level: {findings.flat.sum():,}"
    )
    for folder in sizes:
        small = folder.small(rows.dataset.image_shape)
        lines.append(
            f"{folder.source}: {len(folder.files):,} files of {_extent(folder)}; "
            f"{folder.odd.sum():,} of odd size or shape, {small.sum():,} enlarged; "
            + ", ".join(f"{mode} {count:,}" for mode, count in folder.modes.most_common())
        )
    lines += [_alike_or_not(comparison) for comparison in findings.comparisons]
    return lines


def _overview(report: Page, rows: Rows) -> None:
    report.heading("Classes")
    names = rows.dataset.class_names
    labelled = {part.name: _labels(rows, part.rows) for part in rows.parts}
    report.table(
        ("rows", "images", "with labels", "trained on"),
        [
            (
                f"{number}: {part.name}",
                f"{len(part.rows):,}",
                f"{len(labelled[part.name]):,}",
                "yes" if part.is_trained_on else "no",
            )
            for number, part in enumerate(rows.parts, start=1)
        ],
    )
    counts = {
        name: np.bincount(labels, minlength=len(names))
        for name, labels in labelled.items()
        if len(labels)
    }
    if not counts:
        report.paragraph("No row has a label.")
        return
    report.figure(plots.class_counts_figure(counts, names), "Images of each class")
    for name, count in counts.items():
        most, least = int(count.argmax()), int(count.argmin())
        missing = [names[label] for label in np.flatnonzero(count == 0)]
        times = f"{count[most] / count[least]:.1f} times" if count[least] else "none of"
        report.paragraph(
            f"{name}: {names[most]} has {count[most]:,} images, {times} "
            f"{names[least]}{f' ({count[least]:,})' if count[least] else ''}. Always answering "
            f"{names[most]} would be right on {count[most] / count.sum():.1%}."
            + (f" Without any image: {', '.join(missing)}." if missing else "")
        )


def _examples(report: Page, rows: Rows) -> None:
    report.heading("Examples")
    chosen = _spread(rows)
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[row] for row in chosen],
            [_label(rows, row) for row in chosen],
            columns=10,
        ),
        f"{len(chosen)} images drawn by a fixed seed, equally many of each class, with their "
        "labels",
    )


def _spread(rows: Rows) -> list[int]:
    """EXAMPLES rows, equally many of each class where there are so many; of the first part that
    has labels, else of all."""
    labels = rows.dataset.labels
    labelled = [part.rows for part in rows.parts if (labels[part.rows] != UNLABELLED).any()]
    places = labelled[0] if labelled else np.arange(len(labels))
    shuffled = np.random.default_rng(0).permutation(places)
    turn = np.empty(len(shuffled), dtype=np.int64)  # how many of its class come before it
    for label in np.unique(labels[shuffled]):
        of_label = labels[shuffled] == label
        turn[of_label] = np.arange(of_label.sum())
    chosen = shuffled[np.lexsort((labels[shuffled], turn))][:EXAMPLES]
    return chosen[np.argsort(labels[chosen], kind="stable")].tolist()


def _copies(report: Page, rows: Rows, findings: Findings, similarity: float) -> None:
    report.heading("Copies")
    copies = findings.copies
    report.paragraph(
        f"{len(copies):,} images are copies of one before: {copies.exact.sum():,} byte for byte, "
        f"{(~copies.exact & ~copies.mirrored).sum():,} nearly, {copies.mirrored.sum():,} mirrored. "
        "Every image was compared with every other, upright and mirrored."
    )
    report.note(
        f"Nearly: the correlation of the pixels is {similarity} or more, which no change of "
        "brightness or contrast lowers and recompression hardly does. In FER-2013 about 0.95 and "
        "more is the same photograph, cut a little differently at the lower end; other faces "
        "begin at about 0.92. Drawings with large plain areas may need more: --similarity. "
        "Blank images are not compared."
    )
    if not len(copies):
        return
    report.table(
        ("correlation of at least", "copies"),
        [
            (f"{level:g}", f"{(copies.correlation >= level).sum():,}")
            for level in sorted({similarity, *_LEVELS}, reverse=True)
            if level >= similarity
        ],
    )
    between = copies_between(rows, findings.groups)
    names = [part.name for part in rows.parts]
    report.table(
        ("images of", *(f"with one in {name}" for name in names)),
        [
            (name, *(f"{count:,}" for count in line))
            for name, line in zip(names, between.tolist(), strict=True)
        ],
    )
    report.note("On the diagonal: beyond the first of each group.")
    part_of = rows.part_of()
    across = part_of[copies.first] != part_of[copies.second]
    for title, pairs in (
        ("Copies in different files or usages", np.flatnonzero(across)),
        (
            "Copies within a file or usage",
            np.flatnonzero(~across & ~copies.exact & ~copies.mirrored),
        ),
        ("Mirrored copies", np.flatnonzero(copies.mirrored)),
    ):
        if len(pairs):
            _pairs(report, rows, findings, pairs, title)


def _pairs(report: Page, rows: Rows, findings: Findings, pairs: np.ndarray, title: str) -> None:
    """Pairs from the most to the least alike, evenly picked."""
    copies = findings.copies
    pairs = pairs[np.argsort(-copies.correlation[pairs], kind="stable")]
    if len(pairs) > _SHOWN // 2:
        pairs = pairs[np.linspace(0, len(pairs) - 1, _SHOWN // 2).round().astype(int)]
    ends = [(copies.first[pair], copies.second[pair]) for pair in pairs]
    report.figure(
        plots.image_grid_figure(
            [plots.side_by_side(list(rows.dataset.images[list(end)])) for end in ends],
            [
                f"{_label(rows, first)}, {_label(rows, second)}; {copies.correlation[pair]:.3f}\n"
                f"{_where(rows, first)}, {_where(rows, second)}"
                for pair, (first, second) in zip(pairs, ends, strict=True)
            ],
            columns=5,
        ),
        f"{title}, some of them from the most to the least alike: labels and correlation; "
        "under them the numbers of the file, as in the first table, and of the row in it",
    )


def _conflicts(report: Page, rows: Rows, findings: Findings) -> None:
    report.heading("Contradictory labels")
    groups = findings.conflicts
    count = sum(map(len, groups))
    report.paragraph(
        f"{len(groups):,} groups of copies, {count:,} images, have labels that contradict each "
        "other. Labels kept for the final score are not looked at."
    )
    if not groups:
        return
    cells, captions = [], []
    for group in groups[:_SHOWN]:
        labels = rows.dataset.labels[group]
        # One of each label first.
        first_of_each = np.unique(labels, return_index=True)[1]
        shown = list(dict.fromkeys([*first_of_each, *range(len(group))]))[:_IN_A_GROUP]
        cells.append(plots.side_by_side([rows.dataset.images[row] for row in group[shown]]))
        counts = Counter(rows.dataset.class_names[label] for label in labels)
        captions.append(", ".join(f"{name} {times}" for name, times in counts.most_common()))
    report.figure(
        plots.image_grid_figure(cells, captions, columns=1000 // (100 * _longest(cells))),
        f"{len(cells)} of the groups, the largest first, at most {_IN_A_GROUP} images of each; "
        "under them their labels, and how many images have each",
    )


def _longest(cells: Sequence[np.ndarray]) -> int:
    """How many images the longest of them holds."""
    return max(-(-cell.shape[1] // (cell.shape[0] + 1)) for cell in cells)


def _blank(report: Page, rows: Rows, findings: Findings) -> None:
    report.heading("Blank images")
    for chosen, told in (
        (
            findings.blank,
            f"blank (a standard deviation below {BLANK_DEVIATION:g} grey levels)",
        ),
        (findings.flat, f"of one grey level in {FLAT_SHARE:.0%} of the pixels or more"),
    ):
        found = np.flatnonzero(chosen)
        report.paragraph(f"{len(found):,} images are {told}.")
        if len(found):
            _grid(report, rows, found[:_SHOWN], "Labels, and the file and row")


def _grid(report: Page, rows: Rows, chosen: np.ndarray, caption: str) -> None:
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[row] for row in chosen],
            [f"{_label(rows, row)}\n{_where(rows, row)}" for row in chosen],
            columns=10,
        ),
        caption,
    )


def _sizes(report: Page, sizes: Sequence[FileSizes], image_shape: tuple[int, int, int]) -> None:
    report.heading("Sizes of the files")
    shape = f"{image_shape[1]}x{image_shape[0]}"
    for folder in sizes:
        small = folder.small(image_shape)
        report.paragraph(
            f"{folder.source}: {len(folder.files):,} image files of {_extent(folder)} (width x "
            f"height); all are stretched to {shape}. {folder.odd.sum():,} are of odd size or "
            "shape (4 times larger or smaller than the median, or twice as wide or as narrow); "
            f"{small.sum():,} are smaller than {shape} and enlarged."
        )
        report.figure(
            plots.file_sizes_figure(folder.sizes, folder.odd), f"Sizes of {folder.source}"
        )
        report.table(
            ("colour mode, as Pillow names it", "files"),
            [(mode, f"{count:,}") for mode, count in folder.modes.most_common()],
        )
        if folder.odd.any():
            report.table(
                ("of odd size or shape", "width", "height"),
                [
                    (folder.files[row], *folder.sizes[row])
                    for row in np.flatnonzero(folder.odd)[: _SHOWN // 2]
                ],
            )


def _extent(folder: FileSizes) -> str:
    low, middle, high = (
        "x".join(f"{side:.0f}" for side in sides)
        for sides in (folder.sizes.min(0), np.median(folder.sizes, axis=0), folder.sizes.max(0))
    )
    return low if low == high else f"{low} to {high}, median {middle}"


def _doubts(
    report: Page, rows: Rows, doubts: Doubts, notes: Sequence[str], blank: np.ndarray
) -> None:
    report.heading("Likely wrong labels")
    names, labels = rows.dataset.class_names, rows.dataset.labels
    searched = (rows.trained_on() & ~blank).sum()
    report.paragraph(
        f"{len(doubts):,} of {searched:,} labels are doubted: a classifier that has seen neither "
        "the row nor its copies finds another class at least as probable as it finds that class "
        "in rows labelled so. The first are the least believable."
    )
    report.note(
        "Confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068), by 5-fold "
        "logistic regression on the features of the models. A doubt is a reason to look, not a "
        "verdict: on faces people disagree too."
    )
    for note in notes:
        report.note(note)
    if not len(doubts):
        return
    top = range(min(len(doubts), 50))
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[doubts.rows[place]] for place in top],
            [
                f"{names[labels[doubts.rows[place]]]} {doubts.given[place]:.0%}\n"
                f"{names[doubts.likely[place]]} {doubts.confidence[place]:.0%}"
                for place in top
            ],
            columns=10,
        ),
        "The least believable labels: the label given with its probability, under it the likely "
        "one with its own",
    )
    moves = Counter(zip(labels[doubts.rows].tolist(), doubts.likely.tolist(), strict=True))
    report.table(
        ("given, likely", "rows"),
        [
            (f"{names[given]}, {names[likely]}", f"{count:,}")
            for (given, likely), count in moves.most_common(10)
        ],
    )
    report.table(
        ("row", "given", "likely", "confidence"),
        [
            (
                _where(rows, doubts.rows[place]),
                names[labels[doubts.rows[place]]],
                names[doubts.likely[place]],
                f"{doubts.confidence[place]:.2f}",
            )
            for place in top
        ],
    )


def _differences(report: Page, rows: Rows, comparisons: Sequence[Comparison]) -> None:
    report.heading("How far they differ")
    for comparison in comparisons:
        report.paragraph(_alike_or_not(comparison))
        table = [
            (
                told,
                f"{first:.1f}",
                f"{second:.1f}",
                f"{difference:+.1f} ({low:+.1f} to {high:+.1f})",
                f"{effect:+.2f}",
            )
            for told, (first, second, difference, low, high, effect) in (
                ("brightness (mean)", comparison.brightness),
                ("contrast (SD)", comparison.contrast),
            )
        ]
        report.table(
            (
                "grey levels",
                comparison.first,
                comparison.second,
                "difference (95%)",
                "Cohen's d",
            ),
            table,
        )
        if comparison.first_shares is not None and comparison.second_shares is not None:
            report.table(
                ("class", comparison.first, comparison.second, "difference in points"),
                [
                    (name, f"{first:.1%}", f"{second:.1%}", f"{100 * (second - first):+.1f}")
                    for name, first, second in zip(
                        rows.dataset.class_names,
                        comparison.first_shares,
                        comparison.second_shares,
                        strict=True,
                    )
                ],
            )
    report.note(
        "A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545): "
        "cross-validated logistic regression on thumbnails guesses which of the two an image is "
        f"from. Brightness is an image's mean, contrast its standard deviation; the table has the "
        "averages over images. Cohen's d is their difference in standard deviations between "
        "images: 0.2 is small, 0.8 large. All of this is of at most "
        f"{SAMPLE:,} images of each."
    )


def _alike_or_not(comparison: Comparison) -> str:
    """How far two parts differ, in a sentence or two."""
    told = f"{comparison.first} and {comparison.second}: "
    if comparison.auc is None:
        told += "too few images to tell how alike they are."
    else:
        value, low, high, n = comparison.auc
        strength = (
            "cannot be told apart"
            if low <= 0.5
            else "can hardly be told apart"
            if value < 0.6
            else "differ somewhat"
            if value < 0.75
            else "differ clearly"
        )
        told += (
            f"the images {strength} (AUC {value:.3f}, 95% interval {low:.3f} to {high:.3f}, "
            f"n={n:,}; 0.5 where they are alike)."
        )
    if comparison.first_shares is not None and comparison.second_shares is not None:
        largest = np.abs(comparison.second_shares - comparison.first_shares).max()
        told += f" Shares of classes differ by {100 * largest:.1f} points at most."
    return told


def _removed(report: Page, removed: Sequence[Removal], cleaned: str | None) -> None:
    report.heading("Cleaned copy")
    if cleaned:
        told = f"{len(removed):,} rows are left out of {cleaned}; its removed.csv lists them."
    else:
        told = f"--clean would leave out {len(removed):,} rows."
    report.paragraph(told + " Only labelled rows to train on are ever left out.")
    counts = Counter(removal.reason for removal in removed)
    if counts:
        report.table(
            ("reason", "rows"),
            [
                (f"{reason}: {told}", f"{counts[reason]:,}")
                for reason, told in REASONS.items()
                if counts[reason]
            ],
        )


def _labels(rows: Rows, places: np.ndarray) -> np.ndarray:
    labels = rows.dataset.labels[places]
    return labels[labels != UNLABELLED]


def _counted(rows: Rows, labels: np.ndarray) -> tuple[tuple[str, ...], list[int]]:
    names = rows.dataset.class_names
    return names, np.bincount(labels, minlength=len(names)).tolist()


def _label(rows: Rows, row: int) -> str:
    label = rows.dataset.labels[row]
    return "no label" if label == UNLABELLED else rows.dataset.class_names[label]


def _where(rows: Rows, row: int) -> str:
    """'1:17' is row 17 of the first of the files or usages."""
    for number, part in enumerate(rows.parts, start=1):
        found = np.searchsorted(part.rows, row)
        if found < len(part.rows) and part.rows[found] == row:
            return f"{number}:{part.places[found] + 1}"
    raise AssertionError(row)
