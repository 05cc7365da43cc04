"""The page and the printed summary of `check`: the results of an audit."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ferlab import plots
from ferlab.audit.checks import (
    BLANK_DEVIATION,
    FLAT_FRACTION,
    FileSizes,
    Findings,
    copies_between,
)
from ferlab.audit.cleaning import REASONS, Removal
from ferlab.audit.distribution_shift import SAMPLE, Comparison
from ferlab.audit.label_errors import LabelSearch
from ferlab.audit.rows import Rows
from ferlab.data.dataset import describe
from ferlab.evaluation import metrics
from ferlab.labels import UNLABELLED
from ferlab.reports.page import Page

EXAMPLES = 100  # images in the first figure
_MAX_IMAGES = 40  # images in each of the other figures of single images
_MAX_ISSUES = 50  # label issues in the figure and the table
_IMAGES_OF_A_GROUP = 3
_LEVELS = (0.999, 0.99, 0.98, 0.95)


@dataclasses.dataclass(frozen=True)
class Audit:
    """The results of `check`.

    sizes: sizes of the image files of each folder
    similarity: minimum correlation of two copies
    removed: the rows that a cleaned copy leaves out; cleaned: its folder, if it was written
    label_search: None without models
    trained_rows: for each model's path, how many of the searched rows it was trained on, or None
        if unknown
    """

    rows: Rows
    findings: Findings
    sizes: Sequence[FileSizes]
    similarity: float
    removed: Sequence[Removal] = ()
    cleaned: str | None = None
    label_search: LabelSearch | None = None
    trained_rows: Mapping[str, int | None] = dataclasses.field(default_factory=dict)


def page(audit: Audit) -> Page:
    """The whole report."""
    dataset = audit.rows.dataset
    shape = describe(dataset.image_shape)
    report = Page("Data report", f"{len(dataset):,} images of {shape} (height, width, channels)")
    _classes(report, audit.rows)
    _examples(report, audit.rows)
    _copies(report, audit)
    _conflicts(report, audit.rows, audit.findings)
    _blank(report, audit.rows, audit.findings)
    if audit.sizes:
        _sizes(report, audit.sizes, dataset.image_shape)
    if audit.label_search is not None:
        notes = _label_notes(audit.label_search, audit.trained_rows)
        _label_issues(report, audit.rows, audit.label_search, notes)
    if len(audit.rows.parts) > 1:
        _differences(report, audit.rows, audit.findings.comparisons)
    _cleaned(report, audit.removed, audit.cleaned)
    return report


def summary(audit: Audit) -> list[str]:
    """The findings in a few lines, to print."""
    rows, findings = audit.rows, audit.findings
    lines = [_part_line(rows, part.name, part.rows) for part in rows.parts]
    copies, between = findings.copies, copies_between(rows, findings.groups)
    lines.append(
        f"copies: {len(copies):,} without the first of each group ({_kinds_of_copies(findings)}; "
        f"correlation {audit.similarity} or more)"
    )
    for one, first in enumerate(rows.parts):
        for other, second in enumerate(rows.parts):
            if other != one and between[one, other]:
                lines.append(
                    f"  {between[one, other]:,} images of {first.name} have a copy in {second.name}"
                )
    lines.append(
        f"contradictory labels: {len(findings.conflicts):,} groups of copies, "
        f"{sum(map(len, findings.conflicts)):,} images"
    )
    lines.append(
        f"blank: {findings.blank.sum():,} images; mostly one grey level: {findings.flat.sum():,}"
    )
    for folder in audit.sizes:
        small = folder.small(rows.dataset.image_shape)
        lines.append(
            f"{folder.source}: {len(folder.files):,} files of {_extent(folder)}; "
            f"{folder.odd.sum():,} of odd size or shape, {small.sum():,} enlarged; "
            + ", ".join(f"{mode} {count:,}" for mode, count in folder.modes.most_common())
        )
    return lines + [_difference_sentence(comparison) for comparison in findings.comparisons]


def label_summary(search: LabelSearch, trained_rows: Mapping[str, int | None]) -> list[str]:
    """The result of a search for wrong labels in a few lines, to print; as in `Audit`."""
    notes = _label_notes(search, trained_rows)
    return [f"likely wrong labels: {len(search.issues):,}", *(f"note: {note}" for note in notes)]


def _label_notes(search: LabelSearch, trained_rows: Mapping[str, int | None]) -> list[str]:
    """Notes on the reliability of the search for wrong labels."""
    agreement = metrics.proportion(search.agreeing, search.searched)
    notes = [f"The classifier predicts the given label for {agreement} of the rows."]
    if not search.is_informative:
        notes.append(
            "This is no better than always predicting the most frequent class "
            f"({search.baseline:.2%}), so its label issues would be meaningless and none are shown."
        )
    for path, count in trained_rows.items():
        if count == 0:
            continue
        trained = (
            "the rows it was trained on are unknown; if these are among them,"
            if count is None
            else f"was trained on {count:,} of these rows, so"
        )
        notes.append(
            f"{path}: {trained} its features reflect their labels, and wrong ones are harder to "
            "find"
        )
    return notes


def _part_line(rows: Rows, name: str, part_rows: np.ndarray) -> str:
    labels = _labels(rows, part_rows)
    class_names = rows.dataset.class_names
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    classes = ", ".join(f"{name} {n:,}" for name, n in zip(class_names, counts, strict=True))
    return f"{name}: {len(part_rows):,} images; {classes if len(labels) else 'without labels'}"


def _kinds_of_copies(findings: Findings) -> str:
    copies = findings.copies
    near = ~copies.exact & ~copies.mirrored
    return f"{copies.exact.sum():,} exact, {near.sum():,} near, {copies.mirrored.sum():,} mirrored"


def _classes(report: Page, rows: Rows) -> None:
    report.heading("Classes")
    names = rows.dataset.class_names
    labelled = {part.name: _labels(rows, part.rows) for part in rows.parts}
    report.table(
        ("rows", "images", "labelled", "training data"),
        [
            (
                f"{number}: {part.name}",
                f"{len(part.rows):,}",
                f"{len(labelled[part.name]):,}",
                "yes" if part.is_training else "no",
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
        report.paragraph(f"{name}: {_imbalance(count, names)}")


def _imbalance(count: np.ndarray, names: Sequence[str]) -> str:
    """The most and the least frequent class. count: int (num_classes,)."""
    most, least = int(count.argmax()), int(count.argmin())
    if count[most] == count[least]:
        return (
            f"all classes have {count[most]:,} images. Always predicting one of them has an "
            f"accuracy of {count[most] / count.sum():.1%}."
        )
    text = f"the most frequent class is {names[most]} ({count[most]:,} images"
    if count[least]:
        ratio = count[most] / count[least]
        text += f"; {ratio:.1f} times as many as {names[least]}, the rarest, with {count[least]:,}"
    text += f"). Always predicting it has an accuracy of {count[most] / count.sum():.1%}."
    empty = [name for name, n in zip(names, count, strict=True) if n == 0]
    return text + (f" Classes without images: {', '.join(empty)}." if empty else "")


def _examples(report: Page, rows: Rows) -> None:
    report.heading("Examples")
    examples = _balanced_sample(rows)
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[row] for row in examples],
            [_label(rows, row) for row in examples],
            columns=10,
        ),
        f"{len(examples)} random images, the same number of each class where possible, with their "
        "labels",
    )


def _balanced_sample(rows: Rows) -> list[int]:
    """EXAMPLES rows of the first part with labels, else of all; balanced by class if possible."""
    labels = rows.dataset.labels
    labelled = [part.rows for part in rows.parts if (labels[part.rows] != UNLABELLED).any()]
    pool = labelled[0] if labelled else np.arange(len(labels))
    shuffled = np.random.default_rng(0).permutation(pool)
    rank = np.empty(len(shuffled), dtype=np.int64)  # position among the rows of the same class
    for label in np.unique(labels[shuffled]):
        of_label = labels[shuffled] == label
        rank[of_label] = np.arange(of_label.sum())
    sample = shuffled[np.lexsort((labels[shuffled], rank))][:EXAMPLES]
    return sample[np.argsort(labels[sample], kind="stable")].tolist()


def _copies(report: Page, audit: Audit) -> None:
    report.heading("Copies")
    rows, findings, similarity = audit.rows, audit.findings, audit.similarity
    copies = findings.copies
    report.paragraph(
        f"{len(copies):,} images are copies of an earlier one: {_kinds_of_copies(findings)}. "
        "Every image was compared with every other, upright and mirrored; blank images were not "
        "compared."
    )
    report.note(
        f"Two images are near copies if the correlation of their pixels is {similarity} or more. "
        "Changes of brightness and contrast do not lower it, and recompression hardly does. In "
        "FER-2013, pairs above 0.95 show the same photograph, sometimes cropped differently; pairs "
        "of different faces begin at about 0.92. Drawings with large plain areas may require a "
        "higher threshold (--similarity)."
    )
    if not len(copies):
        return
    report.table(
        ("minimum correlation", "copies"),
        [
            (f"{level:g}", f"{(copies.correlation >= level).sum():,}")
            for level in sorted({similarity, *_LEVELS}, reverse=True)
            if level >= similarity
        ],
    )
    between = copies_between(rows, findings.groups)
    names = [part.name for part in rows.parts]
    report.table(
        ("images of", *(f"with a copy in {name}" for name in names)),
        [
            (name, *(f"{count:,}" for count in line))
            for name, line in zip(names, between.tolist(), strict=True)
        ],
    )
    report.note("On the diagonal: copies within the part, without the first image of each group.")
    _copy_figures(report, rows, findings)


def _copy_figures(report: Page, rows: Rows, findings: Findings) -> None:
    copies, numbers = findings.copies, rows.part_numbers()
    across = numbers[copies.first] != numbers[copies.second]
    near = ~copies.exact & ~copies.mirrored
    for title, mask in (
        ("Copies between files or usages", across),
        ("Near copies within a file or usage", ~across & near),
        ("Mirrored copies", copies.mirrored),
    ):
        if mask.any():
            _pairs(report, rows, findings, np.flatnonzero(mask), title)


def _pairs(report: Page, rows: Rows, findings: Findings, pairs: np.ndarray, title: str) -> None:
    """Pairs of copies, evenly sampled by their correlation."""
    copies = findings.copies
    pairs = pairs[np.argsort(-copies.correlation[pairs], kind="stable")]
    if len(pairs) > _MAX_IMAGES // 2:
        pairs = pairs[np.linspace(0, len(pairs) - 1, _MAX_IMAGES // 2).round().astype(int)]
    ends = [(copies.first[pair], copies.second[pair]) for pair in pairs]
    report.figure(
        plots.image_grid_figure(
            [plots.side_by_side(list(rows.dataset.images[list(end)])) for end in ends],
            [
                f"{_label(rows, first)}, {_label(rows, second)}; {copies.correlation[pair]:.3f}\n"
                f"{_location(rows, first)}\n{_location(rows, second)}"
                for pair, (first, second) in zip(pairs, ends, strict=True)
            ],
            columns=5,
        ),
        f"{title}, by falling similarity: the two labels and the correlation; below, the number of "
        "the source (of the first table) and the row or the image file of each",
    )


def _conflicts(report: Page, rows: Rows, findings: Findings) -> None:
    report.heading("Contradictory labels")
    groups = findings.conflicts
    count = sum(map(len, groups))
    report.paragraph(
        f"{len(groups):,} groups of copies, {count:,} images, have contradictory labels. Labels "
        "reserved for the final score are ignored."
    )
    if not groups:
        return
    cells, captions = [], []
    for group in groups[:_MAX_IMAGES]:
        labels = rows.dataset.labels[group]
        first_of_each = np.unique(labels, return_index=True)[1]
        order = list(dict.fromkeys([*first_of_each, *range(len(group))]))[:_IMAGES_OF_A_GROUP]
        cells.append(plots.side_by_side([rows.dataset.images[row] for row in group[order]]))
        counts = Counter(rows.dataset.class_names[label] for label in labels)
        captions.append(", ".join(f"{name} {n}" for name, n in counts.most_common()))
    report.figure(
        plots.image_grid_figure(cells, captions, columns=1000 // (100 * _images_in_widest(cells))),
        f"{len(cells)} of the groups, largest first, up to {_IMAGES_OF_A_GROUP} images of each; "
        "below, the number of images with each label",
    )


def _images_in_widest(cells: Sequence[np.ndarray]) -> int:
    return max(-(-cell.shape[1] // (cell.shape[0] + 1)) for cell in cells)


def _blank(report: Page, rows: Rows, findings: Findings) -> None:
    report.heading("Blank images")
    for mask, description in (
        (
            findings.blank,
            f"blank (standard deviation below {BLANK_DEVIATION:g} grey levels)",
        ),
        (findings.flat, f"mostly one grey level ({FLAT_FRACTION:.0%} of the pixels or more)"),
    ):
        images = np.flatnonzero(mask)
        report.paragraph(f"{len(images):,} images are {description}.")
        if len(images):
            _grid(report, rows, images[:_MAX_IMAGES], "Label; below, source and row or file")


def _grid(report: Page, rows: Rows, images: np.ndarray, caption: str) -> None:
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[row] for row in images],
            [f"{_label(rows, row)}\n{_location(rows, row)}" for row in images],
            columns=10,
        ),
        caption,
    )


def _sizes(report: Page, sizes: Sequence[FileSizes], image_shape: tuple[int, int, int]) -> None:
    report.heading("File sizes")
    shape = f"{image_shape[1]}x{image_shape[0]}"
    for folder in sizes:
        small = folder.small(image_shape)
        report.paragraph(
            f"{folder.source}: {len(folder.files):,} image files of {_extent(folder)} (width x "
            f"height), all resized to {shape}. {folder.odd.sum():,} have an odd size or shape "
            "(more than 4 times larger or smaller than the median, or an aspect ratio more than "
            f"twice or less than half the median); {small.sum():,} are smaller than {shape} and "
            "are enlarged."
        )
        report.figure(
            plots.file_sizes_figure(folder.sizes, folder.odd), f"File sizes of {folder.source}"
        )
        report.table(
            ("colour mode (Pillow)", "files"),
            [(mode, f"{count:,}") for mode, count in folder.modes.most_common()],
        )
        if folder.odd.any():
            report.table(
                ("odd size or shape", "width", "height"),
                [
                    (folder.files[row], *folder.sizes[row])
                    for row in np.flatnonzero(folder.odd)[: _MAX_IMAGES // 2]
                ],
            )


def _extent(folder: FileSizes) -> str:
    low, middle, high = (
        "x".join(f"{side:.0f}" for side in sides)
        for sides in (folder.sizes.min(0), np.median(folder.sizes, axis=0), folder.sizes.max(0))
    )
    return low if low == high else f"{low} to {high}, median {middle}"


def _label_issues(report: Page, rows: Rows, search: LabelSearch, notes: Sequence[str]) -> None:
    report.heading("Likely wrong labels")
    report.paragraph(
        f"{len(search.issues):,} of {search.searched:,} labels are likely wrong: a classifier that "
        "was trained on neither the row nor its copies gives another class at least the "
        "probability that it gives this class, on average, in rows labelled with it. The most "
        "likely errors come first."
    )
    report.note(
        "Confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068) with 5-fold "
        "logistic regression on the models' features. An issue is a reason to look at a label, not "
        "a proof that it is wrong: people disagree about faces too."
    )
    for note in notes:
        report.note(note)
    if len(search.issues):
        _issue_figure(report, rows, search)
        _issue_tables(report, rows, search)


def _issue_figure(report: Page, rows: Rows, search: LabelSearch) -> None:
    issues, names, labels = search.issues, rows.dataset.class_names, rows.dataset.labels
    top = range(min(len(issues), _MAX_ISSUES))
    report.figure(
        plots.image_grid_figure(
            [rows.dataset.images[issues.rows[place]] for place in top],
            [
                f"{names[labels[issues.rows[place]]]} {issues.given_probability[place]:.0%}\n"
                f"{names[issues.suggested[place]]} {issues.suggested_probability[place]:.0%}"
                for place in top
            ],
            columns=10,
        ),
        "The labels most likely to be wrong: the given label with its probability; below, the "
        "suggested one",
    )


def _issue_tables(report: Page, rows: Rows, search: LabelSearch) -> None:
    issues, names, labels = search.issues, rows.dataset.class_names, rows.dataset.labels
    pairs = Counter(zip(labels[issues.rows].tolist(), issues.suggested.tolist(), strict=True))
    report.table(
        ("given, suggested", "rows"),
        [
            (f"{names[given]}, {names[suggested]}", f"{count:,}")
            for (given, suggested), count in pairs.most_common(10)
        ],
    )
    report.table(
        ("row", "given", "suggested", "probability"),
        [
            (
                _location(rows, issues.rows[place]),
                names[labels[issues.rows[place]]],
                names[issues.suggested[place]],
                f"{issues.suggested_probability[place]:.2f}",
            )
            for place in range(min(len(issues), _MAX_ISSUES))
        ],
    )


def _differences(report: Page, rows: Rows, comparisons: Sequence[Comparison]) -> None:
    report.heading("Differences between files and usages")
    for comparison in comparisons:
        report.paragraph(_difference_sentence(comparison))
        report.table(
            ("grey levels", comparison.first, comparison.second, "difference (95%)", "Cohen's d"),
            [
                (
                    name,
                    f"{value.first:.1f}",
                    f"{value.second:.1f}",
                    f"{value.difference:+.1f} ({value.low:+.1f} to {value.high:+.1f})",
                    f"{value.effect:+.2f}",
                )
                for name, value in (
                    ("brightness (mean)", comparison.brightness),
                    ("contrast (SD)", comparison.contrast),
                )
            ],
        )
        if comparison.first_shares is not None and comparison.second_shares is not None:
            shares = zip(
                rows.dataset.class_names,
                comparison.first_shares,
                comparison.second_shares,
                strict=True,
            )
            report.table(
                ("class", comparison.first, comparison.second, "difference in points"),
                [
                    (name, f"{first:.1%}", f"{second:.1%}", f"{100 * (second - first):+.1f}")
                    for name, first, second in shares
                ],
            )
    report.note(
        "AUC: a classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545), in which "
        "a cross-validated logistic regression on thumbnails predicts which of the two an image "
        "comes from. Brightness is the mean of an image, contrast its standard deviation; the "
        "table shows their averages over images. Cohen's d is the difference divided by the "
        "standard deviation between images: 0.2 is small, 0.8 is large. All of this is based on "
        f"up to {SAMPLE:,} images of each."
    )


def _difference_sentence(comparison: Comparison) -> str:
    """How much two parts differ, in one or two sentences."""
    text = f"{comparison.first} and {comparison.second}: "
    if comparison.auc is None:
        text += "too few images to compare."
    else:
        auc = comparison.auc
        verdict = (
            "are indistinguishable"
            if auc.low <= 0.5
            else "are hardly distinguishable"
            if auc.value < 0.6
            else "differ somewhat"
            if auc.value < 0.75
            else "differ clearly"
        )
        text += (
            f"the images {verdict} (AUC {auc.value:.3f}, 95% interval {auc.low:.3f} to "
            f"{auc.high:.3f}, n={auc.n:,}; 0.5: no difference)."
        )
    if comparison.first_shares is not None and comparison.second_shares is not None:
        largest = np.abs(comparison.second_shares - comparison.first_shares).max()
        text += f" Class shares differ by at most {100 * largest:.1f} points."
    return text


def _cleaned(report: Page, removed: Sequence[Removal], folder: str | None) -> None:
    report.heading("Cleaned copy")
    if folder:
        text = f"{len(removed):,} rows were left out of {folder}; its removed.csv lists them."
    else:
        text = f"--clean would leave out {len(removed):,} rows."
    report.paragraph(text + " Only labelled training rows are ever left out.")
    counts = Counter(removal.reason for removal in removed)
    if counts:
        report.table(
            ("reason", "rows"),
            [
                (f"{reason}: {description}", f"{counts[reason]:,}")
                for reason, description in REASONS.items()
                if counts[reason]
            ],
        )


def _labels(rows: Rows, part_rows: np.ndarray) -> np.ndarray:
    """The labels of some rows, without the missing ones."""
    labels = rows.dataset.labels[part_rows]
    return labels[labels != UNLABELLED]


def _label(rows: Rows, row: int) -> str:
    label = rows.dataset.labels[row]
    return "no label" if label == UNLABELLED else rows.dataset.class_names[label]


def _location(rows: Rows, row: int) -> str:
    """'1:17' is row 17 of the first source or usage; of a folder, '1:happy/17' is a file."""
    for number, part in enumerate(rows.parts, start=1):
        place = np.searchsorted(part.rows, row)
        if place < len(part.rows) and part.rows[place] == row:
            if Path(part.source).is_dir():
                return f"{number}:{rows.dataset.ids[row]}"
            return f"{number}:{part.file_rows[place] + 1}"
    raise AssertionError(row)
