"""The card of a shipped model: its facts in words, by one template for all."""

import json

_ABOUT = {
    "FER-2013": {
        "use": [
            "For research and teaching: a baseline, a member of a vote, a start for other data, "
            "something to look into.",
            "It names one of seven basic emotions that people saw in a face, which is not what the "
            "person feels.",
        ],
        "limits": [
            "Not for judging people: not in hiring, schools, policing, medicine or advertising, "
            "and not for watching anybody.",
            "FER-2013 holds faces of the web of 2013, found by searching for words of emotion: "
            "many are posed, many are of actors, all are grey and 48 pixels a side. Who is in it "
            "is not known, so neither is how well the model does for people of an age, sex or "
            "skin that it has few of.",
            "Its labels are noisy; people who labelled it again were right in about 65% (65 ± 5, "
            "Goodfellow et al. 2013).",
            "Seven classes leave most of what faces say out. Disgust is rare in it, so what is "
            "measured for it is unsure.",
            "The same photographs come in training and test rows, recompressed or mirrored; they "
            "are counted below.",
        ],
        "licence": "FER-2013 was made for a research contest (Goodfellow et al. 2013, "
        "arXiv:1307.0414) and is given for research; its photographs belong to their owners. Take "
        "these weights for research too.",
    }
}
_OTHER = {
    "use": ["For faces like those that it was trained on."],
    "limits": [
        "Not for judging people.",
        "It knows the classes above and no others, and was measured on the rows above alone.",
    ],
    "licence": "It was trained on data of its maker's own; whoever passes it on has to know "
    "whether they may.",
}


def card(facts: dict) -> str:
    """Markdown, from what `pretrained/NAME.json` holds and nothing else."""
    name, about = facts["name"], _ABOUT.get(facts["data"]["name"], _OTHER)
    height, width, channels = facts["image_shape"]
    public = facts["scores"].get("public")
    lines = [
        f"# {name}",
        "",
        f"`pretrained:{name}` wherever ferlab takes a model file. It takes grey levels 0 to 255 of "
        f"{height}x{width}x{channels} and tells {len(facts['class_names'])} classes apart: "
        f"{', '.join(facts['class_names'])}. {facts['parameters']:,} parameters, "
        f"{facts['multiply_adds']:,} multiply-adds an image, {facts['bytes'] / 1e6:.2f} MB.",
        "",
        "Written by `python -m ferlab pack`; the same facts are in "
        f"[{name}.json]({name}.json), whose SHA-256 of `{facts['file']}` is checked at each use:",
        f"`{facts['sha256']}`",
        "",
        "## Use",
        *_list(about["use"]),
        "",
        "## Limits",
        *_list(about["limits"]),
        "",
        "## Scores",
        "Intervals are of 95% and say what other rows might have shown, not what another seed "
        "might.",
        "",
        *_scores(
            "Validation rows, set apart from those it was trained on", facts["scores"]["validation"]
        ),
    ]
    if public:
        title = "Held-out rows, which neither training nor temperature saw"
        lines += ["", *_scores(title, public)]
    lines += ["", "## Calibration", *_calibration(facts), "", "## Training", *_training(facts)]
    lines += ["", "## Licence", about["licence"], ""]
    return "\n".join(lines)


def _list(entries: list[str]) -> list[str]:
    return [f"- {entry}" for entry in entries]


def _scores(title: str, scores: dict) -> list[str]:
    accuracy = scores["accuracy"]
    without, copies = scores["accuracy_without_copies"], scores["copies_of_training_rows"]
    lines = [
        f"### {title}",
        f"Of `{scores['source']}`. Accuracy **{_percent(accuracy)}, n={accuracy['n']:,}**; "
        f"balanced accuracy {_percent(scores['balanced_accuracy'])}; macro F1 "
        f"{_percent(scores['macro_f1'])}; cross-entropy {scores['loss']:.3f} nats.",
        "",
        f"{copies:,} of these rows show what a training row shows (correlation of 0.95 or more); "
        + (
            f"without them accuracy is {_percent(without)}, n={without['n']:,}."
            if without
            else "none is left without them."
        ),
        "",
        "| class | rows | recall | precision | F1 |",
        "|---|---|---|---|---|",
    ]
    for name, one in scores["classes"].items():
        measured = " | ".join(_percent(one[key]) for key in ("recall", "precision", "f1"))
        lines.append(f"| {name} | {one['rows']:,} | {measured} |")
    return lines


def _calibration(facts: dict) -> list[str]:
    part = "public" if facts["scores"].get("public") else "validation"
    scores = facts["scores"][part]
    before, after = (
        f"{error['value']:.3f} ({error['low']:.3f} to {error['high']:.3f})"
        for error in (scores["calibration_error"], scores["calibration_error_at_temperature"])
    )
    where = f"`{scores['source']}`, n={scores['accuracy']['n']:,}, 15 bins"
    note = "" if part == "public" else " It was found on these rows, so they flatter it."
    return [
        f"Expected calibration error {before} as it comes, {after} at its temperature of "
        f"{facts['temperature']:.3f}, found on the validation rows ({where}).{note} "
        "`test.py --probabilities` divides by it."
    ]


def _training(facts: dict) -> list[str]:
    told, half, versions = facts["data"], facts["float16"], facts["versions"]
    recipe = {key: value for key, value in facts["recipe"].items() if key != "name"}
    known = f" ({told['name']})" if told["name"] else ""
    return [
        f"- data: `{told['source']}`{known}, {told['rows']:,} rows; SHA-256 of their pixels, "
        f"labels and class names `{told['fingerprint']}`",
        f"- command: `{facts['command']}`",
        f"- again, and compared with the numbers above: `{facts['reproduce']}`",
        f"- recipe: `{facts['recipe']['name']}`, `{json.dumps(recipe)}`",
        f"- seed: {facts['seed']}",
        "- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"- float16: its kernels are stored so, and changed {half['changed_predictions']:,} of "
        f"{half['rows']:,} predictions ({half['right_before']:,} were right before, "
        f"{half['right_after']:,} are now); in memory they are float32",
    ]


def _percent(measure: dict | None) -> str:
    if measure is None:
        return "\N{EN DASH}"
    low, high = 100 * measure["low"], 100 * measure["high"]
    return f"{measure['value']:.2%} ({low:.2f} to {high:.2f})"
