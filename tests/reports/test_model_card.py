"""The cards of the shipped models."""

import pytest

from ferlab import pretrained
from ferlab.reports import model_card
from ferlab.reports.page import PEOPLE


@pytest.fixture(autouse=True)
def own_folder(monkeypatch):
    monkeypatch.delenv(pretrained.FOLDER_VARIABLE, raising=False)


def test_cards_of_the_repository_equal_those_made_from_their_facts():
    for name in pretrained.names():
        card = (pretrained.folder() / f"{name}.md").read_text()
        assert card == model_card.card(pretrained.read_facts(name))


@pytest.fixture
def facts():
    return pretrained.read_facts("distilled")


def test_card_states_the_facts(facts):
    card = model_card.card(facts)
    for part in ("validation", "public"):
        accuracy = facts["scores"][part]["accuracy"]
        low, high = 100 * accuracy["low"], 100 * accuracy["high"]
        shown = f"{accuracy['value']:.2%} ({low:.2f} to {high:.2f}), n={accuracy['n']:,}"
        assert shown in card
    entries = (facts["sha256"], facts["data"]["fingerprint"], facts["command"], facts["reproduce"])
    assert all(entry in card for entry in (*entries, "seed: 1", '"batch_size": 128', *PEOPLE))
    assert all(card.count(f"\n| {name} | ") == 2 for name in facts["class_names"])


def test_card_describes_fer_2013_only_for_models_trained_on_it(facts):
    card = model_card.card(facts)
    for topic in ("research", "2013", "noisy", "judging people", "recompressed", "basic emotions"):
        assert topic in card
    other = {**facts, "data": {**facts["data"], "name": None, "source": "own.csv"}}
    assert "FER-2013" not in model_card.card(other)


def test_card_of_a_model_without_held_out_rows(facts):
    alone = {**facts, "scores": {"validation": facts["scores"]["validation"]}}
    assert model_card.card(alone).count("\n### ") == 1
    assert model_card.card(facts).count("\n### ") == 2
