"""What is said of a run follows from its directory, the launches and the queue."""

import json
import os
import shutil
import time
from dataclasses import replace

import pytest

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.runs.options import IN_SWEEPS
from lmdbench.sweep.executors import slurm
from lmdbench.sweep.executors.batches import Queued
from lmdbench.sweep.launch import opened_pool
from lmdbench.sweep.launch_record import (
    Launch,
    launch_name,
    pool_claim,
    read_launches,
    write_launch,
)
from lmdbench.sweep.status import Finished, look


@pytest.fixture
def plan(make_plan):
    return make_plan('methods = ["ce", "crt"]\n[settings.all]\nepochs = 4')


@pytest.fixture
def begun(plan):
    """``begun(number)`` makes the directory of a run, as one that was interrupted leaves it."""

    def make(number, **files):
        directory = list(plan.nodes.values())[number].run.directory
        directory.mkdir(parents=True, exist_ok=True)
        run = list(plan.nodes.values())[number].run
        replace(run.describe(), digests=run.code).write(directory)
        if "done" in files:
            (directory / "predictions.npz").write_bytes(b"before it was done: not looked into")
        for name, text in files.items():
            (directory / name.replace("_", ".")).write_text(text)
        return directory

    return make


@pytest.fixture
def in_queue(monkeypatch):
    """Answers for squeue: a list of jobs, or why there is none. What SLURM itself answers is tested
    with a real one."""

    def answer(*jobs, silent=None):
        def queue(users=()):
            if silent:
                raise UserError(silent)
            return list(jobs)

        monkeypatch.setattr(slurm, "queue", queue)

    return answer


def states(plan):
    return [found.state for found in look(plan).runs.values()]


def job(name, index, state="PENDING", reason="Priority"):
    return Queued(f"7_{index}", name, index, state, reason, "", 60.0)


def submitted(plan, *numbers, **changes):
    keys = tuple((list(plan.nodes)[number],) for number in numbers)
    launch = Launch(launch_name("toy"), "slurm", keys, time.time(), job="7")
    launch = Launch(**{**vars(launch), **changes})
    write_launch(plan.folder, launch)
    return launch


def test_nothing_there_is_missing_and_asks_no_queue(plan, in_queue):
    in_queue(silent="must not be asked")
    assert states(plan) == ["missing", "missing"]
    assert not plan.results.exists()


def test_what_the_directory_says(plan, begun):
    begun(0, done="now")
    begun(1, failed_txt="ValueError: too hot\n\nTraceback\n")
    done, failed = look(plan).runs.values()
    assert done.state == "done"
    assert (failed.state, failed.note) == ("failed", "ValueError: too hot")


def test_other_code_is_changed(plan, begun):
    directory = begun(0, done="now")
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "digests": {"method": "0"}}))
    found = next(iter(look(plan).runs.values()))
    assert found.state == "changed"
    assert "code of ce has changed" in found.note


def test_begun_without_a_worker_is_lost(plan, begun):
    begun(0)
    assert states(plan) == ["lost", "missing"]


def test_a_run_at_work_says_where_and_how_far(plan, begun):
    rows = "epoch,loss,validation_balanced_accuracy,seconds\n1,1,.5,10\n2,1,.5,20\n"
    directory = begun(0, history_csv=rows)
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        found = next(iter(look(plan).runs.values()))
    finally:
        claim.release()
    assert (found.state, found.epoch, found.epochs) == ("running", 2, 4)
    assert found.left == pytest.approx(30.0)
    assert found.job == f"process {os.getpid()}"


def test_a_run_that_outlives_its_job_says_so(plan, begun, in_queue, monkeypatch):
    launch = submitted(plan, 0, 1)
    claim = Claim(begun(0) / "running.json")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert claim.acquire()
    try:
        in_queue(job(launch.name, 0, state="RUNNING", reason="None"))
        known = next(iter(look(plan).runs.values()))
        in_queue()
        orphaned = next(iter(look(plan).runs.values()))
    finally:
        claim.release()
    assert (known.state, known.job, known.note) == ("running", "7_0", "")
    assert (orphaned.state, orphaned.job) == ("running", "7_0")
    assert orphaned.note == (
        f"its job is gone from SLURM's queue, and its process {os.getpid()} goes on"
    )


def test_the_queue_knows_what_was_submitted(plan, in_queue):
    launch = submitted(plan, 0, 1)
    in_queue(job(launch.name, 0), job(launch.name, 1, reason="Dependency"))
    first, second = look(plan).runs.values()
    assert (first.state, first.job, first.note) == ("queued", "7_0", "Priority")
    assert (second.state, second.note) == ("queued", "waiting for stage 1")
    in_queue(job(launch.name, 0, state="RUNNING", reason="None"), job(launch.name, 1))
    first, _ = look(plan).runs.values()
    assert (first.state, first.note) == ("queued", "in a job that is running")


