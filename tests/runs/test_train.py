"""Runs as they happen: resume after SIGKILL, claims, stale code, full disks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lmdbench.comparison.results import read_results, run_groups
from lmdbench.runs.record import read_record
from lmdbench.runs.state import last_error
from lmdbench.runs.train import gpu_changes, versions_before
from lmdbench.training.method import METHODS

TOY = {"dotted": 4, "rare": 1, "round": 20, "striped": 8}  # training images of the toy folder
SHORT = ("--set", "epochs=2")


def run_directories(results: Path, method: str) -> list[Path]:
    """Of finished runs, those moved aside left out."""
    found = (p.parent for p in results.glob(f"*/*/{method}/seed*/done"))
    return sorted(directory for directory in found if ".old-" not in directory.name)


def predictions(results: Path, method: str) -> dict[str, np.ndarray]:
    (directory,) = run_directories(results, method)
    with np.load(directory / "predictions.npz") as arrays:
        return dict(arrays)


def test_a_run_leaves_its_whole_record(toy_run, tmp_path):
    assert toy_run("ce", *SHORT).code == 0
    (directory,) = run_directories(tmp_path / "results", "ce")
    assert {path.name for path in directory.iterdir()} == {
        "run.json",
        "history.csv",
        "predictions.npz",
        "model.safetensors",
        "run.log",
        "attempts.jsonl",
        "done",
    }
    record = json.loads((directory / "run.json").read_text())
    assert (
        record["class_counts"]["train"] == [8, 20, 1, 4]
        or sum(record["class_counts"]["train"]) == 33
    )
    assert record["spec"]["settings"]["epochs"] == 2
    assert record["versions"]["torch"]
    saved = predictions(tmp_path / "results", "ce")
    assert saved["test_logits"].shape == (12, 4)
    assert saved["validation_logits"].shape == (8, 4)
    assert "one training image only: rare" in (directory / "run.log").read_text()


def test_a_finished_run_is_not_run_again(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    (directory,) = run_directories(tmp_path / "results", "ce")
    before = {p.name: p.stat().st_mtime_ns for p in directory.iterdir()}
    again = toy_run("ce", *SHORT)
    assert again.code == 0
    assert "finished" in again.err
    assert {p.name: p.stat().st_mtime_ns for p in directory.iterdir()} == before


def test_methods_with_one_seed_train_their_ancestor_once(toy_run, tmp_path):
    for method in ("crt", "lws", "balms"):
        assert toy_run(method, *SHORT, "--set", "ce.epochs=2").code == 0
    (directory,) = run_directories(tmp_path / "results", "ce")
    assert json.loads((directory / "run.json").read_text())["attempts"] == 1


def test_the_same_seed_gives_the_same_predictions(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    first = predictions(tmp_path / "results", "ce")
    toy_run("ce", *SHORT, "--force")
    again = predictions(tmp_path / "results", "ce")
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert list((tmp_path / "results").glob("*/*/ce/*.old-*"))


def test_seeds_differ(toy_run, tmp_path):
    toy_run("ce", *SHORT, "--seeds", "0-1")
    one, two = run_directories(tmp_path / "results", "ce")
    logits = [np.load(d / "predictions.npz")["test_logits"] for d in (one, two)]
    assert not np.array_equal(*logits)


@pytest.fixture
def start(copies, toy_folder):
    """Starts ``lmdbench run``, as ``toy_run`` would, in a process of its own."""

    def call(results, method, *words):
        return copies.popen(
            [
                *(sys.executable, "-m", "lmdbench", "run", "--method", method),
                *("--dataset", "folder", "--data-root", toy_folder, "--backbone", "small"),
                *("--image-size", "24", "--results", results, *words),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return call


def wait_for_checkpoint(results: Path, method: str, process: subprocess.Popen) -> None:
    wait_for_file(results, method, "checkpoint.pt", process)


def wait_for_file(results: Path, method: str, name: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if list(results.glob(f"*/*/{method}/seed*/{name}")):
            return
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("balms", ("--set", "epochs=80", "--set", "ce.epochs=2")),
        ("rrl", ("--set", "epochs=60", "--selection", "best")),
        ("lmd", ("--set", "rounds=25", "--set", "virtual_per_class=300", "--set", "rrl.epochs=2")),
        (
            "lmd-released",
            ("--set", "rounds=25", "--set", "virtual_per_class=300", "--set", "rrl.epochs=2"),
        ),
        (
            "ce",
            (
                *("--tuning", "lora:rank=2", "--set", "epochs=60", "--set", "batch_size=8"),
                *("--set", "optimizer=adamw", "--set", "warmup=0.5", "--set", "accumulate=2"),
                *("--set", "layer_decay=0.8", "--set", "clip_norm=1"),
            ),
        ),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(toy_run, start, tmp_path, method, words):
    """SIGKILL at some moment after the first checkpoint; the second attempt goes on."""
    assert toy_run(method, *words).code == 0
    whole = predictions(tmp_path / "results", method)

    results = tmp_path / "killed"
    process = start(results, method, *words)
    wait_for_checkpoint(results, method, process)
    time.sleep(np.random.default_rng(os.getpid()).uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "finished before it was killed: make it longer"
    assert not run_directories(results, method)

    second = toy_run(method, *words, "--results", results)
    assert second.code == 0
    assert "resuming after epoch" in second.err
    resumed = predictions(results, method)
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    (directory,) = run_directories(results, method)
    assert json.loads((directory / "run.json").read_text())["attempts"] == 2
    assert not [p for p in directory.iterdir() if p.name.startswith(".")]


def test_a_run_that_broke_before_its_first_epoch_begins_again_after_its_code_was_mended(
    toy_run, tmp_path
):
    path = tmp_path / f"mended_{tmp_path.name}.py"
    name = f"mended-{tmp_path.name.replace('_', '-')}"

    def write(loss):
        path.write_text(
            "from lmdbench.training.method import Method, register_method\n\n\n"
            f"@register_method({name!r})\nclass Mended(Method):\n"
            f"    def loss(self, batch):\n        return {loss}\n"
        )

    write("1 / 0")
    assert toy_run(name, "--plugin", path, "--set", "epochs=1").code != 0
    write("self.model(batch.images).square().mean()")
    for loaded in [key for key in sys.modules if key == f"lmdbench_plugin_{path.stem}"]:
        del sys.modules[loaded]
    METHODS._things.pop(name)
    again = toy_run(name, "--plugin", path, "--set", "epochs=1")
    assert again.code == 0, again.err
    assert len(list((tmp_path / "results").glob(f"*/*/{name}/*"))) == 1


def test_a_plug_ins_source_is_kept_and_a_built_in_methods_is_not(toy_run, tmp_path):
    path = tmp_path / f"kept_{tmp_path.name}.py"
    helper = tmp_path / f"helps_{tmp_path.name}.py"
    name = f"kept-{tmp_path.name.replace('_', '-')}"
    helper.write_bytes(b"SCALE = 2.0\r\n# as it is\n")
    path.write_text(
        f"import torch\nfrom {helper.stem} import SCALE\n"
        "from lmdbench.training.method import Method, register_method\n\n\n"
        f"@register_method({name!r})\nclass Kept(Method):\n    starts_from = 'ce'\n\n"
        "    def loss(self, batch):\n        return SCALE * self.model(batch.images).sum() * 0\n"
    )
    done = toy_run(name, "--plugin", path, "--set", "epochs=1", "--set", "ce.epochs=1")
    assert done.code == 0, done.err
    (own,), (ce,) = (run_directories(tmp_path / "results", method) for method in (name, "ce"))
    kept = {file.name: file.read_bytes() for file in (own / "plugins").iterdir()}
    assert kept == {file.name: file.read_bytes() for file in (path, helper)}
    assert not (ce / "plugins").exists()
    # What a plug-in imports is called as in the runs of others: torch with its build
    assert read_record(own).versions == read_record(ce).versions
    assert read_record(own).versions["torch"] == torch.__version__


def test_versions_and_execution_that_differ_between_attempts_are_recorded_and_named(
    toy_run, start, tmp_path, lmdbench, rewrite_record
):
    results, words = tmp_path / "results", ("--set", "epochs=60")
    process = start(results, "ce", *words)
    wait_for_checkpoint(results, "ce", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = results.glob("*/*/ce/seed*/run.json")
    rewrite_record(path.parent, lambda record: record["versions"].update(torch="1.0"))
    rewrite_record(path.parent, lambda record: record.update(execution="compiled"))
    record = json.loads(path.read_text())
    told = toy_run("ce", *words).err
    assert "goes on with other versions" in told
    assert "goes on with other execution (plain) than it began with (compiled)" in told
    after = json.loads(path.read_text())
    assert after["begun_versions"] == record["versions"]
    assert after["versions"]["torch"] == torch.__version__
    shown = lmdbench("compare", "--results", results).out
    assert f"its seeds are of torch 1.0 and {torch.__version__}" in " ".join(shown.split())


def test_versions_of_all_attempts_are_kept(trained_run):
    record = replace(read_record(trained_run), versions={"torch": "1", "numpy": "1"})
    assert versions_before(record, record.versions) is None
    second = {"torch": "2", "numpy": "1"}
    begun = versions_before(record, second)
    assert begun == record.versions
    record = replace(record, versions=second, begun_versions=begun)
    assert versions_before(record, second) == begun
    assert versions_before(record, {"torch": "3"}) == {"torch": "1, 2", "numpy": "1"}


def test_what_of_a_gpu_changed():
    before = {"driver": "535.1", "cudnn": 90100, "tf32_products": False}
    now = {**before, "driver": "580.9", "cuda": "13.0"}
    assert gpu_changes(before, now) == {"GPU driver": ("535.1", "580.9")}
    assert gpu_changes(None, now) == gpu_changes(before, None) == {}


def test_goes_on_from_another_ancestor_and_other_images_and_says_so(
    toy_run, start, tmp_path, lmdbench, rewrite_record
):
    results, words = tmp_path / "results", ("--set", "epochs=60", "--set", "ce.epochs=1")
    process = start(results, "crt", *words)
    wait_for_checkpoint(results, "crt", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = results.glob("*/*/crt/seed*/run.json")
    record = json.loads(path.read_text())
    now = record["digests"]
    before = {"ancestor": "a" * 64, "store": "b" * 64}
    rewrite_record(path.parent, lambda record: record["digests"].update(before))
    assert "have changed since this run" in toy_run("crt", *words).err
    goes_on = toy_run("crt", *words, "--accept-changed")
    assert goes_on.code == 0
    assert "goes on with other starting weights (changed) than it began with (aaaa" in goes_on.err
    after = json.loads(path.read_text())["digests"]
    own = dict.fromkeys(("model", "predictions", "history", "record"))
    assert {**after, **own} == {
        **now,
        "begun_store": before["store"],
        "begun_ancestor": before["ancestor"],
        **own,
    }
    shown = " ".join(lmdbench("compare", "--results", results).out.split())
    assert (
        "its training was begun with other images and from another model than it was finished"
        in shown
    )


def test_of_epochs_that_score_alike_the_first_is_the_best(toy_run, tmp_path):
    still = ("--set", "lr=0", "--set", "epochs=4", "--selection", "best")
    assert toy_run("lws", "--set", "ce.epochs=2", *still).code == 0
    (directory,) = (tmp_path / "results").glob("*/*/lws/seed*")
    history = pd.read_csv(directory / "history.csv")["validation_balanced_accuracy"]
    assert history.nunique() == 1
    assert json.loads((directory / "run.json").read_text())["selected_epoch"] == 1


@pytest.mark.parametrize("moment", ["running.json", "history.csv", "predictions.npz"])
def test_killed_at_the_beginning_and_at_the_end(toy_run, start, tmp_path, moment):
    """Before the first epoch is saved, right after it, and while the results are written."""
    words = ("--set", "epochs=3")
    toy_run("ce", *words)
    whole = predictions(tmp_path / "results", "ce")
    results = tmp_path / "killed"
    process = start(results, "ce", *words)
    wait_for_file(results, "ce", moment, process)
    process.kill()
    process.communicate()
    assert toy_run("ce", *words, "--results", results).code == 0
    resumed = predictions(results, "ce")
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_interrupt_says_how_to_go_on(start, tmp_path):
    process = start(tmp_path / "results", "ce", "--set", "epochs=2000")
    wait_for_checkpoint(tmp_path / "results", "ce", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in err
    assert "Traceback" not in err


def test_a_run_that_another_worker_trains_is_waited_for(start, tmp_path):
    """Two commands at once need the same ancestor: it is trained once, both finish."""
    words = ("--set", "epochs=2", "--set", "ce.epochs=15")
    both = [start(tmp_path / "results", m, *words) for m in ("crt", "lws")]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    (directory,) = run_directories(tmp_path / "results", "ce")
    assert json.loads((directory / "run.json").read_text())["attempts"] == 1


PLUGIN = """
from torch.nn.functional import cross_entropy
from lmdbench.training.method import Method, register_method

