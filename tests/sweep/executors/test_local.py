"""The pool on this machine: real worker processes, killed, interrupted, doubled; and its slots."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.core.registry import load_plugin
from lmdbench.runs.attempts import attempts as attempts_of
from lmdbench.runs.state import last_error, run_state
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.executors.local import make_slots
from lmdbench.sweep.executors.pool import STOP_SECONDS, PoolOptions
from lmdbench.sweep.executors.watcher import Slot

CRT = ("crt", 0, {"epochs": "2", "ce.epochs": "3"})
LWS = ("lws", 0, {"epochs": "2", "ce.epochs": "3"})
LONG = ("ce", 0, {"epochs": "60"})
WAIT_AND_BREAK = "__import__('time').sleep(1) or 1 / 0"
PLANT_LOSS = (
    "setattr(__import__('sys').modules['lmdbench.runs.train'], 'lost_device', "
    'lambda _: "can\'t use its GPU any more: planted")'
)
DEADLOCK = (
    "[c := __import__('ctypes'), lib := c.PyDLL(None), lock := c.create_string_buffer(64), "
    "lib.pthread_mutex_lock(lock), lib.pthread_mutex_lock(lock)]"
)
LOSS = "cross_entropy(self.model(batch.images), batch.labels)"


def checkpoint(results, job):
    return (results / job.key / "checkpoint.pt").exists


def of(kind, outcomes):
    return [key for key, (found, _) in outcomes.items() if found == kind]


def test_a_pool_does_what_commands_do_and_what_is_shared_once(
    pool, pool_jobs, workers, toy_run, predictions, attempts, until, tmp_path
):
    """Though a worker is killed meanwhile: its run goes on in another."""
    results = tmp_path / "pool"
    (long,) = pool_jobs(results, LONG)
    jobs = [long, *pool_jobs(results, CRT, LWS)]
    started = pool(jobs, results)
    until(checkpoint(results, long))
    (worker,) = workers(os.getpid())
    os.kill(worker, signal.SIGKILL)
    assert of("done", started.finish()) == [job.key for job in jobs]
    (died,) = [text for text in started.watcher.said if "SIGKILL" in text]
    assert died.startswith("CPU 0: its worker was ended by SIGKILL")
    assert died.endswith("; ce seed 0 goes back into the queue")
    last = {"done": 4, "failed": 0, "lost": 0, "running": 0, "queued": 0}
    assert started.watcher.counts == last
    assert [attempts(results / job.key) for job in jobs] == [2, 1, 1, 1]
    for method, _, settings in (LONG, CRT, LWS):
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        assert toy_run(method, *words).code == 0
    for job in jobs:
        assert predictions(results / job.key) == predictions(tmp_path / "results" / job.key)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_pool_and_another_goes_on(
    start_pool, pool, pool_jobs, workers, predictions, undisturbed, until, gone, tmp_path, how
):
    results = tmp_path / "pool"
    jobs = pool_jobs(results, LONG)
    started = start_pool(jobs, results)
    until(checkpoint(results, jobs[0]))
    (worker,) = workers(started.process.pid)
    started.process.send_signal(how)
    gone(worker)  # in order: a killed one leaves its claim
    started.finish(-how if how == signal.SIGKILL else 130)
    assert "Traceback" not in started.err
    assert run_state(results / jobs[0].key) == "interrupted"
    assert not list(results.glob("*/*/*/*/running.json"))
    if how == signal.SIGINT:
        assert started.err.endswith("the same command goes on from there\n")
    else:
        again = pool(jobs, results)
        assert of("done", again.finish()) == [jobs[0].key]
        expected = undisturbed(jobs)
        assert {job.key: predictions(results / job.key) for job in jobs} == expected


def test_a_second_interrupt_stops_at_once(
    start_pool, pool_jobs, workers, plugin, until, gone, tmp_path
):
    """Of workers that don't react, as in a long call of a library."""
    path = plugin(
        "deaf",
        "[*(signal.signal(n, signal.SIG_IGN) for n in (2, 15)), __import__('time').sleep(99)]",
    )
    load_plugin(path)
    (job,) = pool_jobs(tmp_path, ("deaf", 0, {"epochs": "1"}))
    started = start_pool([job], tmp_path, plugins=[path])
    until(lambda: run_state(tmp_path / job.key) == "running")
    (worker,) = workers(started.process.pid)
    until(lambda: ignores(worker, signal.SIGTERM))
    began = time.monotonic()
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert started.process.poll() is None
    started.process.send_signal(signal.SIGINT)
    gone(worker)
    assert time.monotonic() - began < STOP_SECONDS
    started.finish(130)


