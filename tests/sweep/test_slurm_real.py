"""Runs as jobs of a real SLURM, to the end, through whatever happens to them on the way.

All jobs are submitted and disturbed first and then looked at, so that their waits pass together.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.registry import load_plugin
from lmdbench.data.splits.spec import SplitSpec
from lmdbench.runs.attempts import attempts as attempts_of
from lmdbench.runs.request import Contexts, RunContext
from lmdbench.runs.state import run_state
from lmdbench.sweep.config.entries import Entry
from lmdbench.sweep.config.file import Sweep
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.executors import slurm as on_slurm
from lmdbench.sweep.executors.batches import Work, units
from lmdbench.sweep.plan import make_plan

PLUGIN = '''
import os
import time
from dataclasses import dataclass

from lmdbench.training.method import METHODS, register_method


@register_method("slow")
class Slow(METHODS.get("ce")):
    """Cross-entropy that takes its time."""

    title = "slow"
    source = "tests"

    @dataclass(frozen=True, kw_only=True)
    class Settings(METHODS.get("ce").Settings):
        pause: float = 0.5  # seconds

    def epoch(self, number):
        time.sleep(self.settings.pause)
        return super().epoch(number)


@register_method("deadly")
class Deadly(METHODS.get("ce")):
    """Aborts in its second epoch."""

    title = "deadly"
    source = "tests"

    def epoch(self, number):
        if number == 1:
            os.abort()
        return super().epoch(number)


@register_method("broken")
class Broken(METHODS.get("ce")):
    """Breaks."""

    title = "broken"
    source = "tests"

    def epoch(self, number):
        raise ValueError("as it must")
'''


class Launch:
    """A sweep of its own results folder, submitted."""

    def __init__(self, folder, toy_folder, plugin, entries, seeds=(0,), runs_per_job=1, **options):
        self.results = folder / "results"
        setup = RunContext(
            "folder", toy_folder, SplitSpec(), backbone="small", image_size=24, weights="none"
        )
        self.resources = Resources(
            on="slurm",
            time_minutes=options.pop("minutes", 10),
            signal_seconds=10,
            runs_per_job=runs_per_job,
            threads=1,
            **options,
        )
        sweep = Sweep("toy", "a test", (setup,), entries, seeds, self.resources, (plugin,))
        self.work = Work(self.results, folder / "cache", (plugin,))
        contexts = Contexts(self.results, folder / "cache", files=False)
        self.plan = make_plan(sweep, contexts)
        nodes = [(node.job, node.needs) for node in self.plan.nodes.values()]
        self.batches = units(nodes, runs_per_job, {}, on_slurm.max_array_size())
        self.jobs = {}
        for number, batch in enumerate(self.batches):
            name, where = f"toy-{number}", folder / "submitit"
            job = on_slurm.submit(batch, name, where, self.resources, self.work, self.jobs)
            self.jobs |= batch.jobs(job)
        self.logs = folder / "submitit"

    def key(self, method, seed=0):
        (key,) = (key for key in self.plan.nodes if f"/{method}/seed{seed}-" in key)
        return key

    def directory(self, method, seed=0):
        return self.results / self.key(method, seed)

    def job(self, method, seed=0):
        return self.jobs[self.key(method, seed)]

    def state(self, method, seed=0):
        return run_state(self.directory(method, seed))

    def epochs(self, method, seed=0):
        path = self.directory(method, seed) / "history.csv"
        return len(path.read_text().splitlines()) - 1 if path.exists() else 0

    def record(self, method, seed=0):
        return json.loads((self.directory(method, seed) / "run.json").read_text())

    def log(self, method, seed=0):
        path = self.logs / f"{self.job(method, seed)}_0_log.out"
        return path.read_text() if path.exists() else ""

    def wait(self, condition, timeout=150):
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                texts = [f"--- {p.name}\n{p.read_text()[-2000:]}" for p in self.logs.glob("*log*")]
                pytest.fail("\n".join([f"not within {timeout} s", str(on_slurm.queue()), *texts]))
            time.sleep(0.3)

    def wait_gone(self, timeout=150):
        """Until no job of it is in the queue."""
        mine = set(self.jobs.values())
        self.wait(lambda: mine.isdisjoint(job.job for job in on_slurm.queue()), timeout)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "plugin_of_slurm_tests.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def inside(slurm):
    """Commands of this process and their children use the cluster of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, slurm.env[name])
        yield


