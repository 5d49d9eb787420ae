"""Versions of libraries that differ within a row, behind it, in its folds and between rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import ResultTable

FakeRun = Callable[..., Path]

OLD, NEW = {"torch": "1.0", "numpy": "1"}, {"torch": "2.0", "numpy": "2"}


def only(tmp_path: Path) -> ResultTable:
    (table,) = compare(read_results(tmp_path / "results")).tables
    return table


def remarks(table: ResultTable) -> list[str]:
    return [note for row in table.rows for note in row.remarks]


def of(versions: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"versions": versions, **more}


def test_alike_versions_and_other_numbers_of_numpy_go_unsaid(
    tmp_path: Path, fake_run: FakeRun
) -> None:
    fake_run("ce", 0, record=of(OLD))
    fake_run("ce", 1, record=of({**OLD, "numpy": "3"}))
    fake_run("rs", 0, record=of(OLD))
    assert remarks(only(tmp_path)) == []
    assert "torch" not in " ".join(only(tmp_path).notes)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (of(NEW), "1.0 and 2.0"),
        (of({"lmdbench": "9"}), "1.0 and not recorded"),
        (of(OLD, begun_versions={"torch": "0.8, 0.9"}), "0.8 and 0.9 and 1.0"),
    ],
)
def test_seeds(tmp_path: Path, fake_run: FakeRun, other: dict[str, Any], text: str) -> None:
    fake_run("ce", 0, record=of(OLD))
    fake_run("ce", 1, record=other)
    table = only(tmp_path)
    assert f"its seeds are of torch {text}" in remarks(table)
    assert f"ce: its seeds are of torch {text}." in table.notes


def test_what_a_row_started_from(tmp_path: Path, fake_run: FakeRun) -> None:
    for seed, versions in enumerate((OLD, NEW)):
        ce = fake_run("ce", seed, record=of(versions))
        fake_run("crt", seed, ancestor=ce, record=of(NEW))
    by_label = {row.label: row.remarks for row in only(tmp_path).rows}
    assert by_label == {
        "ce": ("its seeds are of torch 1.0 and 2.0",),
        "crt ← ce": ("its runs and what they started from are of torch 1.0 and 2.0",),
    }


def test_folds_of_a_pooled_row(tmp_path: Path, fake_run: FakeRun) -> None:
    for fold, versions in enumerate((OLD, NEW)):
        fake_run(
            "ce",
            split={"name": "kfold", "fingerprint": f"{fold}" * 64, "folds": 2, "fold": fold},
            record={"split_label": f"kfold2-fold{fold}", **of(versions)},
            images=[f"{fold}-{n}" for n in range(50)],
        )
    assert remarks(only(tmp_path)) == ["its seeds and folds are of torch 1.0 and 2.0"]


def test_rows_of_one_table(tmp_path: Path, fake_run: FakeRun) -> None:
    fake_run("ce", record=of(OLD))
    fake_run("crt", record=of(NEW))
    fake_run("lws", record=of(NEW))
    fake_run("rs")
    table = only(tmp_path)
    assert remarks(table) == []
    (note,) = [note for note in table.notes if "torch" in note]
    assert note == "Rows differ in the version of torch (1.0: ce; 2.0: crt, lws)."
