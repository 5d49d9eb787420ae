"""What a person sees of a pool, from the events of its workers."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from lmdbench.cli import sweep_live as live
from lmdbench.cli.sweep_live import PlainLines, Screen
from lmdbench.runs.request import RunContext, RunRequest
from lmdbench.sweep.executors.jobs import RunJob
from lmdbench.sweep.executors.messages import Outcome
from lmdbench.sweep.executors.watcher import PoolJob, Slot

WHERE = "isic2019/published-if100"


def pool_job(method="ce", seed=0):
    key = f"{WHERE}/{method}/seed{seed}-00000000"
    job = RunJob(key, "0" * 64, "0" * 64, RunRequest(RunContext("isic2019"), method, seed), 0)
    return PoolJob(job, f"{method} seed {seed} on {WHERE}")


def slots(number):
    return [Slot(f"GPU {n}", "cuda", str(n)) for n in range(number)]


def begin(job, epoch=0, epochs=100):
    where = f"/results/{job.key}"
    title = job.title.partition(" on ")[0]
    return {"event": "begin", "title": title, "directory": where, "epoch": epoch, "epochs": epochs}


def epoch(number, **logs):
    logs = logs or {"loss": 0.4123, "validation_balanced_accuracy": 0.5321}
    return {"event": "epoch", "row": {"epoch": number, **logs, "seconds": 1.0}}


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told: ``clock(5)``."""
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])

    def go_on(seconds):
        now[0] += seconds

    return go_on


@pytest.fixture
def screen():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    return Screen("skin", console)


def lines(screen):
    console = Console(file=io.StringIO(), width=80, height=24)
    console.print(screen.view())
    return console.file.getvalue().splitlines()


def counts(done=0, failed=0, lost=0, running=0, queued=0):
    return {"done": done, "failed": failed, "lost": lost, "running": running, "queued": queued}


def test_a_row_for_each_worker_and_the_time_left(screen, clock):
    first, second, third = (pool_job("ce", seed) for seed in range(3))
    a, b = slots(2)
    screen.begin([a, b], [first, second, third])
    for slot, job in ((a, first), (b, second)):
        screen.started(slot, job)
        screen.event(slot, begin(job, epoch=20))
    clock(60)
    screen.event(a, epoch(50))
    screen.event(b, {"event": "tick", "done": 3, "total": 4})
    screen.count(counts(running=2, queued=1))
    rows = lines(screen)
    assert rows[0].startswith("skin")
    assert "2 running · 1 queued" in rows[0]
    assert "left" not in rows[0]  # nothing has ended yet
    (row,) = [row for row in rows if row.startswith("GPU 0")]
    assert re.search(r"ce seed 0 on isic2019/p.* 50/100 +0\.412 +53\.2 % +1:40$", row.rstrip())
    assert "20/100" in next(row for row in rows if row.startswith("GPU 1"))

    screen.event(b, epoch(100))
    screen.ended(second, Outcome("done"))
    screen.count(counts(done=1, running=1, queued=1))
    rows = lines(screen)
    # 80 epochs in 60 s: 75 s for the one that waits, and 100 s of the first, on two workers.
    assert rows[0].rstrip().endswith("1:40 left")
    assert rows[-1].rstrip() == f"ce seed 1 on {WHERE}: done in 1:00"


def test_an_ancestor_that_is_trained_first_is_named(screen):
    job, (slot,) = pool_job("crt"), slots(1)
    screen.begin([slot], [job])
    screen.started(slot, job)
    screen.event(slot, {"event": "prepare", "done": 40, "total": 100, "what": "preparing images"})
    assert "preparing images 40 %" in "\n".join(lines(screen))
    screen.event(slot, begin(pool_job("ce")))
    assert "ce seed 0 (for crt seed 0" in "\n".join(lines(screen))


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_it_fits_a_small_terminal(screen, workers):
    jobs = [pool_job("a-method-with-a-long-name", seed) for seed in range(500)]
    there = slots(workers)
    screen.begin(there, jobs)
    for slot, job in zip(there, jobs, strict=False):
        screen.started(slot, job)
        screen.event(slot, begin(job))
        screen.event(slot, epoch(1))
        screen.event(slot, {"event": "say", "text": f"said by {slot.name}, " + "long " * 50})
    for job in jobs[workers : workers + 20]:
        screen.ended(job, Outcome("done"))
    screen.count(counts(done=120, failed=12, lost=3, running=workers, queued=365))
    rows = lines(screen)
    assert len(rows) < 24
    assert all(len(row) <= 80 for row in rows)
    assert sum(row.startswith("GPU ") for row in rows) >= min(workers, 14)
    assert ("more workers" in "\n".join(rows)) == (workers == 64)