@register_method("{name}")
class Mine(Method):
    def loss(self, batch):
        return {loss}
"""
LOSS = "cross_entropy(self.model(batch.images), batch.labels)"


def test_a_run_made_by_other_code_is_refused(toy_run, tmp_path):
    path = tmp_path / "changing_method.py"
    path.write_text(PLUGIN.format(name="changing", loss=LOSS))
    words = ("--plugin", path, *SHORT)
    assert toy_run("changing", *words).code == 0
    path.write_text(PLUGIN.format(name="changing", loss=f"2 * {LOSS}"))
    refused = toy_run("changing", *words)
    assert refused.code == 2
    assert "the code of changing has changed" in refused.err
    assert len(refused.err.strip().splitlines()[-1].split("\n")) == 1
    assert toy_run("changing", *words, "--accept-changed").code == 0
    assert not list((tmp_path / "results").glob("*/*/changing/*.old-*"))
    assert toy_run("changing", *words, "--force").code == 0
    assert list((tmp_path / "results").glob("*/*/changing/*.old-*"))


def test_seeds_from_before_and_after_a_change_of_their_ancestor_stand_apart(toy_run, tmp_path):
    base, upper = tmp_path / "base_method.py", tmp_path / "upper_method.py"
    base.write_text(PLUGIN.format(name="base", loss=LOSS))
    later = PLUGIN.format(name="upper", loss=LOSS)
    upper.write_text(later.replace("def loss", "starts_from = 'base'\n\n    def loss"))
    words = ("--plugin", base, "--plugin", upper, "--set", "epochs=1", "--quiet")
    assert toy_run("upper", *words, "--set", "base.epochs=1").code == 0
    base.write_text(PLUGIN.format(name="base", loss=f"2 * {LOSS}"))
    del sys.modules["lmdbench_plugin_base_method"]
    METHODS._things.pop("base")
    assert toy_run("base", *words, "--force").code == 0
    words = (*words, "--set", "base.epochs=1")
    assert "trained anew" in toy_run("upper", *words).err
    assert toy_run("upper", *words, "--seeds", 1).code == 0
    results = tmp_path / "results"

    def upper_rows() -> dict[str, list[int]]:
        found = read_results(results)
        (group,) = run_groups(found, found.runs)
        return {row.label: row.seeds for row in group.rows if row.method == "upper"}

    assert sorted(upper_rows().values()) == [[0], [1]]
    assert all("base.code=" in label for label in upper_rows())
    (aside,) = results.glob("*/*/base/*.old-*")
    shutil.rmtree(aside)
    assert sorted(upper_rows().values()) == [[0], [1]]
    assert any("base (" in label and "trained anew since" in label for label in upper_rows())


@pytest.mark.parametrize(
    ("name", "loss", "message"),
    [
        ("raising", "1 / 0", "division by zero"),
        ("diverging", f"{LOSS} * float('nan')", "loss is nan in epoch 1: try a lower"),
    ],
)
def test_a_run_that_breaks_leaves_its_traceback(toy_run, tmp_path, name, loss, message):
    path = tmp_path / f"{name}_method.py"
    path.write_text(PLUGIN.format(name=name, loss=loss))
    outcome = toy_run(name, "--plugin", path, *SHORT)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    (failed,) = (tmp_path / "results").glob(f"*/*/{name}/seed*/failed.txt")
    assert "Traceback" in failed.read_text()
    assert not (failed.parent / "done").exists()


def test_changed_images_make_a_run_stale(toy_run, toy_folder, tmp_path, lmdbench):
    copy = tmp_path / toy_folder.name
    shutil.copytree(toy_folder, copy)
    assert toy_run("ce", *SHORT, "--data-root", copy).code == 0
    (copy / "round-0.png").write_bytes((copy / "round-1.png").read_bytes())
    refused = toy_run("ce", *SHORT, "--data-root", copy)
    assert refused.code == 2
    assert "the images have changed" in refused.err


def test_results_of_another_format_are_refused(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    (directory,) = run_directories(tmp_path / "results", "ce")
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "format": 99}))
    outcome = toy_run("ce", *SHORT)
    assert outcome.code == 2
    assert "another version of lmdbench (format 99" in outcome.err


def test_a_full_disk_loses_nothing(toy_run, toy_folder, tmp_path):
    """A real file system of two megabytes fills up; with room made, the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip("can't mount a small file system here")
    try:
        (disk / "ballast").write_bytes(b"0" * 1_900_000)
        full = toy_run("ce", *SHORT, "--results", disk / "results")
        assert full.code == 2
        assert "no space left" in full.err
        assert not list(disk.glob("results/*/*/ce/seed*/done"))
        (disk / "ballast").unlink()
        assert toy_run("ce", *SHORT, "--results", disk / "results").code == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_given_run_is_never_trained(toy_run, toy_folder, tmp_path):
    """Its images have changed: it is refused, with --force too, and stays where it is."""
    copy = tmp_path / toy_folder.name
    shutil.copytree(toy_folder, copy)
    toy_run("crt", *SHORT, "--set", "ce.epochs=1", "--data-root", copy)
    (crt,) = run_directories(tmp_path / "results", "crt")
    (copy / "round-0.png").write_bytes((copy / "round-1.png").read_bytes())
    words = ("--starts-from", crt, "--data-root", copy)
    for extra in ((), ("--force",)):
        refused = toy_run("lws", *SHORT, *words, *extra)
        assert refused.code == 2
        assert "the images have changed" in refused.err
        assert "--force" not in refused.err
    assert run_directories(tmp_path / "results", "crt") == [crt]
    assert toy_run("lws", *SHORT, *words, "--accept-changed").code == 0


