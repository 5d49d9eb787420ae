"""Why a run is lost follows from its journal, its job's log and what the queue remembers."""

import json
import os
import time

import pytest

from lmdbench.core.claim import Claim
from lmdbench.runs import attempts
from lmdbench.sweep import ends
from lmdbench.sweep.executors.built_in import Slurm
from lmdbench.sweep.executors.reasons import Reason
from lmdbench.sweep.launch_record import Launch, pool_claim
from lmdbench.sweep.lost import NOT_SHARED, Lost, why_lost

TIME = "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-11-29T17:20:41 DUE TO TIME LIMIT ***\n"


@pytest.fixture
def lost(tmp_path):
    run, sweep = tmp_path / "run", tmp_path / "sweep"
    run.mkdir()
    (sweep / "submitit").mkdir(parents=True)
    launch = Launch("s-1", "slurm", (("run",),), submitted=time.time() - 60, job="5")
    return Lost(run, sweep, launch, "5")


@pytest.fixture
def slurm(monkeypatch):
    """``slurm(job=Reason(…))``: what a queue knows; counts how often it is asked."""
    known, asked = {}, []

    def told(self, ids):
        asked.append(list(ids))
        return {job: known[job] for job in ids if job in known}

    monkeypatch.setattr(Slurm, "ends", told)

    def tell(**jobs):
        known.update(jobs)
        return asked

    return tell


def why(lost):
    return why_lost({"run": lost})["run"]


def log(lost, text, job="5"):
    (lost.folder / "submitit" / f"{job}_0_log.err").write_text(text)


def died(lost, cause, reason):
    attempts.begin(lost.directory, "t")
    attempts.end(lost.directory, "t", "died", cause, reason)


def test_no_log_points_to_the_file_system(lost, slurm):
    slurm(**{"5": Reason("unknown", "SLURM could not write its log there (on n2)")})
    assert why(lost).text.endswith(NOT_SHARED)
    assert "n2" in why(lost).text


def test_slurms_own_words_count_more_than_a_signal_of_the_worker(lost, slurm):
    slurm()
    log(lost, TIME)
    died(lost, "signal", "its worker was ended by SIGKILL")
    assert why(lost).cause == "time"


def test_a_runs_own_crash_counts_more_than_the_later_end_of_its_job(lost, slurm):
    slurm()
    log(lost, TIME)
    died(lost, "crash", "its worker was ended by SIGABRT")
    assert why(lost) == Reason("crash", "its worker was ended by SIGABRT")


def test_an_attempt_before_the_launch_says_nothing_of_it(lost, slurm):
    slurm()
    died(lost, "crash", "its worker was ended by SIGABRT")
    newer = Lost(lost.directory, lost.folder, Launch("s-2", "slurm", (("run",),), job="6"), "6")
    log(newer, TIME, "6")
    assert why(newer).cause == "time"


def test_who_cancelled_a_job_is_told_where_it_is_known(lost, slurm):
    slurm(**{"5": Reason("cancelled", "cancelled by ada (on n1)")})
    log(lost, "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 17:20 ***\n")
    assert why(lost).text == "cancelled by ada (on n1)"


def test_what_slurm_said_is_remembered_and_not_asked_again(lost, slurm):
    asked = slurm(**{"5": Reason("memory", "out of memory")})
    first = why(lost)
    slurm(**{"5": Reason("unknown", "forgotten")})
    assert why(lost) == first
    assert asked == [["5"]]
    (lost.folder / ends.FILE).write_bytes(b"\xff{")
    assert why(lost).text.startswith("its job is gone (forgotten)")
    assert json.loads((lost.folder / ends.FILE).read_text())["5"]["text"] == "forgotten"


def test_where_nothing_was_told_it_is_asked_again(lost, slurm):
    asked = slurm()
    log(lost, "")
    assert why(lost).cause == "unknown"
    slurm(**{"5": Reason("memory", "out of memory")})  # the accounting is back
    assert why(lost).cause == "memory"
    assert asked == [["5"], ["5"]]


def test_a_pool_that_was_killed_and_one_that_was_stopped(tmp_path):
    launch = Launch("s-1", "local", (("run",),))
    one = Lost(tmp_path / "run", tmp_path, launch)
    assert "was stopped" in why(one).text
    path = pool_claim(tmp_path, "s-1").path
    path.parent.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        Claim(path).acquire()
        os._exit(0)
    os.waitpid(child, 0)
    assert f"process {child} on" in why(one).text
    assert "was killed" in why(one).text