def test_failures_stay_above_the_view_and_busy_runs_wait(screen, clock):
    job, (slot,) = pool_job(), slots(1)
    screen.begin([slot], [job])
    for outcome in (Outcome("busy", "x"), Outcome("failed", "no [bold] at all")):
        screen.started(slot, job)
        screen.ended(job, outcome)
        assert (job.key in screen.waiting) == (outcome.kind == "busy")
    screen.started(slot, job)
    screen.died(slot, "its worker was ended by SIGKILL")
    assert job.key in screen.waiting
    screen.end()
    shown = screen.console.file.getvalue()
    assert f"ce seed 0 on {WHERE}: failed: no [bold] at all" in shown
    assert "GPU 0: its worker was ended by SIGKILL" in shown


def test_plain_lines(capsys, clock):
    plain = PlainLines()
    jobs = [pool_job("ce"), pool_job("crt")]
    a, b = slots(2)
    plain.begin([a, b], jobs)
    for slot, job in zip((a, b), jobs, strict=True):
        plain.started(slot, job)
    plain.event(a, {"event": "prepare", "done": 2, "total": 5, "what": "computing features"})
    plain.event(a, begin(jobs[0], epochs=4))
    for number in range(1, 4):
        clock(6)
        plain.event(a, epoch(number, loss=0.5, validation_balanced_accuracy=float("nan")))
    plain.event(b, {"event": "say", "text": "the disk is full"})
    plain.died(a, "its worker was ended by SIGKILL")
    for _ in range(2):
        plain.ended(jobs[1], Outcome("busy", "crt seed 0: being trained by process 1 on other"))
    plain.ended(jobs[0], Outcome("done"))
    plain.ended(jobs[1], Outcome("gave-up", "the disk is full"))
    assert capsys.readouterr().err.splitlines() == [
        "GPU 0: computing features: 40 %",
        f"GPU 0: ce seed 0 on {WHERE}: starting",
        f"GPU 0: ce seed 0 on {WHERE}: epoch 1/4  loss 0.5  0:18 left",
        f"GPU 0: ce seed 0 on {WHERE}: epoch 3/4  loss 0.5  0:06 left",
        "GPU 1: the disk is full",
        "GPU 0: its worker was ended by SIGKILL",
        "crt seed 0: being trained by process 1 on other; looking again later",
        f"1/2 ce seed 0 on {WHERE}: done in 0:18",
        f"2/2 crt seed 0 on {WHERE}: left undone: the disk is full",
    ]


PROGRAM = """
import time
from pathlib import Path
from lmdbench.cli.sweep_live import pool_watcher
from lmdbench.runs.code_digest import combined
from lmdbench.runs.request import Contexts, RunRequest, RunContext
from lmdbench.sweep.executors.local import PoolOptions, run_locally
from lmdbench.sweep.executors.watcher import PoolJob
from lmdbench.sweep.executors.jobs import RunJob

results, cache = Path({results!r}), Path({cache!r})
setup = RunContext("folder", Path({toy!r}), backbone="small", image_size=24)
jobs = []
for seed in range(2):
    request = RunRequest(setup, "ce", seed, dict(epochs="6"))
    run = request.plan(Contexts(results, cache, files=False).of(setup))
    key = run.directory.relative_to(results).as_posix()
    job = RunJob(key, run.spec.id, combined(run.code), request, 0)
    jobs.append(PoolJob(job, run.title + " on toy"))
options = dict(results=results, cache=cache, folder=results / "sweeps" / "toy", name="toy")
run_locally(jobs, PoolOptions(**options, workers=1, threads=1), pool_watcher("toy"))
"""


def test_on_a_terminal(toy_folder, read_terminal, tmp_path):
    program = PROGRAM.format(
        results=str(tmp_path), cache=os.environ["LMDBENCH_CACHE"], toy=str(toy_folder)
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=theirs,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"},
    )
    os.close(theirs)
    seen = read_terminal(ours)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "CPU 0 ce seed 0 on toy" in re.sub(" +", " ", plain)
    assert "2 done" in plain
    assert "ce seed 1 on toy: done in 0:0" in plain
