"""``--unit``, ``--by`` and ``--bands`` of compare and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def words(fake_run: Callable[..., Path], tmp_path: Path) -> list[Any]:
    """Of a command on runs on images of one's own, with a table of these."""
    root = tmp_path / "clinic"
    root.mkdir()
    rows = [
        f"image{n},nv,L{n // 2},{'fm'[n // 2 % 2]},{30 + n}" for n in range(50)
    ]  # lesions are of one class
    (root / "labels.csv").write_text("\n".join(["image,label,lesion_id,Sex,age", *rows]) + "\n")
    for method, skill in (("ce", 1.0), ("lmd", 2.0)):
        for seed in (0, 1):
            fake_run(method, seed, skill=skill, dataset="folder", results_name="folder-clinic")
    return ["--results", tmp_path / "results", "--data-root", root]


def test_compare_shows_lesions_and_subgroups(
    lmdbench: Callable[..., Any], words: list[Any]
) -> None:
    asked = [*words, "--unit", "lesion", "--by", "sex", "--by", "age", "--bands", "50"]
    shown = lmdbench("compare", *asked)
    assert shown.code == 0, shown.err
    images, lesions = shown.out.split("folder-clinic · plain-if100 · test lesions\n")
    for table, n in ((images, "n=50"), (lesions, "n=25")):
        assert n in table
        assert "Balanced accuracy by sex" in table
        assert "Differences to lmd in balanced accuracy by age" in table
        assert "column Sex of the data set's table" in table
        assert "\n0–49 " in table
        assert "\n50+ " in table
    told = lmdbench("compare", *asked, "--format", "markdown")
    assert "#### Balanced accuracy by sex\n" in told.out
    (_, block) = json.loads(lmdbench("compare", *asked, "--json").out)["blocks"]
    assert block["scored"] == "lesion"
    by_sex, by_age = block["subgroups"]
    assert (by_sex["by"], by_sex["column"]) == ("sex", "Sex")
    assert [part["images"]["all"] for part in by_sex["parts"]] == [13, 12]
    assert [part["subgroup"] for part in by_age["parts"]] == ["0–49", "50+"]
    cell = by_sex["parts"][0]["rows"][0]["scores"]["accuracy"]
    assert cell["n"] == 13
    assert cell["interval"]["low"] <= cell["mean"] <= cell["interval"]["high"]


def test_the_report_shows_them_too(
    lmdbench: Callable[..., Any], words: list[Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    made = lmdbench("report", *words, "--unit", "lesion", "--by", "sex", "--output", page)
    assert made.code == 0, made.err
    html = page.read_text()
    assert "folder-clinic · plain-if100 · test lesions" in html
    assert html.count(">Balanced accuracy by sex<") == 2
    assert "Test lesions" in html
    assert "It rests on 25 test lesions" in html


def test_plots_show_lesions_too(
    lmdbench: Callable[..., Any], words: list[Any], tmp_path: Path
) -> None:
    asked = "--unit", "lesion", "--bare", "--output", tmp_path / "roc.svg"
    made = lmdbench("plot", "roc", *words, *asked)
    assert made.code == 0, made.err
    images, lesions = " ".join(made.out.split()).split(
        "roc-folder-clinic-plain-if100-per-lesion.svg "
    )
    assert "50 test images" in images
    assert "25 test lesions" in lesions
    assert (tmp_path / "roc-folder-clinic-plain-if100-per-lesion.svg").is_file()
    refused = lmdbench("plot", "embedding", *words, "--unit", "lesion")
    assert "an embedding" not in refused.err
    assert "embedding is of images, one by one; leave --unit out" in refused.err


def test_what_is_no_average_over_classes_lacks_none(
    lmdbench: Callable[..., Any], words: list[Any]
) -> None:
    """Some ages lack classes: averages over classes are of fewer there, accuracy is as it is."""
    asked = ["--by", "age", "--bands", "75,77"]
    note = "averages over classes are over the other"
    assert note in lmdbench("compare", *words, *asked, "--metric", "balanced_accuracy").out
    for name in ("accuracy", "kappa", "recall:nv"):
        assert note not in lmdbench("compare", *words, *asked, "--metric", name).out
    shown = lmdbench("compare", *words, *asked, "--metric", "expected_cost").out
    assert "Mean over seeds, by column age" in shown
    undivided = lmdbench("compare", *words, "--by", "age", "--bands", "200")
    assert "It does not divide these images." in undivided.out


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--by", "sexe"], "Did you mean Sex?"),
        (["--by", "age", "--bands", "old"], "give numbers with commas between them, as 40,60"),
        (["--by", "age", "--bands", "60,40"], "give numbers that rise"),
        (["--bands", "40"], "name it, as in --by age"),
        (["--unit", "patient"], "no patient is recorded for the test images of folder-clinic"),
    ],
)
def test_what_can_not_be_had_is_told_in_a_line(
    lmdbench: Callable[..., Any], words: list[Any], asked: list[str], told: str
) -> None:
    refused = lmdbench("compare", *words, *asked)
    assert refused.code == 2
    assert told in refused.err
    assert refused.err.count("\n") == 1
