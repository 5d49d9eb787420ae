"""`lmdbench methods` and `methods show`."""

import json
import os
import re
import subprocess
import sys

import pytest

from lmdbench.cli.methods import reflow

NAMES = ["balms", "bcl", "ce", "cicl", "crt", "focal", "lmd", "lmd-released", "lws", "ride", "rrl"]


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


def test_what_many_deviate_in_is_on_each_card_it_holds_for(cards, lmdbench):
    """The last epoch counts in every training; the strong view's holes in those that see it."""
    last, strong = cards["rrl"]["common"]
    assert "last epoch" in last
    assert "grid dropout" in strong
    assert cards["lmd"]["common"] == [last]  # it sees the test view
    assert cards["ncm"]["common"] == []  # it trains nothing
    assert [card["name"] for card in cards.values() if strong in card["common"]] == [
        card["name"] for card in cards.values() if "strong" in card["views"] and card["epochs"] != 0
    ]
    assert not any("best epoch" in text for c in cards.values() for text in c["deviations"])
    shown = " ".join(lmdbench("methods", "show", "crt").out.split())
    assert "square holes here" in shown


def test_show_says_where_a_setting_is_tuned(lmdbench, cards):
    out = " ".join(lmdbench("methods", "show", "lmd").out.split())
    assert "(tuned: default × 0.1 to 10, log)" in out
    ranges = {s["name"]: s["range"] for s in cards["focal"]["settings"]}
    assert (ranges["gamma"], ranges["epochs"]) == ("0.5 or 1.0 or 2.0 or 5.0", None)


def test_show_has_the_authors_defaults_beside_ours(lmdbench, cards):
    out = lmdbench("methods", "show", "crt").out
    assert "authors'" in out
    theirs = {s["name"]: s["authors"] for s in cards["crt"]["settings"]}
    assert (theirs["lr"], theirs["momentum"]) == (0.2, None)
    assert "authors'" not in lmdbench("methods", "show", "ce").out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ce", "an epoch costs what one of ce does"),
        ("crt", "1× forward and 0× backward"),
        ("rrl", "2× forward and 1× backward"),
        ("tau-norm", "no training"),
    ],
)
def test_show_says_what_a_method_costs(lmdbench, name, says):
    assert says in " ".join(lmdbench("methods", "show", name).out.split())


@pytest.mark.parametrize("name", ["ncm", "tau-norm", "logit-adjustment-posthoc"])
def test_show_says_of_no_training_how_it_is_done(lmdbench, name):
    lines = lmdbench("methods", "show", name).out.splitlines()
    heads = {line.split()[0] for line in lines if line[:1].strip()}
    assert "cost" in heads
    assert not heads & {"trains", "sampling", "views"}
    assert ("setting" in heads) == (name != "ncm")  # which has none


def test_show_has_no_python_in_it(lmdbench):
    row = next(
        line for line in lmdbench("methods", "show", "tau-norm").out.splitlines() if "tau " in line
    )
    assert row.split()[:2] == ["tau", "none"]


def test_a_sampler_of_its_own_is_said_in_words(cards, lmdbench, tmp_path):
    assert cards["bbn"]["sampler"] == (
        "instance + classes with probability ∝ 1/n_j, then an image of the class, with replacement"
    )
    assert cards["gcl"]["sampler"].startswith("draws image i, with replacement, at a rate of (1")
    assert cards["gcl"]["sampler"].endswith("nearly, but not quite, equally often")
    plugin = tmp_path / "own_sampler.py"
    plugin.write_text(
        "from lmdbench.training.samplers import InstanceSampler\n"
        + PLUGIN.format(name="own-sampler")
        .replace("    def loss", "    sampler = RareFirst\n\n    def loss")
        .replace("\n@", "\nclass RareFirst(InstanceSampler):\n    pass\n\n@")
    )
    outcome = lmdbench("methods", "show", "own-sampler", "--plugin", plugin, "--json")
    assert json.loads(outcome.out)["sampler"] == "rare first"


def test_show_names_the_tests_that_pin_a_method(lmdbench, cards):
    tests = cards["crt"]["tests"]
    assert tests["file"] == "tests/methods/test_crt.py"
    assert "only the head is trained" in tests["names"]
    assert "· only the head is trained" in lmdbench("methods", "show", "crt").out


PLUGIN = """
from lmdbench.training.method import Method, register_method

@register_method("{name}")
class Bare(Method):
    def loss(self, batch):
        return self.model(batch.images).square().mean()
"""


def test_a_method_that_says_nothing_of_itself(lmdbench, tmp_path):
    """Where nothing is known nothing is shown: no tests, no authors' defaults."""
    plugin = tmp_path / "bare_for_cards.py"
    plugin.write_text(PLUGIN.format(name="bare-for-cards"))
    outcome = lmdbench("methods", "show", "bare-for-cards", "--plugin", plugin, "--json")
    assert outcome.code == 0, outcome.err
    card = json.loads(outcome.out)
    assert (card["tests"], card["passes"], card["description"]) == (None, [1, 1], "")
    assert all(s["authors"] is None for s in card["settings"])


def test_the_list_is_readable_on_a_small_terminal():
    """In a process of its own: other tests register methods of theirs in this one."""
    terminal = {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "lmdbench", "methods"]
    listed = subprocess.run(command, env=terminal, capture_output=True, text=True, check=True)
    lines = re.sub(r"\x1b\[[\d;]*m", "", listed.stdout).splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines if line[:1].strip()]
    assert set(names) >= set(NAMES)
    assert len(lines) <= 1.5 * len(names)


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


def test_show_has_the_defaults_on_a_backbone(lmdbench):
    words = ("methods", "show", "ce", "--backbone", "torchvision/swin_t", "--json")
    defaults = {s["name"]: s["default"] for s in json.loads(lmdbench(*words).out)["settings"]}
    assert defaults["optimizer"] == "adamw"
    assert defaults["lr"] == 1e-4
    assert defaults["batch_size"] == 128
