"""How stable a ranking is: what is sampled, and what is said beside it."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.comparison.stability import rank_stability
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import register_metric
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions
from lmdbench.reporting.tables import csv_text, json_text, markdown

FakeRun = Callable[..., Path]
SKILLS = {"ce": 0.3, "crt": 1.0, "lws": 1.0, "lmd": 4.0}


@pytest.fixture
def runs(fake_run: FakeRun) -> Callable[..., list[Path]]:
    """Runs of each method with its skill, of so many seeds."""

    def make(skills: dict[str, float] = SKILLS, seeds: int = 3) -> list[Path]:
        return [
            fake_run(method, seed, skill=skill + 0.01 * seed)
            for method, skill in skills.items()
            for seed in range(seeds)
        ]

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def only(folder: Path, **words: Any) -> ResultTable:
    (table,) = compare(read_results(folder), **words).tables
    return table


def test_methods_far_apart_keep_their_places(folder: Path, runs: Callable[..., Any]) -> None:
    runs({"ce": 0.0, "lmd": 8.0})
    found = only(folder, stability=True).stability
    assert found is not None
    best, worst = found.rows
    assert (best.label, best.rank, best.low, best.high, best.shares) == ("lmd", 1, 1, 1, (1, 0))
    assert (worst.label, worst.median, worst.shares) == ("ce", 2, (0, 1))
    assert (found.tau, found.tau_low, found.tau_high, found.rounds) == (1, 1, 1, 1000)
    assert found.notes == ()


def test_methods_alike_change_places(folder: Path, runs: Callable[..., Any]) -> None:
    runs()
    table = only(folder)
    assert table.stability is None
    found = rank_stability(table)
    assert found == rank_stability(table)
    rows = {row.label: row for row in found.rows}
    assert rows["lmd"].shares[0] > 0.99
    for name in ("crt", "lws"):
        assert 0.1 < rows[name].shares[1] < 0.9
        assert sum(rows[name].shares) == pytest.approx(1)
    assert np.sum([row.shares for row in found.rows], axis=0) == pytest.approx([1] * 4)


@pytest.mark.parametrize("metric", ["nll", "macro_auroc"])
def test_smooth_metrics_are_ranked_with_the_best_first(
    folder: Path, runs: Callable[..., Any], metric: str
) -> None:
    runs()
    found = only(folder, names=[metric], stability=True).stability
    assert found is not None
    assert (found.primary, found.rows[0].label, found.rows[0].low) == (metric, "lmd", 1)


def test_a_metric_without_influences_is_ranked_on_its_own_samples(
    folder: Path, runs: Callable[..., Any]
) -> None:
    register_metric("hits", title="Hits")(
        lambda labels, logits: (logits.argmax(1) == labels).mean()
    )
    runs({"ce": 0.3, "lmd": 4.0}, 2)
    found = only(folder, names=["hits"], stability=True).stability
    assert found is not None
    assert (found.rounds, found.rows[0].label, found.rows[0].shares) == (500, "lmd", (1, 0))


def test_one_seed_is_said(folder: Path, runs: Callable[..., Any]) -> None:
    runs({"ce": 0.3, "lmd": 4.0}, seeds=1)
    found = only(folder, stability=True).stability
    assert found is not None
    assert found.notes == ("One seed: only the test images vary; other seeds may rank otherwise.",)


def test_images_in_every_sample_and_rows_without_value_are_said(
    folder: Path, fake_run: FakeRun
) -> None:
    labels = np.repeat(np.arange(4), [30, 12, 6, 1])
    record = {"class_counts": {"train": [60, 20, 10, 2], "test": [30, 12, 6, 1]}}
    for number, method in enumerate(("ce", "crt", "lmd")):
        logits = np.random.default_rng(number).normal(size=(49, 4))
        logits[0] = np.nan if method == "crt" else logits[0]
        fake_run(method, test=(labels, logits), record=record)
    found = only(folder, stability=True).stability
    assert found is not None
    assert {row.label for row in found.rows} == {"ce", "lmd"}
    assert any(note.startswith("1 test image is in every sample") for note in found.notes)
    assert "Without a value that can be resampled, so not ranked: crt." in found.notes


def test_lesions_are_drawn_whole(folder: Path, runs: Callable[..., Any]) -> None:
    paths = runs({"ce": 1.0, "crt": 1.2, "lmd": 1.4})
    alone = rank_stability(only(folder))
    for path in paths:
        parts = load_predictions(path / "predictions.npz")
        there = parts["test"]
        units = np.array([f"lesion{k // 15}" for k in range(len(there))])
        parts["test"] = Predictions(there.ids, there.labels, there.logits, units)
        save_predictions(path / "predictions.npz", parts)
    together = rank_stability(only(folder))
    assert alone.rows != together.rows


def test_one_row_has_no_ranking(folder: Path, runs: Callable[..., Any]) -> None:
    runs({"lmd": 1.0})
    table = only(folder, stability=True)
    assert table.stability is None
    assert any("No stability of the ranking" in note for note in table.notes)
    with pytest.raises(UserError, match="1 of its rows can be ranked by balanced_accuracy"):
        rank_stability(table)


def test_it_is_in_every_form(folder: Path, runs: Callable[..., Any]) -> None:
    runs({"ce": 0.0, "lmd": 8.0})
    comparison = compare(read_results(folder), stability=True)
    text = markdown(comparison)
    assert "#### Stability of the ranking\n" in text
    assert "| lmd | 1 | 1 [1, 1] | 100.0 |\n| ce | 2 | 2 [2, 2] | 0.0 |" in text
    assert "no confidence intervals" in text
    (block,) = json.loads(json_text(comparison))["blocks"]
    assert block["stability"]["rows"][0]["shares"] == [1, 0]
    lines = csv.DictReader(io.StringIO(csv_text(comparison)))
    found = [row for row in lines if row["kind"] == "stability"]
    assert [(row["label"], row["rank_high"], row["first"]) for row in found] == [
        ("lmd", "1.0", "1.0"),
        ("ce", "2.0", "0.0"),
    ]