def ignores(pid, number):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn:"))
    return int(mask, 16) >> (number - 1) & 1


def test_two_pools_at_once_do_no_run_twice(pool, pool_jobs, plugin, attempts, tmp_path):
    """Nor one that fails, nor what starts from it."""
    results = tmp_path / "pool"
    plugins = [plugin("broken-pool", WAIT_AND_BREAK), plugin("after-broken", LOSS, "broken-pool")]
    for path in plugins:
        load_plugin(path)
    breaking = [("after-broken", 0, {"epochs": "1", "broken-pool.epochs": "1"})]
    good = [(method, seed, s) for method, _, s in (CRT, LWS) for seed in range(2)]
    jobs = pool_jobs(results, *breaking, *good)
    pools = [pool(jobs, results, plugins=plugins) for _ in range(2)]
    finished = [started.finish() for started in pools]
    for outcomes in finished:
        first, second = of("failed", outcomes)
        assert "division by zero" in outcomes[first][1]
        assert "it starts from broken-pool seed 0, which failed" in outcomes[second][1]
        done = of("done", outcomes)
        assert len(done) == len(jobs) - 2
    assert [attempts(results / key) for key in done] == [1] * len(done)
    assert attempts(results / first) == 1
    assert not (results / second / "run.json").exists()


def test_a_run_that_kills_its_workers_is_left_alone(pool, pool_jobs, plugin, tmp_path):
    plugins = [
        plugin("deadly", "os.kill(os.getpid(), signal.SIGKILL)"),
        plugin("after-deadly", LOSS, "deadly"),
    ]
    for path in plugins:
        load_plugin(path)
    wanted = ("after-deadly", 0, {"epochs": "1", "deadly.epochs": "1"})
    jobs = pool_jobs(tmp_path, wanted)
    outcomes = pool(jobs, tmp_path, plugins=plugins).finish()
    first, second = of("gave-up", outcomes)
    assert "its worker died 3 times, the last one was ended by SIGKILL" in outcomes[first][1]
    assert outcomes[second][1] == "deadly seed 0, which it starts from, is not there"
    assert run_state(tmp_path / first) == "interrupted"
    assert run_state(tmp_path / second) == "missing"
    assert Path(outcomes[first][1].rpartition("see ")[2]).is_file()


def test_a_gpu_that_breaks_beneath_run_after_run_is_left_alone(pool, pool_jobs, plugin, tmp_path):
    """It would else take all of them; none has failed by that."""
    path = plugin("on-broken-gpu", f"{PLANT_LOSS} or 1 / 0")
    load_plugin(path)
    jobs = pool_jobs(tmp_path, *(("on-broken-gpu", seed, {"epochs": "1"}) for seed in range(4)))
    started = pool(jobs, tmp_path, plugins=[path], retry=Retry(attempts=1))
    why = "no worker can work here: a worker can't use its GPU any more: planted, beneath 3 runs"
    with pytest.raises(UserError, match=why):
        started.finish()
    states = [run_state(tmp_path / job.key) for job in jobs]
    assert states == ["interrupted"] * 3 + ["missing"]


def test_a_run_that_hangs_is_ended_tried_once_more_and_fails(
    pool, pool_jobs, plugin, monkeypatch, tmp_path
):
    """Though it holds the interpreter's lock; what is behind it goes on."""
    monkeypatch.setattr("lmdbench.sweep.executors.pool.STOP_SECONDS", 1.0)
    hang = f"{LOSS} if self.progress < 0.5 else {DEADLOCK}"
    plugins = [plugin("hanging", hang)]
    load_plugin(plugins[0])
    jobs = pool_jobs(tmp_path, ("hanging", 0, {"epochs": "2"}), ("ce", 0, {"epochs": "1"}))
    hanging, behind = jobs
    outcomes = pool(jobs, tmp_path, plugins=plugins, retry=Retry(stall=2.0)).finish()
    assert outcomes[behind.key][0] == "done"
    kind, text = outcomes[hanging.key]
    assert kind == "failed"
    assert re.fullmatch(
        r"its worker made no step for \d+ s, in loss \(hanging_plugin\.py:\d+\); "
        "it hung 2 times without an epoch done",
        text,
    )
    assert last_error(tmp_path / hanging.key) == text
    assert run_state(tmp_path / hanging.key) == "failed"
    ends = attempts_of(tmp_path / hanging.key)
    assert [(one.how, one.cause, one.epoch) for one in ends] == [
        ("died", "stall", 0),
        ("died", "stall", 1),
    ]


