"""`lmdbench plan-power` through its entry point."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "planning.md"

ISIC = ("--images", "2575,828,557,402,122,81,30,26")
QUICK = ("--tables", 20)


def test_how_often_a_difference_is_found(lmdbench):
    got = lmdbench("plan-power", "--methods", 7, "--seeds", 3, "--difference", 8, *ISIC, *QUICK)
    assert got.code == 0
    assert "8 classes, 4,621 test images (26 to 2,575 a class)" in got.out
    assert "seed SD 1 point, recalls 0.30 to 0.93" in got.out
    assert "error of 20 simulated tables" in got.out
    assert "simulating tables: 100 %" in got.err


def test_the_page_shows_what_is_printed(lmdbench):
    command, shown, *_ = re.findall(r"^```\n(.*?)\n```$", PAGE.read_text(), re.M | re.S)
    assert lmdbench(*command.split()[1:]).out.strip() == shown


def test_smallest_differences_of_a_grid_as_json(lmdbench):
    words = ("--methods", "2,7", "--seeds", "3,5", "--images", "100x4", "--recall", ".7", "--json")
    got = lmdbench("plan-power", *words, *QUICK)
    assert got.err == ""
    facts = json.loads(got.out)
    assert [one["images"] for one in facts["classes"]] == [100] * 4
    assert {one["recall"] for one in facts["classes"]} == {0.7}
    by_cell = {(one["methods"], one["seeds"]): one for one in facts["tables"]}
    assert list(by_cell) == [(2, 3), (2, 5), (7, 3), (7, 5)]
    assert by_cell[2, 5]["difference"] < by_cell[7, 3]["difference"]
    power = by_cell[7, 3]["power"]
    assert power["low"] <= 0.8 <= power["high"]


def test_images_that_it_takes_where_no_seeds_do(lmdbench):
    got = lmdbench("plan-power", "--methods", 7, "--difference", 4, *ISIC)
    assert "none up to 20" in got.out
    assert "no number of seeds up to 20 finds 4 points in 80 % of tables" in got.out
    lines = {line.split(" seeds")[0].strip(): line for line in got.out.splitlines()}
    assert "in each class that has fewer: 7 30 → " in lines["20"]
    assert "5 122 → " in lines["3"]


def test_test_images_of_a_split(lmdbench):
    one = lmdbench(
        "plan-power", "--methods", 3, "--seeds", 3, "--dataset", "demo", *QUICK, "--json"
    )
    shown = json.loads(lmdbench("datasets", "show", "demo", "--json").out)
    counts = {row["class"]: row["images"] for row in json.loads(one.out)["classes"]}
    assert counts == shown["parts"]["test"]["counts"]
    recalls = {row["class"]: row["recall"] for row in json.loads(one.out)["classes"]}
    trained = shown["parts"]["train"]["counts"]
    assert max(recalls, key=recalls.get) == max(trained, key=trained.get)


def test_a_table_of_runs_tells_what_is_supposed(lmdbench, fake_run):
    for method in ("ce", "crt", "lmd"):
        for seed in range(3):
            directory = fake_run(method, seed=seed, skill=2.0)
    results = directory.parents[3]
    words = ("--from", results, "--seeds", 5, "--difference", 20, "--json", *QUICK)
    facts = json.loads(lmdbench("plan-power", *words).out)
    assert [one["images"] for one in facts["classes"]] == [30, 12, 6, 2]
    (planned,) = facts["tables"]
    assert (planned["methods"], planned["seeds"]) == (3, 5)
    wrong = lmdbench("plan-power", *words, "--split", "other")
    assert (wrong.code, "unknown split 'other'" in wrong.err) == (2, True)
    fake_run("ce", dataset="other")
    several = lmdbench("plan-power", *words)
    assert "has 2 tables" in several.err
    assert "say which is meant with --dataset and --split" in several.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--methods", 7, "--seeds", 3), "give the test images of each class with --images"),
        (("--seeds", 3, *ISIC), "--methods: say how many"),
        (("--methods", 7, *ISIC), "give --seeds, to be told"),
        (("--methods", 7, "--seeds", 3, "--images", "5,many"), "--images '5,many': give whole"),
        (("--methods", "two", "--seeds", 3, *ISIC), "--methods 'two': give numbers"),
        (("--methods", 7, "--seeds", 3, *ISIC, "--recall", "high"), "--recall 'high'"),
        (("--methods", 7, "--seeds", 3, *ISIC, "--dataset", "demo"), "leave --images out"),
        (
            ("--methods", 7, "--seeds", 3, *ISIC, "--data-root", "."),
            "--data-root is for --dataset without --from; leave it out",
        ),
        (("--methods", 7, "--seeds", 3, *ISIC, "--split", "lesion"), "are for --dataset"),
        (("--methods", 7, "--seeds", 3, "--dataset", "dem"), "Did you mean demo"),
        (("--seeds", 3, "--from", "/nowhere"), "no results folder /nowhere"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(lmdbench, words, why):
    got = lmdbench("plan-power", *words)
    assert (got.code, got.out) == (2, "")
    assert why in got.err
    assert got.err.count("\n") == 1
