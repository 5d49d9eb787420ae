"""How many jobs a sweep has in a queue at a time, in how many arrays."""

# ruff: noqa: ARG002 (a queue made simple)

import json
from collections import Counter
from dataclasses import replace

import pytest

from lmdbench.cli import sweep_follow
from lmdbench.core.errors import UserError
from lmdbench.sweep.executors import JobExecutor, register_executor
from lmdbench.sweep.executors.batches import Full, Queued
from lmdbench.sweep.launch_record import follow_claim, read_launches, write_launch
from lmdbench.sweep.submission import Submitted

LIMITED = "limited"


class Limited(JobExecutor):
    """A queue that holds so many jobs, which never begin; the class is the queue."""

    largest = 10
    most = 8
    said, certain = "QOSMaxSubmitJobPerUserLimit", True
    jobs: dict[str, Queued]  # key of a run → the job that has it
    refused = submitted = 0
    away = False

    def hand_over(self, batch, name, folder, resources, work, jobs):
        queue = type(self)
        if len(self.queue({}, ())) + len(batch.tasks) > self.most:
            queue.refused += 1
            raise Full(f"refuses {name}: {self.said}", certain=self.certain)
        queue.submitted += 1
        for key, job in batch.jobs(str(self.submitted)).items():
            index = int(job.partition("_")[2] or 0)
            queue.jobs[key] = Queued(job, name, index, "PENDING")
        return str(self.submitted)

    def preview(self, batch, name, folder, resources, jobs):
        return name

    def queue(self, launches, users):
        if self.away:
            raise UserError("nobody answers")
        return list(dict.fromkeys(self.jobs.values()))

    def cancel(self, ids):
        for key in [key for key, job in self.jobs.items() if job.job in ids]:
            del self.jobs[key]

    def log(self, folder, name, job):
        return folder / "log"

    def waits_for(self, job):
        return True


@pytest.fixture
def limited():
    return register_executor(LIMITED, title="Limited")(type("Ours", (Limited,), {"jobs": {}}))


@pytest.fixture
def sweep(lmdbench, toy_folder, tmp_path, limited):
    """Runs a command of ``lmdbench sweep``, of ``seeds`` × (ce, crt, lws)."""

    def call(command, *words, methods='["ce", "crt", "lws"]', seeds="0-6", slurm=""):
        path = tmp_path / "toy.toml"
        path.write_text(
            f'datasets = ["folder"]\nmethods = {methods}\nseeds = "{seeds}"\n'
            f'[run]\nbackbone = "small"\nimage_size = 24\ndata_root = "{toy_folder}"\n'
            f'[resources]\non = "{LIMITED}"\n[slurm]\n{slurm}\n'
        )
        return lmdbench("sweep", command, path, "--results", tmp_path / "results", *words)

    return call


def states(sweep, **options):
    return json.loads(sweep("status", "--json", **options).out)["states"]


def end(limited, results, count):
    """The first runs of the queue end; as failed ones they need no predictions."""
    for key in list(limited.jobs)[:count]:
        (results / key).mkdir(parents=True)
        (results / key / "failed.txt").write_text("ValueError: as it must\n")
        del limited.jobs[key]


def test_an_array_that_is_too_large_is_halved_and_what_has_no_room_is_told(sweep, limited):
    outcome = sweep("launch")
    assert outcome.code == 3, outcome.err
    assert len(limited.jobs) == 8
    assert limited.refused <= 4
    assert (
        "8 of 21 runs are submitted: the queue takes no more than 8 jobs of yours at a time; "
        "lmdbench sweep launch"
    ) in outcome.err
    assert "--follow submits the rest as room comes" in outcome.err
    assert states(sweep) == {"queued": 8, "missing": 13}
    assert sweep("launch").code == 3  # nothing new, and nothing twice
    assert len(limited.jobs) == 8


def test_workers_that_have_no_room_are_told_though_others_do_the_runs():
    said = []
    sweep_follow.tell_rest(None, Submitted(7, (), "max_jobs is 2", None, 2), said.append)
    assert said == ["2 workers are not submitted: max_jobs is 2"]


def test_max_jobs_bounds_the_jobs_of_a_sweep_and_no_others(sweep, limited):
    limited.most = 1000
    limited.jobs["another"] = Queued("77", "another", None, "RUNNING")
    few = {"slurm": "max_jobs = 4"}
    outcome = sweep("launch", **few)
    assert outcome.code == 3
    assert "4 of 21 runs are submitted: max_jobs is 4; lmdbench sweep launch" in outcome.err
    first = list(limited.jobs)[1]
    assert "0 of 17 runs are submitted: max_jobs is 4" in sweep("launch", **few).err
    del limited.jobs[first]  # lost
    assert "1 of 18 runs are submitted" in sweep("launch", **few).err
    assert len(limited.jobs) == 5
    assert sweep("launch").code == 0
    assert len(limited.jobs) == 22
    assert limited.refused == 0


def test_a_limit_that_may_be_of_another_kind_is_an_error_where_nothing_is_queued(
    sweep, limited, tmp_path
):
    limited.most, limited.said, limited.certain = 0, "violates policy", False
    outcome = sweep("launch")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].endswith("violates policy")
    assert read_launches(tmp_path / "results") == []


def test_following_submits_all_as_room_comes_through_silence_and_losses(
    sweep, limited, tmp_path, monkeypatch
):
    rounds, lost = [], []

    def sleep(seconds):
        rounds.append((seconds, len(limited.jobs)))
        limited.away = len(rounds) == 2
        if len(rounds) == 1:
            lost.append(next(iter(limited.jobs)))
            del limited.jobs[lost[0]]  # without a trace: submitted again
        end(limited, tmp_path / "results", 3)

    monkeypatch.setattr(sweep_follow.time, "sleep", sleep)
    many = {"methods": '["ce"]', "seeds": "0-30"}
    outcome = sweep("launch", "--follow", **many)
    assert outcome.code == 0, outcome.err
    assert max(jobs for _, jobs in rounds) == 8
    assert "nobody answers" in outcome.err
    told = states(sweep, **many)
    assert told["failed"] + told.get("queued", 0) == 31, told
    assert limited.refused <= 5  # the limit is known from then on
    assert follow_claim(tmp_path / "results/sweeps/toy").holder() is None
    launches = [launch for _, launch in read_launches(tmp_path / "results")]
    submitted = Counter(key for launch in launches for unit in launch.units for key in unit)
    assert len(submitted) == 31
    assert {key for key, times in submitted.items() if times > 1} == {lost[0]}


def test_a_second_follower_a_cancelled_sweep_and_a_follower_here_are_told(
    sweep, limited, tmp_path, monkeypatch
):
    claim = follow_claim(tmp_path / "results/sweeps/toy")
    claim.path.parent.mkdir(parents=True)
    assert claim.acquire()
    outcome = sweep("launch", "--follow")
    assert outcome.code == 2
    assert "follows toy already, and submits the rest" in outcome.err
    claim.release()

    def cancelled(seconds):
        for folder, launch in read_launches(tmp_path / "results"):
            write_launch(folder, replace(launch, cancelled=True))

    monkeypatch.setattr(sweep_follow.time, "sleep", cancelled)
    outcome = sweep("launch", "--follow")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].endswith("toy was cancelled; nothing more is submitted")
    outcome = sweep("launch", "--follow", "--on", "local")
    assert outcome.err.splitlines()[-1].endswith("on this machine launch stays until all is done")
