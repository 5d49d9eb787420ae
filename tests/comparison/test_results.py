"""Finding finished runs, and what may stand in one table or one row."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.results import (
    Run,
    RunGroup,
    ancestor_of,
    read_results,
    renamed,
    run_groups,
    setting_text,
    short_weights,
)
from lmdbench.core.errors import UserError
from lmdbench.runs.whole import damage

FakeRun = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def all_blocks(folder: Path) -> list[RunGroup]:
    results = read_results(folder)
    return run_groups(results, results.runs)


def rows(folder: Path) -> dict[str, list[int]]:
    """Label → seeds, of the only block."""
    (block,) = all_blocks(folder)
    assert len({row.label for row in block.rows}) == len(block.rows)
    return {row.label: row.seeds for row in block.rows}


def change(directory: Path, **changes: Any) -> None:
    path = directory / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_only_finished_runs_count_and_those_moved_aside_are_no_runs(
    folder: Path, fake_run: FakeRun
) -> None:
    done = fake_run("ce", 0)
    unfinished = [fake_run("ce", 1, state=None), fake_run("ce", 2, state="failed.txt")]
    shutil.copytree(done, done.with_name(f"{done.name}.old-20250101T000000"))
    (folder / "published").mkdir()
    (folder / "published" / "paper.csv").touch()
    found = read_results(folder)
    assert [run.directory for run in found.runs] == [done]
    assert sorted(found.unfinished) == sorted(path.relative_to(folder) for path in unfinished)


def test_no_folder_and_an_empty_one_hold_nothing(folder: Path) -> None:
    assert read_results(folder).runs == ()
    folder.mkdir()
    assert read_results(folder).runs == ()


def test_a_run_of_another_version_is_refused(folder: Path, fake_run: FakeRun) -> None:
    change(fake_run(), format=2)
    with pytest.raises(UserError) as problem:
        read_results(folder)
    assert "run.json was written by another version of lmdbench" in str(problem.value)
    assert "(format 2; this one reads 1)" in str(problem.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "id": "x"}'])
def test_a_damaged_record_is_named(folder: Path, fake_run: FakeRun, content: str) -> None:
    (fake_run() / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json") as problem:
        read_results(folder)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors"])
def test_a_run_whose_weights_alone_are_damaged_stands_in_tables(
    folder: Path, fake_run: FakeRun, name: str
) -> None:
    directory = fake_run()
    (directory / name).write_bytes(b"half")
    os.utime(directory / "done", (1, 1))  # before the weights were written
    assert name in damage(directory)
    results = read_results(folder)
    assert [run.directory for run in results.runs] == [directory]
    assert results.unreadable == ()


def test_groups_are_class_indices_and_dropped_classes_are_no_part_of_them(
    folder: Path, fake_run: FakeRun
) -> None:
    run = Run(fake_run(), read_results(folder).runs[0].record)
    assert run.groups == {"head": [0], "medium": [1, 2], "tail": [3]}
    without = replace(run.record, groups={"head": ["nv"], "tail": ["df", "gone"]})
    assert Run(run.directory, without).groups == {"head": [0], "tail": [3]}


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"backbone": "resnet50"}, "resnet50"),
        ({"weights": "sha256:0123456789abcdef"}, "weights sha256:0123456789ab"),
        ({"image_size": 64}, "image size 64"),
        ({"precision": "float32"}, "precision float32"),
        ({"selection": "best"}, "selection best"),
        ({"split": {"name": "plain", "fingerprint": "a" * 64}}, f"images {'a' * 12}"),
        ({"record": {"groups": {"head": ["nv"]}}}, "groups of head 1 classes"),
        ({"something_new": 3}, "something new 3"),
    ],
)
def test_runs_that_differ_in_more_than_the_method_stand_in_tables_of_their_own(
    folder: Path, fake_run: FakeRun, other: dict[str, Any], word: str
) -> None:
    fake_run("ce", 0)
    fake_run("crt", 0, **other)
    fake_run("crt", 1, **other)
    first, second = sorted(all_blocks(folder), key=lambda block: block.rows[0].label)
    assert [row.seeds for row in first.rows] == [[0]]
    assert [row.seeds for row in second.rows] == [[0, 1]]
    assert word in second.differs
    assert first.differs


def test_of_a_frozen_encoder_no_tuning_is_said(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", backbone="small", tuning="norm")
    fake_run("ce", backbone="small")
    fake_run("ce", backbone="frozen/small")
    titles = {block.differs for block in all_blocks(folder)}
    assert titles == {("small", "tuning norm"), ("small", "tuning full"), ("frozen/small",)}


def test_data_sets_and_splits_need_no_more_words(folder: Path, fake_run: FakeRun) -> None:
    fake_run(dataset="a")
    fake_run(dataset="b")
    fake_run(dataset="b", record={"split_label": "plain-if500"})
    places = [(b.setting["results_name"], b.setting["split_label"]) for b in all_blocks(folder)]
    assert places == [("a", "plain-if100"), ("b", "plain-if100"), ("b", "plain-if500")]
    assert all(block.differs == () for block in all_blocks(folder))


def test_one_row_a_choice_of_settings_over_its_seeds(folder: Path, fake_run: FakeRun) -> None:
    for seed in (2, 0, 1):
        fake_run("ce", seed)
        fake_run("ce", seed, settings={"epochs": 20, "lr": 0.1})
    fake_run("ce", 0, method_version=2, settings={"epochs": 20, "lr": 0.1})
    assert rows(folder) == {
        "ce": [0, 1, 2],
        "ce (epochs=20, lr=0.1) [version=1]": [0, 1, 2],
        "ce (epochs=20, lr=0.1) [version=2]": [0],
    }


def test_rows_with_equal_labels_are_told_apart_by_what_differs(
    folder: Path, fake_run: FakeRun
) -> None:
    fake_run("ce", settings={"epochs": 20}, record={"changed_settings": {}})
    fake_run("ce")
    assert set(rows(folder)) == {"ce [epochs=20]", "ce [epochs=100]"}


def test_long_values_are_cut_in_labels_that_stay_different(folder: Path, fake_run: FakeRun) -> None:
    for end in ("a", "b"):
        fake_run("ce", settings={"note": "x" * 300 + end})
    fake_run("crt", settings={"note": "y" * 300})
    first, second, other = rows(folder)
    assert other == f"crt (note={'y' * 39}…)"
    for label in (first, second):
        assert label.startswith(f"ce (note={'x' * 39}…) [note={'x' * 31}…")
        assert len(label) < 110
    assert first != second


def test_the_chain_of_ancestors_makes_rows(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1):
        ce = fake_run("ce", seed)
        rrl = fake_run("rrl", seed)
        short = fake_run("rrl", seed, settings={"epochs": 5})
        fake_run("lmd", seed, ancestor=rrl)
        fake_run("lmd", seed, ancestor=ce)
        fake_run("lmd", seed, ancestor=short)
        fake_run("lmd", seed, ancestor=rrl, settings={"rounds": 20})
    assert {label: seeds for label, seeds in rows(folder).items() if "lmd" in label} == {
        "lmd ← rrl": [0, 1],
        "lmd ← ce": [0, 1],
        "lmd ← rrl (epochs=5)": [0, 1],
        "lmd (rounds=20) ← rrl": [0, 1],
    }


def test_an_ancestor_further_back_counts_too(folder: Path, fake_run: FakeRun) -> None:
    for settings in ({}, {"epochs": 5}):
        crt = fake_run("crt", ancestor=fake_run("ce", settings=settings))
        fake_run("third", ancestor=crt)
    assert {label for label in rows(folder) if "third" in label} == {
        "third ← crt ← ce",
        "third ← crt ← ce (epochs=5)",
    }


def test_an_ancestor_recorded_as_the_usual_one_goes_unsaid(folder: Path, fake_run: FakeRun) -> None:
    ce, rrl = fake_run("ce"), fake_run("rrl")
    for ancestor, usual in ((rrl, True), (ce, False)):
        run = fake_run("lmd", ancestor=ancestor)
        record = json.loads((run / "run.json").read_text())
        change(run, ancestor={**record["ancestor"], "usual": usual})
    assert {label for label in rows(folder) if "lmd" in label} == {"lmd", "lmd ← ce"}


def test_rows_go_by_names_that_tell_them_apart_and_a_note_says_the_rest(
    folder: Path, fake_run: FakeRun
) -> None:
    given = {}
    for seed in (0, 1):
        ce = fake_run("ce", seed, settings={"epochs": 5})
        rrl = fake_run("rrl", seed, settings={"epochs": 5, "weight": 2.0})
        lmd = fake_run("lmd", seed, ancestor=rrl)
        plain = fake_run("lmd", seed, ancestor=ce, settings={"epochs": 5})
        given |= {ce: "ce", rrl: "rrl", lmd: "lmd", plain: "w/o RRL"}
    (block,) = all_blocks(folder)
    found = renamed(block, given)
    assert [row.label for row in found.rows] == ["ce", "lmd", "w/o RRL", "rrl"]
    assert found.remarks == (
        "Settings, where a method has them and nothing else is said: epochs=5.",
        "Besides: lmd (epochs=100) ← rrl (weight=2); w/o RRL is lmd ← ce; rrl (weight=2).",
    )


def test_a_name_that_several_rows_would_have_is_given_to_none(
    folder: Path, fake_run: FakeRun
) -> None:
    given = {fake_run("ce"): "mine", fake_run("ce", settings={"epochs": 5}): "mine"}
    (block,) = all_blocks(folder)
    assert renamed(block, given) == block


def test_an_ancestor_under_another_results_folder_is_found(
    folder: Path, fake_run: FakeRun, tmp_path: Path
) -> None:
    elsewhere = fake_run("ce", results=tmp_path / "elsewhere", settings={"epochs": 5})
    fake_run("crt", ancestor=elsewhere)
    assert set(rows(folder)) == {"crt ← ce (epochs=5)"}


def test_an_ancestor_that_is_gone_is_said_to_be(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1):
        ce = fake_run("ce", seed)
        fake_run("crt", seed, ancestor=ce)
        shutil.rmtree(ce)
    (block,) = all_blocks(folder)
    (row,) = block.rows
    assert (row.label, row.seeds) == ("crt ← ce", [0, 1])
    assert row.remarks == ("the ce run it started from is gone, so its settings are not checked",)


def with_digests(directory: Path, **digests: str) -> Path:
    record = json.loads((directory / "run.json").read_text())
    change(directory, digests={**record.get("digests", {}), **digests})
    return directory


def test_seeds_of_other_files_of_the_same_published_weights_stand_apart(
    folder: Path, fake_run: FakeRun
) -> None:
    for seed, file in enumerate(("one", "one", "two")):
        with_digests(fake_run("ce", seed), weights=file)
    assert rows(folder) == {
        "ce [file of weights=one]": [0, 1],
        "ce [file of weights=two]": [2],
    }


def trained_anew(directory: Path, *, keep: bool, **digests: str) -> Path:
    """The run's place with other digests; what lay there is moved aside, or gone."""
    if keep:
        shutil.copytree(directory, directory.with_name(f"{directory.name}.old-20250101-000000"))
    return with_digests(directory, **digests)


