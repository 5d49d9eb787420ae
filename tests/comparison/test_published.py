"""Numbers that papers print: the shipped files, which runs they stand beside, and bad files."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.published import PublishedColumn, load, published_for, stands_for
from lmdbench.comparison.results import Link, MethodRuns, read_results
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.reporting.tables import markdown
from lmdbench.training.method import METHODS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "results" / "published").glob("*.toml"))

FACTORS = {
    100: "1ee188c4802a1d74f571a99e96f4a454bebb4ff095ac7f1c9b7708d5bee397de",
    200: "45468fc61ccd177e7f4a439eb5d604b068589c617e3c0f330e212867b9ce9945",
    500: "1d7cec193ea981697b52e841b72f41f33a7800109d492c91f75910e488805332",
}
ARCHIVE = "f95921dfce61754555acdcb337b7179f629daa07da92d952df1884f71e366b32"
ARCHIVE_GROUPS = {
    "head": ["NV", "MEL", "BCC", "SK"],
    "medium": ["AK", "SCC", "BKL", "SL"],
    "tail": ["VASC", "DF", "LK", "LS", "AN", "AMP"],
}


def setting(dataset: str, fingerprint: str, groups: Any = None) -> dict[str, Any]:
    return {"dataset": dataset, "split_fingerprint": fingerprint, "groups": groups or {}}


def of_isic2019(factor: int) -> list[PublishedColumn]:
    return published_for(setting("isic2019", FACTORS[factor]))


# The shipped numbers


@pytest.mark.parametrize(
    ("factor", "name", "auroc", "f1"),
    [
        (100, "CE", 0.8935, 0.5122),
        (200, "Focal", 0.9255, 0.4849),
        (500, "LMD", 0.9369, 0.5688),
        (500, "LMD w/o FDC", 0.9173, 0.4623),
    ],
)
def test_numbers_of_the_lmd_paper(factor: int, name: str, auroc: float, f1: float) -> None:
    first, second = of_isic2019(factor)
    assert (first.metric, second.metric) == ("macro_auroc", "macro_f1")
    assert (first.values[name], second.values[name]) == (auroc, f1)
    assert len(first.values) == len(second.values) == 19


def test_the_lmd_paper_is_best_in_its_own_columns() -> None:
    for factor in FACTORS:
        for column in of_isic2019(factor):
            assert max(column.values, key=column.values.__getitem__) == "LMD"


def test_numbers_of_the_mrc_vfc_paper() -> None:
    columns = published_for(setting("isic-archive", ARCHIVE, ARCHIVE_GROUPS))
    assert [column.metric for column in columns] == ["head", "medium", "tail", "group_mean"]
    assert [column.values["MRC-VFC"] for column in columns] == [0.6971, 0.6347, 0.7034, 0.6784]


def test_all_is_the_mean_of_the_groups_but_where_the_caveat_says_so() -> None:
    *groups, mean = published_for(setting("isic-archive", ARCHIVE, ARCHIVE_GROUPS))
    odd = {
        name
        for name, printed in mean.values.items()
        if abs(sum(group.values[name] for group in groups) / 3 - printed) > 1e-4
    }
    assert odd == {"Focal", "Seesaw"}
    assert all(any(name in caveat for caveat in mean.caveats) for name in odd)


def test_what_is_not_known_is_told() -> None:
    (column, _) = of_isic2019(100)
    told = " ".join(column.caveats)
    for words in ("almost certainly macro AUC", "most likely macro F1", "not excluded", "Single"):
        assert words in told
    (column, *_) = published_for(setting("isic-archive", ARCHIVE, ARCHIVE_GROUPS))
    assert "other images" in " ".join(column.caveats)


def test_methods_that_rows_stand_for_exist() -> None:
    columns = [*of_isic2019(100), *published_for(setting("isic-archive", ARCHIVE, ARCHIVE_GROUPS))]
    for column in columns:
        assert set(column.methods) <= set(column.values)
        for methods in column.methods.values():
            assert set(methods) <= set(METHODS.names())
    assert columns[0].methods["LMD w/o RRL"] == ("lmd", "ce")
    assert "Decoupling" not in columns[0].methods


@pytest.mark.parametrize("factor", FACTORS)
def test_fingerprints_are_those_of_the_released_splits(
    test_data: Path, tmp_path: Path, factor: int
) -> None:
    dataset = DATASETS.get("isic2019")(test_data, tmp_path)
    assert make_split(dataset, SplitSpec(imbalance_factor=factor)).fingerprint == FACTORS[factor]


def test_fingerprint_of_the_archive(test_data: Path, tmp_path: Path) -> None:
    dataset = DATASETS.get("isic-archive")(test_data, tmp_path)
    split = make_split(dataset, SplitSpec())
    assert split.fingerprint == ARCHIVE
    assert {group: list(names) for group, names in split.groups.items()} == ARCHIVE_GROUPS


# Which runs they stand beside


def test_only_the_same_images_and_groups_get_them() -> None:
    assert published_for(setting("isic2019", "0" * 64)) == []
    assert published_for(setting("demo", FACTORS[100])) == []
    assert published_for(setting("isic-archive", ARCHIVE, {"head": ["NV"]})) == []


def row(*methods: tuple[str, bool | None]) -> MethodRuns:
    links = tuple(Link(name, 1, {}, {"epochs": 3}, usual=usual) for name, usual in methods)
    return MethodRuns("a label", links, ())


def test_a_row_stands_for_its_methods_without_usual_ancestors() -> None:
    assert stands_for(row(("lmd", None), ("rrl", True))) == ("lmd",)
    assert stands_for(row(("lmd", None), ("ce", False))) == ("lmd", "ce")
    assert stands_for(row(("lmd", None), ("rrl", True), ("ce", False))) == ("lmd", "rrl", "ce")
    assert stands_for(row(("ce", None))) == ("ce",)


def test_they_stand_beside_measured_rows(tmp_path: Path, fake_run: Callable[..., Path]) -> None:
    split = {"name": "published", "seed": 42, "imbalance_factor": 100.0}
    for method in ("ce", "focal"):
        fake_run(
            method,
            dataset="isic2019",
            split={**split, "fingerprint": FACTORS[100]},
            settings={"epochs": 5},
        )
    found = compare(read_results(tmp_path / "results"), published=True)
    lines = markdown(found, spread="none").splitlines()
    (ce,) = [row for row in found.tables[0].rows if row.method == "ce"]
    auroc, f1 = (100 * (ce.cells[name].mean or 0) for name in ("macro_auroc", "macro_f1"))
    (line,) = [line for line in lines if line.startswith("| CE |")]
    assert line == f"| CE | 89.35 | 51.22 | ce (epochs=5) | {auroc:.1f} | {f1:.1f} |"
    assert "| RS | 94.93 | 59.65 | – | – | – |" in lines
    assert any("not excluded" in line for line in lines)
    for one in lines:
        if one.startswith(("| CE |", "| Focal |")):
            assert not re.search("[*▲▼≈]|<u>", one)
    assert not any("Not among the metrics shown" in line for line in lines)
    names = ["balanced_accuracy", "macro_f1"]
    found = compare(read_results(tmp_path / "results"), published=True, names=names)
    assert (
        r"- Not among the metrics shown, so empty here: Macro AUROC. To see them: "
        r"--metric balanced\_accuracy --metric macro\_f1 --metric macro\_auroc."
    ) in markdown(found).splitlines()
    assert compare(read_results(tmp_path / "results")).tables[0].published == ()


# Files


GOOD = """
format = 1
[paper]
title = "A paper"
source = "Some, 2020"
caveats = ["Single runs."]
[[settings]]
name = "all"
dataset = "skin"
fingerprint = "ff"
[[columns]]
title = "F1"
metric = "macro_f1"
[[rows]]
name = "CE"
methods = ["ce"]
all = [50.5]
[[rows]]
name = "RS"
"""


def test_a_row_may_lack_a_setting(tmp_path: Path) -> None:
    (tmp_path / "paper.toml").write_text(GOOD)
    ((column,),) = load(tmp_path / "paper.toml").columns.values()
    assert column.values == {"CE": 0.505}
    assert column.source == "Some, 2020"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "format 2; this lmdbench reads 1"),
        ("format = 1", "", "format is missing"),
        ("format = 1", "format = 1\nnote = 3", "3: unknown key 'note'. Known: format, paper"),
        ('title = "A paper"', "title = 3", "4: title is 3; give a text in quotes"),
        (
            'caveats = ["Single runs."]',
            "caveats = [3]",
            "6: caveats is [3]; give a list of different texts",
        ),
        ('source = "Some, 2020"', "", "3: source is missing; add it"),
        (
            'metric = "macro_f1"',
            'metric = "macro_g1"',
            '13: metric is "macro_g1"; give "balanced_acc',
        ),
        ('fingerprint = "ff"', "", "7: fingerprint is missing"),
        ("all = [50.5]", "all = [50.5, 2]", "17: all is [50.5, 2]; give 1 numbers in percent"),
        ("all = [50.5]", 'all = ["50"]', '17: all is ["50"]; give 1 numbers in percent'),
        ("all = [50.5]", "all = [nan]", "17: all is [NaN]; give 1 numbers in percent"),
        ("all = [50.5]", "all = [505]", "17: all is [505]; give 1 numbers in percent"),
        ("all = [50.5]", "al = [50.5]", "17: unknown key of [rows] 'al'. Did you mean all"),
        ('methods = ["ce"]', "methods = [1]", "16: methods is [1]; give a list"),
        ('name = "RS"', 'name = "CE"', "19: rows have 'CE' twice"),
        ('name = "RS"', "", "18: name is missing"),
        ("[paper]", "[paper", "3: no valid TOML"),
        ("[[columns]]", "[columns]", "columns is {"),
    ],
)
def test_a_bad_file_is_answered_in_a_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "paper.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wheel_ships_them(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves files beside what it builds
    for name in ("lmdbench", "methods", "datasets", "results/published"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        ".",
        "./source",
    ]
    built = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    there = {path.name for path in (unpacked / "lmdbench" / "published").iterdir()}
    assert there == {file.name for file in FILES} | {"__init__.py"}
    words = (
        "import lmdbench.published as p; from lmdbench.comparison.published import published_for; "
        f"print(p.__file__, len(published_for({setting('isic2019', FACTORS[100])})))"
    )
    read = subprocess.run(
        [sys.executable, "-c", words],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert read.stdout.split() == [str(unpacked / "lmdbench" / "published" / "__init__.py"), "2"]
