"""`lmdbench methods` and `methods show`."""

import json

import pytest

from lmdbench.cli.methods import reflow

NAMES = ["balms", "ce", "crt", "focal", "lmd", "lmd-released", "lws", "rrl"]


@pytest.fixture
def cards(lmdbench):
    outcome = lmdbench("methods", "--json")
    return {card["name"]: card for card in json.loads(outcome.out)}


def test_the_methods_of_the_benchmark_are_listed(cards, lmdbench):
    assert set(NAMES) <= set(cards)
    listing = lmdbench("methods").out
    assert all(name in listing for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_what_it_is(cards, name):
    card = cards[name]
    assert card["title"]
    assert card["source"]
    assert card["description"]
    assert all(setting["help"] or setting["name"] for setting in card["settings"])
    assert all(deviation.endswith(".") for deviation in card["deviations"])


def test_ancestors(cards):
    assert cards["ce"]["starts_from"] is None
    assert {cards[name]["starts_from"] for name in ("crt", "lws", "balms")} == {"ce"}
    assert {cards[name]["starts_from"] for name in ("lmd", "lmd-released")} == {"rrl"}


def test_show_gives_settings_source_and_deviations(lmdbench):
    out = lmdbench("methods", "show", "crt").out
    for text in ("Classifier re-training", "epochs", "10", "Kang et al.", "deviations", "bn"):
        assert text in out


def test_show_says_where_a_setting_is_tuned(lmdbench, cards):
    out = " ".join(lmdbench("methods", "show", "lmd").out.split())
    assert "(tuned: default × 0.1 to 10, log)" in out
    ranges = {s["name"]: s["range"] for s in cards["focal"]["settings"]}
    assert (ranges["gamma"], ranges["epochs"]) == ("0.5 or 1.0 or 2.0 or 5.0", None)


def test_show_of_an_unknown_method(lmdbench):
    outcome = lmdbench("methods", "show", "lmb")
    assert outcome.code == 2
    assert "Did you mean lmd" in outcome.err


def test_reflow_joins_paragraphs_and_items_and_keeps_formulas():
    text = (
        "One sentence,\nbroken.\n\n1. An item\n   goes on\n2. Another\n\n    L = a + b\n    M = c"
    )
    assert reflow(text) == (
        "One sentence, broken.\n\n1. An item goes on\n2. Another\n\n    L = a + b\n    M = c"
    )