@pytest.mark.parametrize("keep", [True, False], ids=["moved aside", "gone"])
@pytest.mark.parametrize("known", [True, False], ids=["chosen too", "elsewhere"])
def test_an_ancestor_trained_anew_is_not_what_a_run_started_from(
    folder: Path, fake_run: FakeRun, tmp_path: Path, keep: bool, known: bool
) -> None:
    place = folder if known else tmp_path / "elsewhere"
    ce = [fake_run("ce", seed, results=place) for seed in (0, 1, 2, 3)]
    for seed, directory in enumerate(ce):
        with_digests(directory, method="before", model=f"model {seed}")
        crt = fake_run("crt", seed, ancestor=directory)
        with_digests(crt, ancestor="model of now" if seed > 1 else f"model {seed}")
    for directory in (ce[0], ce[2], ce[3]):
        trained_anew(directory, keep=keep, method="now", model="model of now")
    found = {label: seeds for label, seeds in rows(folder).items() if "crt" in label}
    (block,) = all_blocks(folder)
    notes = {row.label: row.remarks for row in block.rows}
    before, now = "crt ← ce [ce.code=before]", "crt ← ce [ce.code=now]"
    if keep:
        assert found == {before: [0, 1], now: [2, 3]}
        (note,) = notes[before]
        aside = f"ce/{ce[0].name}.old-20250101-000000"
        assert note == f"seed 0 started from {aside}, which was trained anew since"
    else:
        anew = "crt ← ce (trained anew since)"
        assert sorted(found.values()) == [[0], [1], [2, 3]]
        assert found[anew] == [0]
        assert "by which code it was trained before is not known" in " ".join(notes[anew])
        assert sum("trained anew" in note for notes_of in notes.values() for note in notes_of) == 1