def test_a_worker_that_was_suspended_does_not_hang(pool, pool_jobs, workers, until, tmp_path):
    (long,) = pool_jobs(tmp_path, LONG)
    started = pool([long], tmp_path, retry=Retry(stall=3.0))
    until(checkpoint(tmp_path, long))
    (worker,) = workers(os.getpid())
    os.kill(worker, signal.SIGSTOP)
    time.sleep(4.5)
    os.kill(worker, signal.SIGCONT)
    assert of("done", started.finish()) == [long.key]
    assert [one.how for one in attempts_of(tmp_path / long.key)] == ["done"]


def test_a_pool_that_trains_no_chains_leaves_what_is_not_ready_and_rests(
    pool, pool_jobs, workers, until, monkeypatch, tmp_path
):
    """Nor does a worker keep its memory while there is nothing for it to do."""
    monkeypatch.setattr("lmdbench.sweep.executors.pool.REST_SECONDS", 0.2)
    long, second = pool_jobs(tmp_path, ("crt", 0, {"epochs": "1", "ce.epochs": "80"}))
    alone = pool([second], tmp_path, chains=False).finish()
    assert alone[second.key][0] == "not-ready"
    (other,) = pool_jobs(tmp_path, ("ce", 1, {"epochs": "1"}))
    started = pool([long, other, second], tmp_path, workers=2, chains=False)
    until(lambda: len(workers(os.getpid())) == 2)
    until(lambda: len(workers(os.getpid())) == 1)
    assert "queued" in started.watcher.counts
    assert of("done", started.finish()) == [long.key, other.key, second.key]


def test_where_no_worker_can_work(pool, pool_jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "31")
    (job,) = pool_jobs(tmp_path, CRT)[:1]
    with pytest.raises(UserError, match="no worker can work here: cuda can't be used: "):
        pool([job], tmp_path, workers=None).finish()


# Slots


@pytest.fixture
def options(tmp_path):
    def make(**given):
        there = dict.fromkeys(("results", "cache", "folder"), tmp_path)
        return PoolOptions(**there, name="toy-0", **given)

    return make


def test_slots(options, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    a, b = Slot("GPU 0", "cuda", "GPU-a"), Slot("GPU 1", "cuda", "GPU-b")
    assert make_slots(options()) == [a, b]
    assert make_slots(options(gpus=(1,))) == [b]
    assert make_slots(options(workers=2)) == [Slot("CPU 0", "cpu"), Slot("CPU 1", "cpu")]
    shared = make_slots(options(gpus=(0, 1), runs_per_gpu=2))
    # With few runs, each gets a GPU of its own.
    assert [(slot.name, slot.visible) for slot in shared] == [
        ("GPU 0.0", "GPU-a"),
        ("GPU 1.0", "GPU-b"),
        ("GPU 0.1", "GPU-a"),
        ("GPU 1.1", "GPU-b"),
    ]
    with pytest.raises(UserError, match=r"GPU 2 is asked for, .* shows 2 GPUs \(the first is 0\)"):
        make_slots(options(gpus=(2,)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert make_slots(options()) == [Slot("CPU 0", "cpu")]
    with pytest.raises(UserError, match=r"has none .*\(CUDA_VISIBLE_DEVICES=\); .*--workers N"):
        make_slots(options(runs_per_gpu=2, needs_gpu=True))
    with pytest.raises(UserError, match=r"a GPU is asked for, and this machine has none that can"):
        make_slots(options(gpus=(0, 1)))
    assert make_slots(options(workers=1, needs_gpu=True)) == [Slot("CPU 0", "cpu")]


def test_threads_do_not_depend_on_how_many_runs_are_left(pool, pool_jobs, tmp_path):
    (job,) = pool_jobs(tmp_path, ("ce", 0, {"epochs": "1"}))
    cores = len(os.sched_getaffinity(0))
    pool([job], tmp_path, workers=2 * cores, threads=None).finish()
    record = json.loads((tmp_path / job.key / "run.json").read_text())
    assert record["threads"] == 1