def ce(epochs=2):
    return Entry("ce", settings={"epochs": str(epochs)})


def slow(epochs, pause):
    return Entry("slow", settings={"epochs": str(epochs), "pause": str(pause)})


SCENARIOS = {
    "limit": lambda: {"entries": (slow(30, 1.0),), "minutes": 1},
    "endless": lambda: {"entries": (slow(2, 600),), "minutes": 1},
    "requeued": lambda: {"entries": (slow(10, 1.0),)},
    "bare": lambda: {"entries": (slow(10, 1.0),), "use_srun": False},
    "cancelled": lambda: {
        "entries": (
            Entry("crt", "slow", {"epochs": "1", "slow.epochs": "10", "slow.pause": "1.0"}),
        )
    },
    "shared": lambda: {
        "entries": (
            Entry("crt", settings={"epochs": "1", "ce.epochs": "2"}),
            Entry("lws", settings={"epochs": "1", "ce.epochs": "2"}),
        ),
        "seeds": (0, 1, 2),
    },
    "taken": lambda: {"entries": (ce(1),)},
    "poisoned": lambda: {
        "entries": (Entry("deadly", settings={"epochs": "3"}), ce()),
        "runs_per_job": 2,
        "retry": Retry(attempts=2),
    },
    "broken": lambda: {
        "entries": (Entry("crt", "broken", {"epochs": "1"}), ce()),
        "runs_per_job": 2,
    },
}


def requeue(launch, slurm):
    slurm.call("scontrol", "requeue", launch.job("slow"))


def signal_batch_step(launch, slurm):
    """As SLURM does for ``--signal=B:USR2``, while submitit cannot write its file anew."""
    (launch.logs / f"{launch.job('slow')}_submitted.pkl.save_tmp").touch()
    slurm.call("scancel", "--batch", "--signal=USR2", launch.job("slow"))


def cancel(launch, slurm):
    claim = Claim(launch.directory("slow") / "running.json")
    former = (claim.holder() or {})["token"]
    on_slurm.cancel([launch.job("slow"), "987654"])
    started = time.monotonic()
    launch.wait(lambda: (claim.holder() or {}).get("token") != former)
    launch.claimed_on = time.monotonic() - started


FAULTS = {"requeued": requeue, "bare": signal_batch_step, "cancelled": cancel}


@pytest.fixture(scope="module")
def launched(inside, slurm, plugin, toy_folder, tmp_path_factory):
    """Every scenario by its name, submitted, and disturbed once its slow run has begun."""
    launches = {
        name: Launch(tmp_path_factory.mktemp(name), toy_folder, plugin, **make())
        for name, make in SCENARIOS.items()
    }
    launches["taken"].claim = Claim(launches["taken"].directory("ce") / "running.json")
    assert launches["taken"].claim.acquire()
    check_queue(launches)
    for name, disturb in FAULTS.items():
        launches[name].wait(lambda launch=launches[name]: launch.epochs("slow") >= 1)
        disturb(launches[name], slurm)
    return launches


def check_queue(launches):
    """Each array task is listed, with what it waits for."""

    def found(name):
        return next(job for job in on_slurm.queue() if job.job == name)

    launch = launches["shared"]
    job = launch.job("crt", 1)
    launch.wait(lambda: found(job).reason == "Dependency", timeout=60)
    waiting = found(job)
    assert (waiting.name, waiting.index, waiting.state) == ("toy-1", 1, "PENDING")
    single = found(launches["limit"].job("slow"))
    assert (single.name, single.index) == ("toy-0", None)
    array = launch.job("ce", 0).partition("_")[0]
    assert [launch.job("ce", seed) for seed in (0, 1)] == [f"{array}_0", f"{array}_1"]