def test_a_job_that_is_gone_leaves_its_run_lost(plan, in_queue):
    launch = submitted(plan, 0, 1)
    in_queue(job(launch.name, 1))
    assert states(plan) == ["lost", "queued"]


def test_a_job_on_hold_for_ever_is_lost(plan, in_queue):
    launch = submitted(plan, 0, 1)
    in_queue(job(launch.name, 0, reason="launch failed requeued held"), job(launch.name, 1))
    first, second = look(plan).runs.values()
    assert (first.state, first.stuck, first.job) == ("lost", True, "7_0")
    assert "launch failed requeued held" in first.note
    assert (second.state, second.stuck) == ("queued", False)


def test_jobs_are_known_by_name_before_their_number_is_written(plan, in_queue):
    launch = submitted(plan, 0, job=None)
    in_queue(Queued("9", launch.name, None, "PENDING", "", "", None))
    found = next(iter(look(plan).runs.values()))
    assert (found.state, found.job) == ("queued", "9")


def test_a_newer_launch_that_is_over_does_not_hide_an_older_that_waits(plan, in_queue):
    first = submitted(plan, 0)
    submitted(plan, 0, submitted=time.time() + 1)
    in_queue(job(first.name, 0))
    assert states(plan)[0] == "queued"


def test_another_sweep_that_has_queued_a_run(plan, in_queue, make_plan):
    other = make_plan('name = "other"\nmethods = ["ce"]\n[settings.all]\nepochs = 4')
    launch = submitted(other, 0)
    in_queue(job(launch.name, 0))
    assert states(plan) == ["queued", "missing"]


def test_cancelled_and_never_begun_is_missing(plan, begun, in_queue):
    in_queue()
    submitted(plan, 0, 1, cancelled=True)
    begun(1)
    assert states(plan) == ["missing", "lost"]


def test_failed_since_it_was_submitted_or_waiting_to_be_tried_again(plan, begun, in_queue):
    directory = begun(0, failed_txt="ValueError\n")
    os.utime(directory / "failed.txt", (1, 1))
    launch = submitted(plan, 0)
    in_queue(job(launch.name, 0))
    assert states(plan)[0] == "queued"
    (directory / "failed.txt").touch()
    os.utime(directory / "failed.txt", (time.time() + 5, time.time() + 5))
    assert states(plan)[0] == "failed"


def test_a_silent_queue_is_told_and_nothing_is_called_lost(plan, in_queue):
    submitted(plan, 0)
    in_queue(silent="squeue: SLURM does not answer")
    overview = look(plan)
    assert overview.silent == "squeue: SLURM does not answer"
    assert [found.state for found in overview.runs.values()] == ["queued", "missing"]


def test_a_living_pool_has_its_runs_queued_and_a_dead_one_has_not(plan):
    keys = tuple((key,) for key in plan.nodes)
    write_launch(plan.folder, Launch("pool", "local", keys, time.time()))
    assert states(plan) == ["missing", "missing"]
    claim = pool_claim(plan.folder, "pool")
    assert claim.acquire()
    try:
        found = list(look(plan).runs.values())
    finally:
        claim.release()
    assert [one.state for one in found] == ["queued", "queued"]
    assert all(one.pooled for one in found)


def test_what_a_job_said_last(plan, in_queue):
    in_queue()
    submitted(plan, 0, 1)
    log = plan.folder / "submitit" / "7_0_0_log.err"
    log.parent.mkdir()
    log.write_text(
        "Traceback\nlmdbench.core.errors.RunFailed: 1 of 1 runs not done: cannot write in x\n"
        "srun: error: n1: task 0: Exited with exit code 1\n"
    )
    first, second = look(plan).runs.values()
    assert first.state == "lost"
    assert first.log == log
    assert first.note.endswith("RunFailed: 1 of 1 runs not done: cannot write in x")
    assert second.note == f"its stage 1, {first.node.title}, is lost: {first.note}"


def test_half_written_launches_are_none(plan):
    path = plan.folder / "launches" / ".x~host~1~2.json"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert read_launches(plan.results) == []


def test_a_damaged_launch_is_named_and_hides_no_other(plan):
    path = plan.folder / "launches" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1}')
    submitted(plan, 0)
    damaged = []
    assert len(read_launches(plan.results, damaged)) == 1
    assert damaged == [path]


