"""`lmdbench metrics` and `lmdbench list metrics`."""

import json
from pathlib import Path

from lmdbench.evaluation.metrics import ALIASES, BUILT_IN, parse

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_metric_has_a_line(lmdbench):
    lines = lmdbench("metrics").out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert set(BUILT_IN) < set(rows)
    row = " ".join(rows["average_precision"].split())
    assert row.startswith("average_precision Average precision auprc, ap higher scores that rank")
    assert row.endswith("influences of images lmdbench")
    assert " lower " in rows["nll"]
    assert "recalls of classes" in rows["balanced_accuracy"]
    assert "bootstrap" in rows["sensitivity@specificity=0.9"]
    assert lmdbench("list", "metrics").out.splitlines() == lines


def test_as_json_with_one_of_a_plugin(lmdbench):
    plugin = DOCS / "examples" / "jaccard.py"
    listed = {
        one["name"]: one
        for one in json.loads(lmdbench("metrics", "--plugin", plugin, "--json").out)
    }
    assert listed["jaccard"] == {
        "name": "jaccard",
        "title": "Jaccard index",
        "aliases": [],
        "better": "higher",
        "bounds": [0, 1],
        "of_a_class": "",
        "needs": "logits",
        "interval": "bootstrap",
        "from": "jaccard.py",
    }
    assert listed["nll"]["bounds"] == [0, None]
    assert listed["macro_npv"]["of_a_class"] == "npv:CLASS"
    assert listed["macro_precision"]["aliases"] == ["precision", "ppv", "macro_ppv"]


def test_every_alias_is_of_a_metric():
    for alias, name in ALIASES.items():
        assert parse(alias, ["a", "b"], {}).name == name
