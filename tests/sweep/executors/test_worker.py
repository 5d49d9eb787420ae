"""One worker: outcomes, changed and claimed runs, bad disks, and the same bits as a run alone."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from lmdbench.core.claim import Claim
from lmdbench.core.registry import load_plugin
from lmdbench.runs.options import IN_SWEEPS
from lmdbench.runs.state import run_state
from lmdbench.sweep.executors.messages import Outcome, Start

CE = ("ce", 0, {"epochs": "2"})
LONG = ("ce", 0, {"epochs": "40"})
CRT = ("crt", 0, {"epochs": "2", "ce.epochs": "2"})
LOSS = "cross_entropy(self.model(batch.images), batch.labels)"


def test_runs_in_one_process_equal_runs_in_processes_of_their_own(
    make_worker, pool_jobs, predictions, plugin, copies, toy_folder, tmp_path
):
    """Dropout, every augmentation, RRL's teacher: nothing of one run is left for the next."""
    path = plugin("dropping", LOSS)
    load_plugin(path)
    wanted = [("dropping", 0), ("rrl", 0)]
    short = {"epochs": "2"}
    jobs = pool_jobs(tmp_path / "one", *((method, seed, short) for method, seed in wanted))
    worker = make_worker(tmp_path / "one")
    assert all(worker.carry_out(job.run) == Outcome("done") for job in jobs)
    alone = [
        copies.popen(
            [
                *(sys.executable, "-m", "lmdbench", "run", "--method", method),
                *("--seeds", str(seed), "--set", "epochs=2", "--plugin", path, "--quiet"),
                *("--dataset", "folder", "--data-root", toy_folder, "--backbone", "small"),
                *("--image-size", "24", "--results", tmp_path / "own"),
            ]
        )
        for method, seed in wanted
    ]
    assert [process.wait() for process in alone] == [0, 0]
    for job in jobs:
        assert predictions(tmp_path / "one" / job.key) == predictions(tmp_path / "own" / job.key)


def test_a_finished_run_is_done(make_worker, pool_jobs, attempts, tmp_path):
    (job,) = pool_jobs(tmp_path, CE)
    worker = make_worker(tmp_path)
    assert worker.carry_out(job.run).kind == worker.carry_out(job.run).kind == "done"
    assert attempts(tmp_path / job.key) == 1


def test_what_starts_from_a_failed_run_fails_and_comes_back_with_it(
    make_worker, pool_jobs, plugin, tmp_path
):
    load_plugin(plugin("breaking", "1 / 0"))
    load_plugin(plugin("after-breaking", LOSS, "breaking"))
    settings = {"epochs": "1", "breaking.epochs": "1"}
    first, second = pool_jobs(tmp_path, ("after-breaking", 0, settings))
    worker = make_worker(tmp_path)

    outcome = worker.carry_out(second.run)  # trains what it needs, which breaks
    reason = "it starts from breaking seed 0, which failed: ZeroDivisionError: division by zero"
    assert outcome == Outcome("failed", f"after-breaking seed 0: {reason}")
    assert "Traceback" in (tmp_path / first.key / "failed.txt").read_text()
    assert (tmp_path / second.key / "failed.txt").read_text() == f"{reason}\n"
    assert not (tmp_path / second.key / "running.json").exists()

    assert worker.carry_out(first.run).kind == "failed"
    before = (tmp_path / first.key / "failed.txt").stat().st_mtime_ns
    assert worker.carry_out(second.run).kind == "failed"
    assert (tmp_path / first.key / "failed.txt").stat().st_mtime_ns == before  # not tried again


def test_what_starts_from_a_run_that_is_not_finished_is_left_where_it_is_not_to_train_that(
    make_worker, pool_jobs, tmp_path
):
    first, second = pool_jobs(tmp_path, CRT)
    worker = make_worker(tmp_path, chains=False)
    left = worker.carry_out(second.run)
    assert left == Outcome(
        "not-ready", "its stage 1 (ce seed 0) is not there: missing; launch again"
    )
    assert not (tmp_path / first.key).exists()
    assert not (tmp_path / second.key).exists()
    claim = Claim(tmp_path / first.key / "running.json")
    assert claim.acquire()
    left = worker.carry_out(second.run)
    assert left.kind == "not-ready"
    assert f"not there yet: it is trained by process {os.getpid()} on " in left.text
    claim.release()
    assert worker.carry_out(first.run) == worker.carry_out(second.run) == Outcome("done")


