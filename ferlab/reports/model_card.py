"""The card of a shipped model: its facts as text, from one template."""

import json

from ferlab.reports.page import PEOPLE, UNDEFINED

_ABOUT = {
    "FER-2013": {
        "use": [
            "For research and teaching: as a baseline, a member of a vote, a starting point for "
            "other data, or an object of study.",
            "It predicts one of seven basic emotions that people saw in a face.",
        ],
        "limits": [
            "Not for judging people: not in hiring, education, policing, medicine or advertising, "
            "and not for surveillance.",
            "FER-2013 contains faces from the web of 2013, found by searching for emotion words: "
            "many are posed, many are of actors, and all are grey and 48 pixels a side. The people "
            "in it are unknown, and so is the model's accuracy for people of an age, sex or skin "
            "colour that is rare in it.",
            "Its labels are noisy: the accuracy of people who labelled it again was about 65% "
            "(65 \u00b1 5, Goodfellow et al. 2013).",
            "Seven classes leave out most of what faces express. Disgust is rare, so its scores "
            "are uncertain.",
            "Some photographs occur in both training and test rows, recompressed or mirrored; they "
            "are counted below.",
        ],
        "licence": "FER-2013 was made for a research contest (Goodfellow et al. 2013, "
        "arXiv:1307.0414) and is available for research; its photographs belong to their owners. "
        "Use these weights for research only, too.",
    }
}
_OTHER = {
    "use": ["For faces like those that it was trained on."],
    "limits": [
        "Not for judging people.",
        "It knows only the classes above, and was evaluated only on the rows below.",
    ],
    "licence": "It was trained on its author's own data, which may restrict its distribution.",
}


def card(facts: dict) -> str:
    """The card as Markdown, from the contents of `pretrained/NAME.json`."""
    name, about = facts["name"], _ABOUT.get(facts["data"]["name"], _OTHER)
    public = facts["scores"].get("public")
    shape = "x".join(map(str, facts["image_shape"]))
    lines = [
        f"# {name}",
        "",
        f"`pretrained:{name}` can be used wherever ferlab takes a model file. Input: grey levels "
        f"from 0 to 255, {shape}. Output: the probabilities of {len(facts['class_names'])} "
        f"classes: {', '.join(facts['class_names'])}. {facts['parameters']:,} parameters, "
        f"{facts['multiply_adds']:,} multiply-adds per image, {facts['bytes'] / 1e6:.2f} MB.",
        "",
        f"Written by `python -m ferlab pack` from [{name}.json]({name}.json). The SHA-256 of "
        f"`{facts['file']}` is checked at each use:",
        f"`{facts['sha256']}`",
        "",
        "## Use",
        *_list(about["use"]),
        "",
        "## Limits",
        *_list([*about["limits"], *PEOPLE]),
        "",
        "## Scores",
        "Intervals are 95% intervals. They show the uncertainty from the sample of rows, not from "
        "the training seed.",
        "",
        *_scores("Validation rows, not used for training", facts["scores"]["validation"]),
    ]
    if public:
        title = "Held-out rows, used neither for training nor for the temperature"
        lines += ["", *_scores(title, public)]
    lines += ["", "## Calibration", *_calibration(facts), "", "## Training", *_training(facts)]
    lines += ["", "## Licence", about["licence"], ""]
    return "\n".join(lines)


def _list(entries: list[str]) -> list[str]:
    return [f"- {entry}" for entry in entries]


def _scores(title: str, scores: dict) -> list[str]:
    accuracy, without_copies = scores["accuracy"], scores["accuracy_without_copies"]
    rest = "no other rows remain"
    if without_copies:
        rest = f"without them, accuracy is {_percent(without_copies)}, n={without_copies['n']:,}"
    lines = [
        f"### {title}",
        f"Rows of `{scores['source']}`. Accuracy **{_percent(accuracy)}, n={accuracy['n']:,}**; "
        f"balanced accuracy {_percent(scores['balanced_accuracy'])}; macro F1 "
        f"{_percent(scores['macro_f1'])}; cross-entropy {scores['loss']:.3f} nats.",
        "",
        f"{scores['copies_of_training_rows']:,} of these rows are near-duplicates of training rows "
        f"(correlation of 0.95 or more); {rest}.",
        "",
        "| class | support | recall | precision | F1 |",
        "|---|---|---|---|---|",
    ]
    for name, one in scores["classes"].items():
        measures = " | ".join(_percent(one[key]) for key in ("recall", "precision", "f1"))
        lines.append(f"| {name} | {one['rows']:,} | {measures} |")
    return lines


def _calibration(facts: dict) -> list[str]:
    part = "public" if facts["scores"].get("public") else "validation"
    scores = facts["scores"][part]
    before, after = (
        f"{error['value']:.3f} ({error['low']:.3f} to {error['high']:.3f})"
        for error in (scores["calibration_error"], scores["calibration_error_at_temperature"])
    )
    rows = f"`{scores['source']}` (n={scores['accuracy']['n']:,}, 15 bins)"
    note = "" if part == "public" else " The latter is optimistic: these are the same rows."
    return [
        f"Expected calibration error on {rows}: {before} uncalibrated, {after} with the "
        f"temperature of {facts['temperature']:.3f} that was fitted on the validation rows.{note} "
        "`test.py --probabilities` applies the temperature."
    ]


def _training(facts: dict) -> list[str]:
    data, float16, versions = facts["data"], facts["float16"], facts["versions"]
    recipe = {key: value for key, value in facts["recipe"].items() if key != "name"}
    name = f" ({data['name']})" if data["name"] else ""
    return [
        f"- data: `{data['source']}`{name}, {data['rows']:,} rows; SHA-256 of their pixels, "
        f"labels and class names `{data['fingerprint']}`",
        f"- command: `{facts['command']}`",
        f"- to reproduce it and compare the scores: `{facts['reproduce']}`",
        f"- recipe: `{facts['recipe']['name']}`, `{json.dumps(recipe)}`",
        f"- seed: {facts['seed']}",
        "- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "- float16: kernels are stored as float16 and are float32 in memory; this changed "
        f"{float16['changed_predictions']:,} of {float16['rows']:,} predictions (correct before: "
        f"{float16['right_before']:,}, after: {float16['right_after']:,})",
    ]


def _percent(measure: dict | None) -> str:
    if measure is None:
        return UNDEFINED
    low, high = 100 * measure["low"], 100 * measure["high"]
    return f"{measure['value']:.2%} ({low:.2f} to {high:.2f})"
