"""Jobs taken as they become ready, by what the run directories say."""

import os
import time
from dataclasses import asdict, replace

import pytest

from lmdbench.core.claim import Claim
from lmdbench.runs import attempts
from lmdbench.runs.options import IN_SWEEPS
from lmdbench.sweep.executors import pulled
from lmdbench.sweep.executors.messages import GivenJob, Outcome
from lmdbench.sweep.executors.offers import OFFERS, Offer, withdraw, write_offer
from lmdbench.sweep.executors.pull_job import Offered
from lmdbench.sweep.executors.pulled import Patience, Pulled
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher

DONE = Outcome("done")


def job(name, needs=None, images="a"):
    content = {"key": name, "request": {"context": {"dataset": images}}}
    return PoolJob(GivenJob(name, content), name, needs)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """``source(job("ce"), …)``: of one who looks again at once, and takes equals in order."""
    monkeypatch.setattr(pulled, "BUSY_SECONDS", 0.0)

    def make(*jobs, **options):
        patience = Patience(options.pop("idle", 0.0), options.pop("seconds", None))
        found = Pulled((), tmp_path, PoolWatcher(), patience)
        found.offer(jobs, **options)
        found._random.shuffle = lambda _: None
        return found

    return make


def take(source, last=None):
    """The next job's key, taken."""
    found = source.next(last)
    if found is None:
        return None
    source.taken(found)
    return found.key


def finish(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "predictions.npz", "done"):
        (directory / name).write_text("{}")
        os.utime(directory / name, (1e9, 1e9))  # files as old as the end are not read


def test_first_what_others_wait_for_then_the_same_set_up_then_in_order(source):
    first, crt = job("ce"), job("crt", "ce")
    others = [job("b0", images="b"), job("a0"), job("b1", images="b"), job("a1")]
    found = source(*others, crt, first)
    assert take(found) == "ce"
    assert take(found, last=others[2]) == "b0"
    assert take(found, last=others[2]) == "b1"
    assert take(found, last=others[2]) == "a0"
    found.ended(first, DONE)
    assert take(found) == "a1"
    assert take(found) == "crt"
    assert take(found) is None


def test_workers_that_begin_together_seldom_take_the_same(tmp_path):
    jobs = [job(f"run{n}") for n in range(100)]
    taken = [Pulled(jobs, tmp_path, PoolWatcher()).next(None).key for _ in range(60)]
    assert len(set(taken)) > 5
    assert set(taken) <= {f"run{n}" for n in range(pulled.SPREAD)}  # the first come first


def test_what_others_did_is_not_given(source, tmp_path):
    done, failed, ready, after = job("done"), job("failed"), job("ready"), job("after", "failed")
    finish(tmp_path / "done")
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "failed.txt").write_text("too hot\n")
    found = source(done, failed, ready, after)
    assert [take(found) for _ in range(3)] == ["ready", "after", None]  # the last to say why
    assert found.outcomes == {
        "done": Outcome("done", "by another worker"),
        "failed": Outcome("failed", "too hot (by another worker)"),
    }
    assert found.waiting == 0


def test_what_starts_from_a_run_that_is_not_offered_waits_for_its_directory(source, tmp_path):
    found = source(job("crt", "ce"))
    assert take(found) is None
    finish(tmp_path / "ce")
    assert take(found) == "crt"


def test_a_worker_waits_for_what_others_train_and_takes_it_over(source, tmp_path):
    found = source(job("ce"), job("crt", "ce"), idle=60.0)
    claim = Claim(tmp_path / "ce" / "running.json")
    assert claim.acquire()
    assert take(found) is None
    assert not found.over
    claim.release()
    assert take(found) == "ce"
    found.ended(job("ce"), DONE)
    assert take(found) == "crt"


@pytest.mark.parametrize("kind", ["busy", "not-ready"])
def test_a_worker_that_came_second_to_a_run_looks_at_it_again_before_it_ends(
    source, tmp_path, monkeypatch, kind
):
    """Workers that begin together meet on the only run that is ready."""
    monkeypatch.setattr(pulled, "BUSY_SECONDS", 60.0)
    one = job("ce")
    found = source(one, job("crt", "ce"), idle=60.0)
    assert take(found) == "ce"
    claim = Claim(tmp_path / "ce" / "running.json")
    assert claim.acquire()
    found.busy(one, Outcome("busy")) if kind == "busy" else found.ended(one, Outcome(kind))
    assert take(found) is None
    assert not found.over
    found._not_before.clear()  # a minute later
    found._nothing_until = 0.0
    assert take(found) is None
    assert not found.over  # another trains what crt needs
    assert found.why_over.startswith("nothing became ready within")
    claim.release()