def test_an_ancestor_trained_anew_by_the_same_code_parts_no_seeds(
    folder: Path, fake_run: FakeRun
) -> None:
    for seed in (0, 1):
        ce = with_digests(fake_run("ce", seed), method="code", model=f"model {seed}")
        with_digests(fake_run("crt", seed, ancestor=ce), ancestor=f"model {seed}")
    trained_anew(ce, keep=True, model="by another GPU")
    assert rows(folder) == {"ce": [0, 1], "crt ← ce": [0, 1]}


def test_runs_that_another_model_began_stand_apart_whichever_that_was(
    folder: Path, fake_run: FakeRun
) -> None:
    for seed in range(4):
        ce = with_digests(fake_run("ce", seed), model=f"model {seed}")
        crt = with_digests(fake_run("crt", seed, ancestor=ce), ancestor=f"model {seed}")
        if seed > 1:
            with_digests(crt, begun_ancestor=f"another of seed {seed}")
    (block,) = all_blocks(folder)
    found = {row.label: (row.seeds, row.remarks) for row in block.rows if row.method == "crt"}
    note = "its training was begun from another model than it was finished"
    assert found == {
        "crt ← ce [begun from model=–]": ([0, 1], ()),
        "crt ← ce [begun from model=another]": ([2, 3], (note,)),
    }