def test_an_ancestor_that_is_gone_is_not_trained_again(toy_run, tmp_path):
    words = (*SHORT, "--set", "ce.epochs=1")
    toy_run("crt", *words)
    (ce,) = run_directories(tmp_path / "results", "ce")
    shutil.rmtree(ce)
    assert toy_run("crt", *words).code == 0
    assert not ce.exists()


def test_forced_and_interrupted_goes_on(toy_run, start, tmp_path):
    """The same command with --force does not throw away what it has begun anew."""
    words = ("--set", "epochs=60", "--force")
    toy_run("ce", *words)
    process = start(tmp_path / "results", "ce", *words)
    wait_for_checkpoint(tmp_path / "results", "ce", process)
    process.kill()
    process.communicate()
    assert "resuming after epoch" in toy_run("ce", *words).err


def test_a_failing_seed_does_not_stop_the_others(toy_run, tmp_path):
    path = tmp_path / "one_seed_fails.py"
    loss = f"{LOSS} / (self.task.streams.seed != 0)"
    path.write_text(PLUGIN.format(name="one-seed-fails", loss=loss))
    outcome = toy_run("one-seed-fails", "--plugin", path, *SHORT, "--seeds", "0-1")
    assert outcome.code == 1
    assert "1 of 2 runs failed" in outcome.err
    (done,) = run_directories(tmp_path / "results", "one-seed-fails")
    assert done.name.startswith("seed1")
    assert str(done) in outcome.out


