"""What runs there are, in whatever state, and which are meant."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.housekeeping.inventory import Filters, KeptRun, choose, disk_usage, read_inventory

FakeRun = Callable[..., Path]


def one(results: Path, method: str = "ce") -> KeptRun:
    (run,) = [run for run in read_inventory(results) if run.method == method]
    return run


def test_a_run_of_each_state_is_there_and_told(fake_run: FakeRun, tmp_path: Path) -> None:
    results = tmp_path / "results"
    fake_run("ce")
    failed = fake_run("focal", state="failed.txt")
    (failed / "failed.txt").write_text("out of GPU memory: try less\n\nTraceback\n")
    fake_run("crt", state=None)
    running = fake_run("lws", state=None)
    begun = results / "skin" / "plain-if100" / "rs" / "seed3-0123abcd"
    begun.mkdir(parents=True)
    aside = fake_run("rw")
    aside.rename(aside.with_name(f"{aside.name}.old-20260101-000000"))
    claim = Claim(running / "running.json")
    assert claim.acquire()
    try:
        runs = {run.method: run for run in read_inventory(results)}
    finally:
        claim.release()
    states = {name: run.state for name, run in runs.items()}
    assert states == {
        "ce": "finished",
        "focal": "failed",
        "crt": "interrupted",
        "lws": "running",
        "rs": "missing",
    }
    assert runs["focal"].note == "out of GPU memory: try less"
    assert (runs["rs"].seed, runs["rs"].id, runs["rs"].settings) == (3, "0123abcd", {})
    assert runs["focal"].scores == {}


def test_scores_are_those_that_compare_has(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", skill=1.3)
    run = one(tmp_path / "results")
    (table,) = compare(read_results(tmp_path / "results"), reference="ce").tables
    cells = table.rows[0].cells
    assert run.scores == {name: cells[name].mean for name in run.scores}
    assert set(run.scores) == {"balanced_accuracy", "head", "medium", "tail"}


def test_a_group_without_test_images_has_no_score(fake_run: FakeRun, tmp_path: Path) -> None:
    labels = np.array([0, 1, 1, 2])
    fake_run("ce", test=(labels, np.eye(4)[labels]))
    scores = one(tmp_path / "results").scores
    assert scores == {"balanced_accuracy": 1.0, "head": 1.0, "medium": 1.0, "tail": None}


def test_a_damaged_record_and_damaged_predictions_hide_no_run(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    (fake_run("ce") / "run.json").write_text("{")
    (fake_run("focal") / "predictions.npz").write_text("")
    damaged, without = read_inventory(tmp_path / "results")
    assert damaged.note.startswith("run.json: damaged")
    assert (damaged.label, damaged.scores) == ("ce", {})
    assert (damaged.state, without.state, without.scores) == ("damaged", "damaged", {})
    assert without.note == "predictions.npz: damaged, it is empty"


def test_a_claim_that_cannot_be_read_hides_no_run(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce")
    path = fake_run("focal", state=None) / "running.json"
    path.symlink_to(path)
    done, begun = read_inventory(tmp_path / "results")
    assert (done.state, done.note) == ("finished", "")
    assert begun.state == "missing"
    assert begun.note.startswith("running.json: damaged, no file (Too many levels")


def test_the_label_has_first_what_tells_runs_of_a_method_apart(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    for lr in (0.1, 0.2):
        fake_run("ce", settings={"epochs": 5, "lr": lr})
    runs = read_inventory(tmp_path / "results")
    assert {run.label for run in runs} == {"ce (lr=0.1, epochs=5)", "ce (lr=0.2, epochs=5)"}


def test_what_a_run_started_from_is_in_its_label_and_settings(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    ce = fake_run("ce", settings={"epochs": 3})
    fake_run("crt", ancestor=ce, settings={"lr": 0.5})
    crt = one(tmp_path / "results", "crt")
    assert crt.label == "crt (lr=0.5) ← ce (epochs=3)"
    assert crt.settings["ce.epochs"] == 3
    assert crt.settings["lr"] == crt.settings["crt.lr"] == 0.5
    assert crt.above is not None
    assert crt.above.directory == ce


def test_what_is_not_usual_for_the_data_set_is_told(fake_run: FakeRun, tmp_path: Path) -> None:
    usual = {"backbone": "small", "weights": "none", "image_size": 48}
    fake_run("ce", dataset="demo", record={"synthetic": True}, **usual)
    fake_run(
        *("focal", 0), dataset="demo", record={"synthetic": True}, backbone="resnet50",
        weights=f"sha256:{'a' * 64}", image_size=96, selection="best", precision="float32",
    )  # fmt: skip
    ce, focal = read_inventory(tmp_path / "results")
    assert ce.setup == ()
    assert focal.setup == (
        *("resnet50", "weights sha256:aaaaaaaaaaaa", "96 px", "selection best", "float32"),
    )


def test_size_and_age(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce")
    (directory / "tensorboard").mkdir()
    (directory / "tensorboard" / "events").write_bytes(b"x" * 1000)
    os.symlink(tmp_path, directory / "link")
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    wanted = sum(path.stat().st_size for path in files) + (directory / "link").lstat().st_size
    assert one(tmp_path / "results").size == disk_usage(directory) == wanted
    os.utime(directory / "done", (1000, 1000))
    assert one(tmp_path / "results").when == 1000
    (directory / "done").unlink()
    assert time.time() - one(tmp_path / "results").when < 60


def test_the_last_epoch_is_that_of_the_history(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce", state=None)
    assert one(tmp_path / "results").epoch is None
    (directory / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    assert one(tmp_path / "results").epoch == 2


@pytest.fixture
def several(fake_run: FakeRun, tmp_path: Path) -> list[KeptRun]:
    for seed in (0, 1):
        ce = fake_run("ce", seed, settings={"lr": 0.1, "nesterov": True})
        fake_run("crt", seed, ancestor=ce, state="done" if seed == 0 else "failed.txt")
    fake_run("ce", 0, dataset="other", settings={"lr": 0.2}, state=None)
    return read_inventory(tmp_path / "results")


def keys(runs: list[KeptRun]) -> list[tuple[str, str, int]]:
    return [(run.data_set, run.method, run.seed) for run in runs]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (Filters(), 5),
        (Filters(methods=["crt"]), 2),
        (Filters(datasets=["other"]), 1),
        (Filters(splits=["plain-if100"], seeds=[0]), 3),
        (Filters(settings={"lr": "1e-1"}), 2),
        (Filters(settings={"ce.lr": "0.10"}), 4),
        (Filters(settings={"nesterov": "True", "epochs": "100"}), 2),
        (Filters(unfinished=True), 2),
        (Filters(failed=True), 1),
        (Filters(other_code=lambda run: "x" if run.method == "crt" else ""), 2),
    ],
)
def test_filters_leave_what_they_say(several: list[KeptRun], filters: Filters, left: int) -> None:
    assert len(choose(several, filters)) == left
    assert filters.chooses == (left < 5)


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (Filters(methods=["crtt"]), "unknown method (of the runs that are here) 'crtt'. Did you"),
        (Filters(datasets=["othr"]), "Did you mean other?"),
        (Filters(splits=["plain"]), "Did you mean plain-if100?"),
        (Filters(settings={"lrr": "1"}), "Did you mean lr"),
        (Filters(settings={"lr": "0.3"}), "no run has lr=0.3; there are 0.01, 0.1, 0.2"),
        (Filters(methods=["crt"], datasets=["other"]), "leave something out"),
        (Filters(seeds=[7]), "leave something out"),
    ],
)
def test_what_no_run_has_is_named(several: list[KeptRun], filters: Filters, said: str) -> None:
    with pytest.raises(UserError) as error:
        choose(several, filters)
    assert said in str(error.value)


def test_two_directories_with_one_id_are_both_there(fake_run: FakeRun, tmp_path: Path) -> None:
    import shutil

    ce = fake_run("ce")
    shutil.copytree(ce, ce.with_name(f"{ce.name}-copy"))
    first, second = read_inventory(tmp_path / "results")
    assert first.id == second.id
    assert json.loads((second.directory / "run.json").read_text())["id"] == first.id


def test_equal_labels_of_one_seed_get_what_differs_added(fake_run: FakeRun, tmp_path: Path) -> None:
    """Settings that were not changed by the user, but asked for by what starts from a run."""
    for decay in (0.0, 0.005):
        fake_run(settings={"weight_decay": decay}, record={"changed_settings": {"lr": 0.01}})
    fake_run("ce", 1, settings={"weight_decay": 0.1}, record={"changed_settings": {"lr": 0.01}})
    labels = [run.label for run in read_inventory(tmp_path / "results")]
    assert sorted(labels) == [
        "ce (lr=0.01)",
        "ce (lr=0.01) [weight_decay=0.005]",
        "ce (lr=0.01) [weight_decay=0]",
    ]