@pytest.fixture
def undisturbed(toy_run, plugin, tmp_path):
    """The predictions of the same run as ``lmdbench run`` makes them."""

    def run(launch, method, seed, *words):
        options = ("--plugin", plugin, "--weights", "none", "--seeds", seed, *words)
        assert toy_run(method, *options).code == 0
        return arrays(tmp_path / "results" / launch.key(method, seed))

    return run


def arrays(directory):
    with np.load(directory / "predictions.npz") as content:
        return dict(content)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_requeued_in_the_middle_it_goes_on_and_ends_the_same(launched, undisturbed):
    launch = launched["requeued"]
    words = ("--set", "epochs=10", "--set", "pause=1.0")
    expected = undisturbed(launch, "slow", 0, *words)
    launch.wait_gone()
    assert launch.state("slow") == "finished"
    assert launch.record("slow")["attempts"] == 2
    ends = [one.how for one in attempts_of(launch.directory("slow"))]
    assert ends == ["stopped", "done"]  # no death: SLURM's own doing
    assert "resuming after epoch" in launch.log("slow")
    assert_same(arrays(launch.directory("slow")), expected)


def test_without_srun_the_signal_reaches_python_and_no_file_need_be_written(launched):
    launch = launched["bare"]
    launch.wait_gone()
    assert launch.state("slow") == "finished"
    assert launch.record("slow")["attempts"] == 2
    assert "resuming after epoch" in launch.log("slow")


def test_a_cancelled_worker_gives_its_claim_up_and_its_dependant_does_not_begin(launched):
    launch = launched["cancelled"]
    assert launch.claimed_on < 4  # before it would be killed
    launch.wait_gone()
    assert launch.state("slow") == "interrupted"
    assert not launch.directory("crt").exists()


def test_runs_with_a_shared_stage_1_to_the_end(launched, undisturbed):
    launch = launched["shared"]
    launch.wait_gone()
    assert [(len(batch.units), batch.aligned) for batch in launch.batches] == [
        (3, False),
        (3, True),
        (3, True),
    ]
    for seed in (0, 1, 2):
        for method in ("ce", "crt", "lws"):
            assert launch.state(method, seed) == "finished"
            assert launch.record(method, seed)["attempts"] == 1
    expected = undisturbed(launch, "crt", 1, "--set", "epochs=1", "--set", "ce.epochs=2")
    assert_same(arrays(launch.directory("crt", 1)), expected)


def test_a_run_that_another_worker_has_is_waited_for(launched):
    launch = launched["taken"]
    launch.wait(lambda: "; waiting" in launch.log("ce"))
    assert launch.job("ce") in {job.job for job in on_slurm.queue()}
    launch.claim.release()
    launch.wait_gone()
    assert launch.state("ce") == "finished"


def test_a_run_that_aborts_takes_nothing_behind_it_along(launched):
    launch = launched["poisoned"]
    launch.wait_gone()
    assert launch.job("deadly") == launch.job("ce")
    assert (launch.state("deadly"), launch.state("ce")) == ("interrupted", "finished")
    tries = attempts_of(launch.directory("deadly"))
    assert [(one.how, one.cause, one.epoch, one.job) for one in tries] == [
        ("died", "crash", epoch, launch.job("deadly")) for epoch in (0, 1)
    ]
    assert "its worker was ended by SIGABRT" in tries[-1].reason
    assert "Fatal" not in launch.log("ce")


def test_a_failed_ancestor_strands_nobody(launched, slurm):
    launch = launched["broken"]
    launch.wait_gone()
    assert launch.state("ce") == "finished"  # in one job with the broken one
    assert launch.state("broken") == launch.state("crt") == "failed"
    told = (launch.directory("crt") / "failed.txt").read_text().strip()
    assert told == "it starts from broken seed 0, which failed: ValueError: as it must"
    # What waits for a job must begin where some of its runs are done.
    for method, state in (("broken", "COMPLETED"), ("crt", "FAILED")):
        job = slurm.call("scontrol", "show", "job", launch.job(method))
        assert f"JobState={state}" in job