def test_it_waits_no_longer_than_it_is_told(source, tmp_path):
    found = source(job("ce"), job("crt", "ce"), idle=0.05)
    claim = Claim(tmp_path / "ce" / "running.json")
    assert claim.acquire()
    assert take(found) is None
    time.sleep(0.1)
    assert found.over
    assert found.why_over == "nothing became ready within 0 s"
    claim.release()


def test_a_run_that_another_has_is_doubted_until_that_one_renews_its_claim(source, tmp_path):
    found = source(job("ce"))
    claim = Claim(tmp_path / "ce" / "running.json")
    assert claim.acquire()
    assert take(found) is None
    assert not found.over  # its holder, on another node, may be dead
    time.sleep(0.01)
    claim.path.touch()
    assert take(found) is None
    assert found.over
    assert list(found.left) == ["ce"]
    claim.release()


def test_a_run_whose_workers_died_too_often_is_left_with_what_starts_from_it(source, tmp_path):
    directory = tmp_path / "ce"
    for pid in range(3):
        attempts.end_of(directory, 10_000_000 + pid, "died", "signal", "killed")
    found = source(job("ce"), job("crt", "ce"))
    assert take(found) is None
    assert found.outcomes == {"ce": Outcome("gave-up", "its worker died 3 times")}
    assert found.over
    assert list(found.left) == ["crt"]


def test_what_comes_back_is_given_again(source):
    one = job("ce")
    found = source(one)
    for back in (
        lambda: found.busy(one, Outcome("busy", "another has it")),
        lambda: found.died(one),
        lambda: found.ended(one, Outcome("not-ready", "its stage 1 is not there")),
    ):
        assert take(found) == "ce"
        assert take(found) is None
        back()
    assert take(found) == "ce"
    found.ended(one, DONE)
    assert found.over


def test_a_run_that_workers_refuse_though_its_stage_1_looks_finished_is_given_up(source, tmp_path):
    """As where images changed and all that changed is to be done again: only a worker knows."""
    finish(tmp_path / "ce")
    one = job("crt", "ce")
    found = source(one)
    refusal = Outcome("not-ready", "its stage 1 (ce seed 0) is not there: it changed")
    for _ in range(pulled.MOST_REFUSALS):
        assert take(found) == "crt"
        assert not found.outcomes
        found.ended(one, refusal)
    assert found.outcomes == {"crt": refusal}
    assert found.over
    found.offer([one])
    assert take(found) == "crt"


def test_nothing_begins_shortly_before_its_time_is_up(source):
    found = source(job("ce"), seconds=100.0)
    assert found.next(None) is not None
    found.began -= 96.0
    assert found.next(None) is None
    assert found.over
    assert found.why_over == "its time is up"
    assert found.deadline > time.monotonic()  # what is at work goes on until then


def test_finished_runs_are_done_again_where_they_were_finished_before(source, tmp_path):
    finish(tmp_path / "ce")
    finished = (tmp_path / "ce" / "done").stat().st_mtime
    assert take(source(job("ce"), since=finished + 1)) == "ce"
    assert take(source(job("ce"), since=finished - 1)) is None


def test_jobs_that_are_offered_later_are_taken_too(source):
    found = source(job("ce"))
    found.ended(found.next(None), Outcome("failed", "too hot"))
    assert found.over
    found.offer([job("ce"), job("crt", "ce")])
    assert take(found) == "ce"


def test_a_job_takes_what_is_offered_to_its_sweep_while_it_works(tmp_path):
    """But not what is to be carried out otherwise, nor what cannot be read."""
    folder, run = tmp_path / "sweeps" / "toy", asdict(IN_SWEEPS)
    payload = {
        "results": str(tmp_path),
        "folder": str(folder),
        "run": run,
        "retry": {"attempts": 3},
    }
    payload |= {"idle": 0.0, "time_minutes": 10, "signal_seconds": 90}
    write_offer(folder, "first", Offer((job("ce"),), IN_SWEEPS))
    found = Offered(payload, PoolWatcher())
    assert take(found) == "ce"
    write_offer(folder, "second", Offer((job("crt", "ce"), job("rrl")), IN_SWEEPS))
    write_offer(folder, "other", Offer((job("lws"),), replace(IN_SWEEPS, redo="changed"), 1e9))
    (folder / OFFERS / "broken.json").write_bytes(b"\x00[")
    found._look_again = found._nothing_until = 0.0
    assert take(found) == "rrl"
    assert list(found.left) == ["ce", "crt", "rrl"]
    assert found.deadline is None
    assert not found.late
    found.began -= 500.0
    assert found.late
    withdraw(folder)
    assert Offered(payload, PoolWatcher()).over
