"""Runs, methods, audits and citations as the page tells them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmdbench.comparison.results import RunGroup, read_results, run_groups
from lmdbench.data.check import audit as audits
from lmdbench.data.dataset import Part, Split, open_dataset
from lmdbench.reporting.page.provenance import (
    audit_facts,
    compute,
    dataset_facts,
    method_facts,
    run_facts,
)
from lmdbench.reporting.page.sources import About
from lmdbench.runs.record import RunRecord, read_record

FakeRun = Callable[..., Path]
RECORD = {
    "versions": {"lmdbench": "0.1.0", "python": "3.11.7", "torch": "2.6.0"},
    "git_commit": "19263520ded2164f",
    "device": "NVIDIA H100",
    "executed": {"training": "graphs", "evaluation": "plain"},
    "digests": {"method": "e6ae9615c7c39661", "store": None},
    "seconds": 90.0,
    "peak_memory_mib": 2048.0,
    "attempts": 2,
    "finished": "2026-01-02T03:04:05+00:00",
}


def only_block(tmp_path: Path) -> RunGroup:
    results = read_results(tmp_path / "results")
    (block,) = run_groups(results, results.runs)
    return block


def test_a_run_in_words(fake_run: FakeRun, tmp_path: Path) -> None:
    ce = fake_run("ce", 3, record=RECORD)
    crt = fake_run("crt", 3, ancestor=ce, record={**RECORD, "seconds": 30.0})
    facts = {fact.label: fact for fact in run_facts(tmp_path / "results", only_block(tmp_path))}
    fact = facts["ce"]
    assert (fact.seed, fact.seconds, fact.peak_mib, fact.attempts) == (3, 90.0, 2048.0, "2")
    assert (fact.device, fact.commit, fact.lmdbench) == ("NVIDIA H100", "19263520", "0.1.0")
    assert fact.executed == "training graphs, evaluation plain"
    assert (fact.libraries, fact.digests) == ("torch 2.6.0, python 3.11.7", "method e6ae9615")
    assert fact.finished == "2026-01-02 03:04"
    assert fact.directory == ce.relative_to(tmp_path / "results").as_posix()
    (other,) = (fact for label, fact in facts.items() if label.startswith("crt"))
    assert other.started_from == f"ce {ce.name.rpartition('-')[2]}"
    assert other.directory == crt.relative_to(tmp_path / "results").as_posix()
    text = compute([fact, other])
    assert text.startswith("2 runs took 2 min on NVIDIA H100, at most 2.0 GiB of memory.")


def test_what_a_run_did_not_record_is_a_dash(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", record={"git_commit": None})
    (fact,) = run_facts(tmp_path / "results", only_block(tmp_path))
    assert (fact.seconds, fact.peak_mib) == (None, None)
    rest = (fact.started_from, fact.device, fact.lmdbench, fact.libraries, fact.commit)
    assert {*rest, fact.finished, fact.attempts, fact.digests} == {"–"}
    assert compute([fact]) == "No computing time is recorded."


def test_methods_with_settings_stage_by_stage(fake_run: FakeRun, tmp_path: Path) -> None:
    ce = fake_run("ce", settings={"lr": 0.1})
    fake_run("crt", ancestor=ce)
    fake_run("their-own")
    plugin = fake_run("of-a-plug-in") / "plugins" / "mine.py"
    plugin.parent.mkdir()
    plugin.touch()
    about = {"ce": About("Cross-entropy", "the baseline"), "crt": About("cRT", "Kang")}
    found = {facts.name: facts for facts in method_facts(only_block(tmp_path), about)}
    assert (found["ce"].about.source, found["ce"].origin) == ("the baseline", "")
    assert found["ce"].stages == (("ce", (("epochs", "100", False), ("lr", "0.1", True))),)
    assert [name for name, _ in found["crt"].stages] == ["crt", "ce"]
    assert found["their-own"].about == About()
    assert "Not among the methods installed here" in found["their-own"].origin
    assert "its source is kept as plugins/mine.py" in found["of-a-plug-in"].origin


def test_imported_predictions_are_told(fake_run: FakeRun, tmp_path: Path) -> None:
    imported = {"predictions": {"from": "theirs.csv", "parts": ["test"]}}
    fake_run("my-loss", record={"imported": imported})
    (facts,) = method_facts(only_block(tmp_path), {})
    assert facts.origin.startswith("Imported predictions: trained by other code")


@pytest.fixture
def audited(fake_run: FakeRun, tmp_path: Path) -> Split:
    """A run on the demo data, and an audit beside it of a split with one image in two parts."""
    demo = open_dataset("demo", None, tmp_path / "cache")
    whole = demo.split(None, 42)
    train, test = whole.parts["train"], whole.parts["test"]
    torn = Part(np.append(test.ids, train.ids[0]), np.append(test.labels, train.labels[0]))
    split = Split("drawn", whole.classes, {**whole.parts, "test": torn}, whole.groups, 42, 100.0)
    fake_run(
        dataset="demo",
        record={"split_label": split.label},
        split={
            "name": "drawn",
            "seed": 42,
            "imbalance_factor": 100.0,
            "fingerprint": split.fingerprint,
        },
    )
    parts = {"tables": audits.audit_tables(demo, split)}
    where = audits.audit_folder(tmp_path / "results", "demo", split.label, split.fingerprint)
    audits.save(where, audits.describe(demo, split, parts), parts)
    return split


def test_an_audit_that_was_made(audited: Split, tmp_path: Path) -> None:
    ((label, facts),) = audit_facts(tmp_path / "results", only_block(tmp_path))
    assert label == audited.label
    assert (facts.clean, facts.verdict) == (False, "Not clean")
    assert facts.sentences[0] == (
        "Images in two parts: 1 (1 train–test). "
        "1 of 401 test images (0.2 %) share one with training."
    )
    assert "unknown, no table names them" in " ".join(facts.sentences)
    assert facts.of_what == "images"
    assert [(name, shared) for name, shared, *_ in facts.by_class if shared] == [("round-plain", 1)]


def test_no_audit_none_told(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run()
    assert audit_facts(tmp_path / "results", only_block(tmp_path)) == []


def test_citations_of_known_data_sets_and_none_of_others(fake_run: FakeRun) -> None:
    def record(results_name: str, dataset: str, seed: int = 0) -> RunRecord:
        return read_record(fake_run(seed=seed, dataset=dataset, results_name=results_name))

    known, own, strange = dataset_facts(
        [
            record("isic2019", "isic2019"),
            record("clinic", "folder"),
            record("x", "of-a-plugin"),
            record("isic2019", "isic2019", seed=1),
        ]
    )
    assert "HAM10000" in known.citation[0]
    assert known.licence
    assert (own.name, own.source, own.citation) == ("clinic", "", ())
    assert (strange.name, strange.title) == ("x", "")