def test_a_failure_begins_with_its_reason(toy_run, tmp_path):
    path = tmp_path / "fails_at_length.py"
    loss = f"{LOSS} + self.fail()\n\n    def fail(self):\n        raise OverflowError('a\\nb\\nc')"
    path.write_text(PLUGIN.format(name="fails-at-length", loss=loss))
    assert toy_run("fails-at-length", "--plugin", path, *SHORT).code == 1
    (failed,) = (tmp_path / "results").glob("*/*/fails-at-length/seed*/failed.txt")
    assert last_error(failed.parent) == "OverflowError: a"
    assert "Traceback" in failed.read_text()
    assert "Traceback" in (failed.parent / "run.log").read_text()


def test_stale_runs_are_refused_before_anything_is_trained(toy_run, tmp_path):
    path = tmp_path / "later_stale.py"
    path.write_text(PLUGIN.format(name="later-stale", loss=LOSS))
    words = ("--plugin", path, *SHORT)
    toy_run("later-stale", *words, "--seeds", "1")
    path.write_text(PLUGIN.format(name="later-stale", loss=f"2 * {LOSS}"))
    refused = toy_run("later-stale", *words, "--seeds", "0-1")
    assert refused.code == 2
    assert len(run_directories(tmp_path / "results", "later-stale")) == 1
    planned = toy_run("later-stale", *words, "--seeds", "0-1", "--dry-run")
    assert "finished, but the code of later-stale has changed" in planned.err