def test_a_run_longer_than_the_time_limit_is_requeued_and_finished(launched):
    launch = launched["limit"]
    launch.wait_gone()
    assert launch.state("slow") == "finished"
    assert launch.record("slow")["attempts"] >= 2
    assert "resuming after epoch" in launch.log("slow")


def test_a_time_limit_shorter_than_an_epoch_is_told(launched, slurm):
    launch = launched["endless"]
    job = launch.job("slow")
    launch.wait_gone(240)  # more lives, where a slow start uses some up
    assert launch.state("slow") == "failed"
    last = (launch.directory("slow") / "failed.txt").read_text().splitlines()[-1]
    assert "the time limit of 1 min is shorter than an epoch" in last
    assert "JobState=FAILED" in slurm.call("scontrol", "show", "job", job)


def test_what_sbatch_refuses_is_one_line(launched, tmp_path):
    launch = launched["shared"]
    resources = dataclasses.replace(launch.resources, sbatch={"partition": "nowhere"})
    where = tmp_path / "submitit"
    with pytest.raises(UserError) as refused:
        on_slurm.submit(launch.batches[0], "toy-9", where, resources, launch.work, {})
    assert "\n" not in str(refused.value)
    assert "invalid partition specified: nowhere" in str(refused.value)
    assert not list(where.glob("*.pkl"))


def test_pending_jobs_are_cancelled_at_once(launched, tmp_path):
    launch = launched["shared"]
    resources = dataclasses.replace(launch.resources, sbatch={"hold": True})
    (first, *_) = launch.batches
    job = on_slurm.submit(first, "toy-8", tmp_path / "submitit", resources, launch.work, {})
    mine = set(first.jobs(job).values())
    assert mine <= {queued.job for queued in on_slurm.queue()}
    started = time.monotonic()
    on_slurm.cancel(sorted(mine))  # scancel retries for 20 s to signal a pending job
    assert time.monotonic() - started < 10
    launch.wait(lambda: mine.isdisjoint(queued.job for queued in on_slurm.queue()), 60)


SLOW_ANSWER = """#!/bin/sh
env > {folder}/environment
{sbatch} "$@" > /dev/null
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""


def test_an_answer_that_is_lost_does_not_lose_the_job(launched, slurm, tmp_path, monkeypatch):
    launch = launched["taken"]
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(SLOW_ANSWER.format(folder=tmp_path, sbatch=shutil.which("sbatch")))
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "300")  # as within another job
    held = dataclasses.replace(launch.resources, sbatch={"hold": True})
    (batch,) = launch.batches
    job = on_slurm.submit(batch, "toy-slow-answer", tmp_path, held, launch.work, {})
    assert job in {queued.job for queued in on_slurm.queue() if queued.name == "toy-slow-answer"}
    on_slurm.cancel([job])
    assert "SLURM_MEM_PER_CPU" not in (tmp_path / "environment").read_text()
    assert "SLURM_CONF" in (tmp_path / "environment").read_text()


def test_arrays_are_cut_to_what_the_cluster_allows(slurm):
    assert on_slurm.max_array_size() == slurm.max_array_size


def test_a_script_is_what_sbatch_takes(launched, slurm, tmp_path):
    launch = launched["shared"]
    text = on_slurm.script(launch.batches[0], "toy-dry", tmp_path, launch.resources, {})
    path = tmp_path / "job.sh"
    path.write_text(text)
    done = subprocess.run(
        ["sbatch", "--test-only", path], env=slurm.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not any(job.name == "toy-dry" for job in on_slurm.queue())


def test_a_controller_that_is_away_is_one_line(launched, slurm):
    slurm.stop_controller()
    try:
        with pytest.raises(UserError, match="Unable to contact slurm controller") as away:
            on_slurm.queue()
        assert "\n" not in str(away.value)
    finally:
        slurm.start_controller()
        slurm.wait_ready()
