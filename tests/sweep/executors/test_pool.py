"""What a pool does with what it hears of its workers."""

import pytest

from lmdbench.sweep.executors.messages import GivenJob
from lmdbench.sweep.executors.pool import Hang, Pool, PoolOptions
from lmdbench.sweep.executors.sources import FixedList
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher, Slot

JOB = PoolJob(GivenJob("ce", {}), "ce seed 0")
SLOT = Slot("CPU 0", "cpu")


@pytest.fixture
def one_worker(tmp_path):
    """A pool with one worker, which is at its only job; no process is started."""
    source = FixedList([JOB], tmp_path, PoolWatcher())
    options = PoolOptions(results=tmp_path, cache=tmp_path, folder=tmp_path, name="p", threads=1)
    pool = Pool(source, options, PoolWatcher(), [SLOT])
    source.taken(JOB)
    pool.workers[0].job = JOB
    return pool


def outcome(kind):
    return {"event": "outcome", "kind": kind, "text": "", "last": False}


@pytest.mark.parametrize("hangs", [True, False])
def test_a_worker_that_is_being_ended_takes_no_other_job_though_it_did_end_its_last(
    one_worker, hangs
):
    (worker,) = one_worker.workers
    worker.hung = Hang(700.0, 0) if hangs else None
    one_worker._hear(worker, outcome("done"))
    assert one_worker.source.outcomes["ce"].kind == "done"
    assert worker.job is None
    assert worker.leaving is hangs


def test_deaths_of_a_run_that_was_given_up_do_not_count_when_it_is_offered_again(
    one_worker, tmp_path
):
    source, at = one_worker.source, tmp_path / "ce"
    for _ in range(3):
        assert not source.outcomes
        one_worker._died(SLOT, JOB, at, "was ended by SIGKILL")
    assert source.outcomes.pop("ce").kind == "gave-up"
    one_worker._died(SLOT, JOB, at, "was ended by SIGKILL")
    assert not source.outcomes
