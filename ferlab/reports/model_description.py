"""A checkpoint in lines of text: its training record, layers and cost, pixels and classes."""

from collections.abc import Sequence

from ferlab import checkpoints
from ferlab.checkpoints import Checkpoint
from ferlab.data import Dataset
from ferlab.evaluation import conventions, costs
from ferlab.evaluation.conventions import Convention


def facts_lines(checkpoint: Checkpoint) -> list[str]:
    """Origin, shapes, size and training, one fact per line, without unknown ones."""
    record, model = checkpoint.record, checkpoint.model
    training_rows = checkpoints.read_training_rows(checkpoint.path)
    accuracies = record.history.get("val_accuracy") or []
    names = ", ".join(checkpoint.class_names) if checkpoint.class_names else "not recorded"
    pixels = f"{checkpoint.pixels} ({checkpoints.PIXEL_SCALES[checkpoint.pixels]})"
    if checkpoint.pixels_assumed:
        pixels = f"unknown, taken as {pixels}; --data with labelled images finds it"
    elif record.pixels is None:
        pixels = f"not recorded; taken as {pixels}, which the layers imply"
    height, width, channels = checkpoint.image_shape
    multiply_adds = costs.multiply_adds(checkpoint.sized_model())
    facts = {
        "written by": checkpoint.vintage,
        "images": f"{height}x{width}x{channels}",
        "pixels": pixels,
        "classes": f"{checkpoint.num_classes}: {names}",
        "parameters": f"{model.count_params():,}",
        "multiply-adds": f"{multiply_adds:,} per image",
        "recipe": record.recipe.get("name"),
        "epochs": record.epochs or None,
        "validation": f"accuracy {accuracies[-1]:.4f}" if accuracies else None,
        "seed": record.seed,
        "trained on": training_rows is not None and f"{len(training_rows):,} rows, recorded",
        "temperature": checkpoint.temperature and f"{checkpoint.temperature:.3f}",
        "resumed from": record.resumed_from,
        "created": record.created,
        "git commit": record.git_commit,
        "record": "none: not written by ferlab" if record.is_empty else None,
    }
    return [
        f"{name:<14} {value}" for name, value in facts.items() if value not in (None, False, "")
    ]


def layer_lines(checkpoint: Checkpoint) -> list[str]:
    """A table of the layers, with their output shapes, parameters and multiply-adds."""
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    rows += [
        (
            cost.name,
            cost.kind,
            "x".join(str(side or "?") for side in cost.output_shape),
            f"{cost.parameters:,}",
            f"{cost.multiply_adds:,}",
        )
        for cost in costs.layer_costs(checkpoint.sized_model())
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {output:<{widths[2]}}  "
        f"{parameters:>{widths[3]}}  {multiply_adds:>{widths[4]}}"
        for name, kind, output, parameters, multiply_adds in rows
    ]


def convention_lines(checkpoint: Checkpoint, dataset: Dataset, batch_size: int) -> list[str]:
    """The accuracy by pixel scale and class order, and the flags of the most likely ones."""
    if checkpoint.num_classes != dataset.num_classes:
        return [
            f"cannot be scored: it has {checkpoint.num_classes} outputs, {dataset.source} has "
            f"{dataset.num_classes} classes ({', '.join(dataset.class_names)})",
        ]
    results = conventions.try_all(checkpoint, dataset, batch_size=batch_size)
    lines = [
        f"accuracy on {len(dataset):,} rows of {dataset.source}, % by pixels and order",
        *_accuracy_table(results, len(dataset)),
    ]
    likely = conventions.most_likely(results, dataset.labels)
    if likely is None:
        share = conventions.most_frequent(dataset.labels)
        return [
            *lines,
            f"no better than always predicting the most frequent class ({share:.2%})",
        ]
    convention, accuracy = likely
    names = ",".join(convention.class_names)
    lines += [
        f"most likely    pixels {convention.pixels}, classes in the order of {convention.order}: "
        f"{accuracy}",
        f"               --pixels {convention.pixels} --class-names {names}",
    ]
    if _contradicts(checkpoint, convention):
        lines.append("               which contradicts the file's training record")
    return lines


def _accuracy_table(results: Sequence[Convention], n: int) -> list[str]:
    orders = dict.fromkeys(result.order for result in results)
    lines = [f"{'':<14}" + "".join(f"{order:>14}" for order in orders)]
    for pixels in dict.fromkeys(result.pixels for result in results):
        shares = [result.correct / n for result in results if result.pixels == pixels]
        lines.append(f"{pixels:<14}" + "".join(f"{share:>14.2%}" for share in shares))
    return lines


def _contradicts(checkpoint: Checkpoint, convention: Convention) -> bool:
    record = checkpoint.record
    is_other_scale = record.pixels not in (None, convention.pixels)
    return is_other_scale or record.class_names not in (None, convention.class_names)