def test_seeds_made_by_different_code_are_not_averaged(toy_run, tmp_path, lmdbench):
    path = tmp_path / "two_codes.py"
    path.write_text(PLUGIN.format(name="two-codes", loss=LOSS))
    toy_run("two-codes", "--plugin", path, *SHORT, "--seeds", "0")
    path.write_text(PLUGIN.format(name="two-codes", loss=f"2 * {LOSS}"))
    toy_run("two-codes", "--plugin", path, *SHORT, "--seeds", "1")
    table = lmdbench("compare", "--results", tmp_path / "results").out
    rows = [line for line in table.splitlines() if line.startswith("two-codes (epochs=2) [code=")]
    assert len(rows) == 3  # two rows of the table, and a note that each has one seed


def test_a_results_folder_that_is_a_file(toy_run, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = toy_run("ce", *SHORT, "--results", tmp_path / "file")
    assert outcome.code == 2
    assert "a file is in the way" in outcome.err


def test_folders_of_one_name_do_not_share_an_id(toy_run, toy_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(toy_folder, other)
    toy_run("ce", *SHORT)
    toy_run("ce", *SHORT, "--data-root", other)
    names = {d.name for d in run_directories(tmp_path / "results", "ce")}
    assert len(names) == 2


def test_a_network_that_gives_no_numbers_is_no_success(toy_run, tmp_path):
    """So high a learning rate that the loss was still finite, and the weights are not."""
    outcome = toy_run("ce", "--set", "epochs=2", "--set", "lr=1e30")
    assert outcome.code == 1
    assert ": try a lower lr, or look at what was set: epochs=2, lr=1e+30 (" in outcome.err
    assert not run_directories(tmp_path / "results", "ce")


def test_a_method_without_learning_rate_is_not_told_to_lower_it(toy_run):
    words = ("--set", "ce.epochs=1", "--set", "tau=1e300")
    outcome = toy_run("logit-adjustment-posthoc", *words)
    assert outcome.code == 1
    why = "failed: logits are not finite: look at what was set: ce.epochs=1, tau=1e+300 ("
    assert why in outcome.err


def test_batch_norm_on_one_image_says_what_to_set(toy_run, tmp_path):
    outcome = toy_run("paco", "--set", "epochs=1", "--set", "batch_size=1")
    assert outcome.code == 1
    assert "batches of at least 2 images: --set batch_size=2 or more (" in outcome.err
    (failed,) = (tmp_path / "results").glob("*/*/paco/seed*/failed.txt")
    assert "ValueError: Expected more than 1 value per channel" in failed.read_text()


def test_a_run_without_its_record_is_trained_again(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    (directory,) = run_directories(tmp_path / "results", "ce")
    (directory / "run.json").unlink()
    assert toy_run("ce", *SHORT).code == 0
    assert json.loads((directory / "run.json").read_text())["attempts"] == 1


def test_a_damaged_ancestor_says_what_to_do(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    (ce,) = run_directories(tmp_path / "results", "ce")
    (ce / "model.safetensors").write_bytes(b"cut")
    outcome = toy_run("crt", *SHORT, "--set", "ce.epochs=2")
    assert outcome.code == 2
    assert "lmdbench run --method ce --seeds 0 … --force" in outcome.err