def test_a_users_mistake_is_one_line_in_the_directory(make_worker, pool_jobs, tmp_path):
    (job,) = pool_jobs(tmp_path, CE)
    outcome = make_worker(tmp_path).carry_out(type(job.run)(**{**vars(job.run), "id": "0" * 64}))
    assert outcome.kind == "failed"
    assert "comes to another run here" in outcome.text
    assert (tmp_path / job.key / "failed.txt").read_text() == f"{outcome.text}\n"
    assert make_worker(tmp_path).carry_out(job.run).kind == "done"
    assert not (tmp_path / job.key / "failed.txt").exists()


@pytest.fixture
def elsewhere():
    """Writes the claim of a worker on another machine, with a heartbeat so many seconds ago."""

    def write(directory, seconds):
        directory.mkdir(parents=True)
        path = directory / "running.json"
        record = {"token": "t", "host": "other", "pid": 1, "process_start": "1", "machine": "other"}
        path.write_text(json.dumps(record))
        os.utime(path, (time.time() - seconds,) * 2)
        return path

    return write


def test_a_run_that_another_has_is_busy_at_once(
    make_worker, pool_jobs, elsewhere, tmp_path, monkeypatch
):
    ce, crt = pool_jobs(tmp_path, CRT)
    elsewhere(tmp_path / ce.key, 0)
    worker = make_worker(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    for job in (ce, crt):
        outcome = worker.carry_out(job.run)
        assert outcome == Outcome("busy", "ce seed 0: being trained by process 1 on other")
    assert run_state(tmp_path / crt.key) == "missing"


def test_a_former_life_that_may_be_dead_is_watched(make_worker, pool_jobs, elsewhere, tmp_path):
    (job,) = pool_jobs(tmp_path, CE)
    elsewhere(tmp_path / job.key, 118)  # dead in two seconds
    assert make_worker(tmp_path, wait_for_dead=True).carry_out(job.run).kind == "done"


def test_one_that_renews_its_claim_is_left_alone(make_worker, pool_jobs, elsewhere, tmp_path):
    (job,) = pool_jobs(tmp_path, CE)
    path = elsewhere(tmp_path / job.key, 60)
    timer = threading.Timer(1.0, os.utime, [path])
    timer.start()
    worker, signs = make_worker(tmp_path, wait_for_dead=True), []
    worker.progress.alive = lambda: signs.append(1)  # it does not hang meanwhile
    assert worker.carry_out(job.run).kind == "busy"
    timer.join()
    assert signs


def test_changed_code(make_worker, pool_jobs, plugin, tmp_path):
    """Finished runs are refused, trusted or done again as asked; unfinished ones done again."""
    path = plugin("altering", LOSS)
    load_plugin(path)
    wanted = ("altering", 0, {"epochs": "1"})
    results = tmp_path / "results"
    (job,) = pool_jobs(results, wanted)
    assert make_worker(results).carry_out(job.run).kind == "done"
    plugin("altering", f"2 * {LOSS}")
    (job,) = pool_jobs(results, wanted)
    directory = results / job.key

    refused = make_worker(results).carry_out(job.run)
    assert refused.kind == "failed"
    assert "the code of altering has changed" in refused.text
    assert run_state(directory) == "finished"
    assert not (directory / "failed.txt").exists()

    assert (
        make_worker(results, options=replace(IN_SWEEPS, accept_changed=True))
        .carry_out(job.run)
        .kind
        == "done"
    )
    assert len(list(directory.parent.iterdir())) == 1
    for _ in range(2):  # the second time it is as it should be
        assert (
            make_worker(results, options=replace(IN_SWEEPS, redo="changed")).carry_out(job.run).kind
            == "done"
        )
        assert len(list(directory.parent.iterdir())) == 2

    plugin("altering", f"3 * {LOSS}")
    (job,) = pool_jobs(results, wanted)
    (directory / "done").unlink()  # as if it had been interrupted
    assert make_worker(results).carry_out(job.run).kind == "done"
    assert len(list(directory.parent.iterdir())) == 3


# Disks


def in_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_a_disk_that_is_full_for_a_while(
    make_worker, pool_jobs, predictions, undisturbed, small_disk, until, tmp_path
):
    results = small_disk.folder / "results"
    (job,) = pool_jobs(results, LONG)
    worker = make_worker(results, patience=60)
    worker.progress.gate.clear()

    def trouble():
        until(lambda: worker.progress.epochs > 3)
        small_disk.fill()
        worker.progress.gate.set()
        until(lambda: worker.progress.said)
        small_disk.empty()

    thread = in_thread(trouble)
    assert worker.carry_out(job.run) == Outcome("done")
    thread.join()
    (said,) = worker.progress.said
    assert "no space left on" in said
    assert "Trying again for 60 s" in said
    assert predictions(results / job.key) == undisturbed([job])[job.key]


def test_a_results_folder_that_is_read_only_for_a_while(
    make_worker, pool_jobs, predictions, undisturbed, small_disk, until, tmp_path
):
    results = small_disk.folder / "results"
    (job,) = pool_jobs(results, LONG)
    worker = make_worker(results, patience=60)
    worker.progress.gate.clear()

    def trouble():
        until(lambda: worker.progress.epochs > 3)
        with small_disk.read_only():
            worker.progress.gate.set()
            until(lambda: worker.progress.said)
            time.sleep(1.5)  # tried again, in vain, against its own claim that it can't remove

    thread = in_thread(trouble)
    assert worker.carry_out(job.run) == Outcome("done")
    thread.join()
    assert len(worker.progress.said) == 1
    assert predictions(results / job.key) == undisturbed([job])[job.key]
    assert not (results / job.key / "running.json").exists()


def test_a_disk_that_stays_unusable_is_given_up(make_worker, pool_jobs, small_disk, until):
    results = small_disk.folder / "results"
    (job,) = pool_jobs(results, CE)
    worker = make_worker(results, patience=0.5)
    with small_disk.read_only():
        outcome = worker.carry_out(job.run)
        assert outcome.kind == "gave-up"
        assert "Read-only file system" in outcome.text
        refused = type(job.run)(**{**vars(job.run), "id": "0" * 64})
        assert worker.carry_out(refused).kind == "failed"  # though nothing can be written
    assert worker.carry_out(job.run).kind == "done"


def test_waiting_for_a_disk_is_no_hanging(make_worker, pool_jobs, small_disk, monkeypatch):
    """However long a pause is, a sign of life comes each second: those here are of 1, 2 and 2 s."""
    results = small_disk.folder / "results"
    (job,) = pool_jobs(results, CE)
    worker = make_worker(results, patience=5.0)
    signs = []
    monkeypatch.setattr(worker.progress, "alive", lambda: signs.append(time.monotonic()))
    with small_disk.read_only():
        assert worker.carry_out(job.run).kind == "gave-up"
    assert len(signs) >= 5


# A process of its own


@pytest.fixture
def process(cache, tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", "lmdbench.sweep.executors.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield running
    running.kill()
    running.wait()


def send(process, **message):
    print(json.dumps(message), file=process.stdin, flush=True)


def start(process, results, cache, **options):
    options = {"device": "cpu", "threads": 1, "patience": 0.0, **options}
    send(process, start=Start(results=results, cache=cache, **options).to_json())


def events(process):
    for line in process.stdout:
        yield json.loads(line)


def test_only_events_on_standard_output_and_it_ends_with_its_input(
    process, pool_jobs, plugin, cache, tmp_path
):
    noisy = plugin("noisy", f"print('hello') or os.system('echo hello') or {LOSS}")
    load_plugin(noisy)
    short, long = pool_jobs(
        tmp_path, ("noisy", 0, {"epochs": "1"}), ("noisy", 1, {"epochs": "10000"})
    )
    start(process, tmp_path, cache, plugins=(noisy,))
    send(process, job=short.run.to_json())
    kinds = []
    for event in events(process):
        kinds.append(event["event"])
        if event["event"] == "outcome":
            break
    assert event == {"event": "outcome", "kind": "done", "text": "", "last": False}
    assert kinds[0] == "ready"
    assert {"begin", "tick", "epoch"} <= set(kinds)

    send(process, job=long.run.to_json())
    for event in events(process):
        if event["event"] == "epoch":
            break
    claim = Claim(tmp_path / long.key / "running.json")
    assert claim.holder()["alive"]
    process.stdin.close()
    assert process.wait(60) == 130
    assert claim.holder() is None
    assert run_state(tmp_path / long.key) == "interrupted"


def test_a_device_that_is_not_there_is_said(process, cache, tmp_path):
    start(process, tmp_path, cache, device="cuda:77")
    (event,) = events(process)
    assert event["event"] == "unusable"
    assert event["text"].startswith("cuda:77 can't be used: ")
    assert process.wait() == 2