def test_what_is_behind_an_ancestor_trained_anew_is_not_known_either(
    folder: Path, fake_run: FakeRun
) -> None:
    ce = with_digests(fake_run("ce"), method="code", model="model")
    crt = with_digests(fake_run("crt", ancestor=ce), ancestor="model", model="second")
    run = with_digests(fake_run("lws", ancestor=crt), ancestor="second")
    trained_anew(crt, keep=False, model="other")
    (block,) = all_blocks(folder)
    (row,) = [row for row in block.rows if row.method == "lws"]
    assert row.label == "lws ← crt (trained anew since) ← ce"
    assert [dict(link.code) for link in row.chain] == [{}, {}, {}]
    assert row.runs[0].above == ()
    assert ancestor_of(row.runs[0]) is None
    assert run == row.runs[0].directory


def test_an_ancestor_with_other_weights_makes_another_row(folder: Path, fake_run: FakeRun) -> None:
    fake_run("crt", ancestor=fake_run("ce"))
    fake_run("crt", ancestor=fake_run("ce", weights="none"))
    labels = {row.label for block in all_blocks(folder) for row in block.rows}
    assert labels == {"ce", "crt ← ce", "crt ← ce (weights=none)"}


def test_seeds_that_share_an_ancestor_are_a_row_of_their_own_with_a_note(
    folder: Path, fake_run: FakeRun
) -> None:
    ce = [fake_run("ce", seed) for seed in (0, 1)]
    for seed in (0, 1, 2):
        fake_run("crt", seed, ancestor=ce[0])
    (block,) = all_blocks(folder)
    (row,) = [row for row in block.rows if row.method == "crt"]
    assert row.seeds == [0, 1, 2]
    assert row.remarks == (
        "3 seeds start from 1 ce run, so deviation and intervals leave out the chance of that "
        "training",
    )
    assert row.shares_start
    fake_run("crt", 1, ancestor=ce[1])
    (block,) = all_blocks(folder)
    crt = [row for row in block.rows if row.method == "crt"]
    assert sorted(row.seeds for row in crt) == [[0, 1], [0, 1, 2]]
    assert len({row.label for row in crt}) == 2


def test_seeds_that_share_a_run_further_back_share_a_start(folder: Path, fake_run: FakeRun) -> None:
    ce = fake_run("ce")
    own = [fake_run("ce", seed) for seed in (1, 2)]
    for seed, first in enumerate((ce, *own)):
        fake_run("lws", seed, ancestor=fake_run("crt", seed, ancestor=first))
    for seed in (0, 1, 2):
        fake_run("balms", seed, ancestor=fake_run("rrl", seed, ancestor=ce))
    (block,) = all_blocks(folder)
    rows = {row.method: row for row in block.rows}
    assert {m: row.shares_start for m, row in rows.items()} == {
        "ce": False,
        "crt": False,
        "lws": False,
        "rrl": True,
        "balms": True,
    }
    (remark,) = rows["balms"].remarks
    assert remark.startswith("3 seeds start from 1 ce run, so")


def test_of_two_copies_of_a_run_the_newer_counts(folder: Path, fake_run: FakeRun) -> None:
    first = fake_run("ce", 0)
    second = first.with_name("seed0-copy")
    shutil.copytree(first, second)
    os.utime(second / "done", (1, 1))
    (block,) = all_blocks(folder)
    (row,) = block.rows
    assert [run.directory for run in row.runs] == [first]
    assert row.remarks == (f"seed0-copy is left out for {first.name}, the same run finished later",)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "none"), (0.1, "0.1"), (1e-05, "1e-05"), (5, "5"), ([1, 2.5], "1,2.5")],
)
def test_settings_read_as_they_are_set(value: Any, text: str) -> None:
    assert setting_text(value) == text


def test_a_float_keeps_its_digits() -> None:
    assert float(setting_text(0.123456789)) == 0.123456789


def test_weights_of_a_file_are_cut_short() -> None:
    assert short_weights("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert short_weights("IMAGENET1K_V1") == "IMAGENET1K_V1"