def test_a_changed_run_that_is_to_be_redone_is_queued(plan, begun, in_queue):
    directory = begun(0, done="now")
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "digests": {"method": "0"}}))
    launch = submitted(plan, 0, redoes=True)
    in_queue(job(launch.name, 0))
    assert states(plan)[0] == "queued"
    in_queue()
    assert states(plan)[0] == "changed"


def test_a_launch_at_work_is_waited_for_and_a_dead_one_is_not(plan, in_queue):
    in_queue()
    submitted(plan, 0, job=None)
    assert states(plan)[0] == "lost"
    path = plan.results / "sweeps" / "launching.json"
    record = {"token": "t", "host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    path.write_text(json.dumps(record))
    assert states(plan)[0] == "queued"


def test_a_damaged_record_of_one_run_hides_no_other(plan, begun):
    begun(0, done="now")
    (begun(1, done="now") / "run.json").write_text("{")
    first, second = look(plan).runs.values()
    assert first.state == "done"
    assert second.state == "damaged"
    assert "run.json: damaged, not JSON" in second.note


def test_a_claim_that_cannot_be_read_hides_no_other_run(plan, begun):
    begun(0, done="")
    path = begun(1) / "running.json"
    path.symlink_to(path)  # root is refused, too
    first, second = look(plan).runs.values()
    assert first.state == "done"
    assert second.state == "failed"
    assert "running.json: damaged, no file (Too many levels of symbolic links)" in second.note


def test_a_failure_is_taken_back_when_it_is_tried_again(plan, begun):
    directory = begun(0, failed_txt="ValueError\n")
    os.utime(directory / "failed.txt", (1, 1))
    node = next(iter(plan.nodes.values()))
    with opened_pool(plan, [node], IN_SWEEPS):
        assert not (directory / "failed.txt").exists()
        assert states(plan)[0] == "queued"
    assert states(plan)[0] == "lost"


def test_what_is_remembered_of_finished_runs_hides_no_change(
    make_plan, monkeypatch, rewrite_record
):
    from lmdbench.runs import index

    monkeypatch.setattr(index, "SETTLED", 0.02)
    monkeypatch.setattr(index, "LEAST", 1)
    plan = make_plan('methods = ["ce", "crt"]\nseeds = "0-1"\n[settings.all]\nepochs = 4')
    for node in plan.nodes.values():
        directory = node.run.directory
        directory.mkdir(parents=True)
        replace(node.run.describe(), digests=node.run.code | {"model": "m"}).write(directory)
        (directory / "predictions.npz").write_bytes(b"before it was done: not looked into")
        (directory / "done").write_text("now")
    watched = Finished(plan)

    def seen():
        """By one who looks again and again, by another who reads the index, and without it."""
        found = [look(plan, watched), look(plan)]
        time.sleep(0.04)
        found += [look(plan, watched), look(plan)]
        with monkeypatch.context() as patch:
            patch.setattr(index, "_load", lambda _: {})
            patch.setattr(index.RunIndex, "save", lambda _: None)
            found.append(look(plan))
        told = [[(one.state, one.note) for one in each.runs.values()] for each in found]
        assert all(one == told[-1] for one in told)
        return [state for state, _ in told[-1]]

    first, second, third, fourth = (node.run.directory for node in plan.nodes.values())
    assert seen() == ["done"] * 4
    assert (plan.results / ".index").is_dir()
    (first / "predictions.npz").write_bytes(b"half")
    assert seen() == ["damaged", "done", "done", "done"]
    rewrite_record(third, lambda record: record["digests"].update(method="0"))
    assert seen() == ["damaged", "done", "changed", "done"]
    (second / "done").unlink()
    fourth.rename(fourth.with_name(f"{fourth.name}.old-1"))
    assert seen() == ["damaged", "lost", "changed", "missing"]
    (first / "run.json").write_text("{")
    shutil.rmtree(second)
    assert seen() == ["damaged", "missing", "changed", "missing"]


def test_what_never_began_as_its_stage_1_did_not_succeed_says_so(plan, begun, in_queue):
    above, behind = plan.nodes
    in_queue()
    for job, key in (("7", above), ("8", behind)):
        launch = Launch(launch_name("toy"), "slurm", ((key,),), sweeps=("toy",), job=job)
        write_launch(plan.folder, launch)
    begun(0, failed_txt="ValueError: as it must\n")
    told = look(plan).runs[behind]
    assert told.state == "lost"
    assert told.note.startswith("its stage 1, ce seed 0 on ")
    assert told.note.endswith("is failed: ValueError: as it must")
