"""Which runs are launched, retried, redone or held back."""

import subprocess
import sys
from dataclasses import replace

import pytest

from lmdbench.runs.options import IN_SWEEPS
from lmdbench.sweep.executors import job_executor
from lmdbench.sweep.launch import LAUNCH, RETRY, batches, choose, launching, pool_jobs
from lmdbench.sweep.status import Overview, RunStatus


@pytest.fixture
def overview(make_plan):
    """``overview(ce=state, crt=state, …)`` of one seed; what is not named is missing."""
    plan = make_plan('methods = ["ce", "crt", "lws", "rrl"]')

    def make(**found):
        runs = {
            key: RunStatus(
                node,
                found.get(node.run.spec.method, "missing"),
                job="5_1" if found.get(node.run.spec.method) == "queued" else None,
            )
            for key, node in plan.nodes.items()
        }
        return Overview(plan, runs)

    return make


def chosen(overview, states, trust=IN_SWEEPS, **options):
    found = choose(overview, states, trust, **options)
    names = [node.run.spec.method for node in found.nodes]
    held = {overview.runs[key].node.run.spec.method for key in found.held}
    return names, held


def test_launch_takes_what_is_missing_or_lost(overview):
    found = overview(ce="lost", crt="running", lws="missing", rrl="done")
    assert chosen(found, LAUNCH) == (["ce", "lws"], set())
    assert chosen(overview(ce="queued", crt="queued", lws="running", rrl="failed"), LAUNCH) == (
        [],
        set(),
    )


def test_what_starts_from_a_failed_run_is_held_back(overview):
    assert chosen(overview(ce="failed", rrl="done"), LAUNCH) == ([], {"crt", "lws"})


def test_retry_brings_what_waits_for_a_failed_run(overview):
    found = overview(ce="failed", crt="failed", lws="missing", rrl="missing")
    assert chosen(found, RETRY) == (["ce", "crt", "lws"], set())


def test_retry_leaves_alone_what_was_never_begun(overview):
    assert chosen(overview(ce="done", crt="lost"), RETRY) == (["crt"], set())


def test_changed_runs_are_left_trusted_or_redone_with_all_that_follows(overview):
    found = overview(ce="changed", crt="done", lws="missing", rrl="done")
    assert chosen(found, LAUNCH) == ([], {"lws"})
    assert chosen(found, LAUNCH, replace(IN_SWEEPS, accept_changed=True)) == (["lws"], set())
    redo = replace(IN_SWEEPS, redo="changed")
    assert chosen(found, LAUNCH, redo) == (
        ["ce", "crt", "lws"],
        set(),
    )


def test_joining_takes_what_other_pools_have_queued(overview):
    found = overview(ce="done", crt="queued", lws="queued", rrl="done")
    runs = {
        key: RunStatus(one.node, one.state, pooled=one.node.run.spec.method == "crt")
        for key, one in found.runs.items()
    }
    found = Overview(found.plan, runs)
    assert chosen(found, LAUNCH)[0] == []
    assert chosen(found, LAUNCH, join=True)[0] == ["crt"]


def test_a_pool_waits_only_for_what_it_has_itself(overview):
    found = overview(ce="running")
    jobs = pool_jobs(choose(found, LAUNCH, IN_SWEEPS).nodes)
    assert [job.needs for job in jobs] == [None, None, None]


def test_jobs_wait_for_what_is_in_the_queue_already(overview):
    found = overview(ce="queued", rrl="done")
    chosen = choose(found, LAUNCH, IN_SWEEPS).nodes
    arrays, jobs = batches(found.plan, chosen, found, job_executor("slurm"), 100)
    (array,) = arrays
    assert [jobs[key] for key in array.after] == ["5_1"]
    elsewhere = {key: replace(status, executor="other") for key, status in found.runs.items()}
    (array,), jobs = batches(
        found.plan, chosen, Overview(found.plan, elsewhere), job_executor("slurm"), 100
    )
    assert jobs == {}


def test_one_launch_at_a_time(tmp_path, until):
    held = (
        "import sys, time; from pathlib import Path; from lmdbench.sweep.launch import launching\n"
        f"with launching(Path({str(tmp_path)!r}), print): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE)
    said = []
    try:
        assert process.stdout.readline() == b"in\n"

        def say(text):
            said.append(text)
            process.kill()  # without a word to anybody: its claim dies with it

        with launching(tmp_path, say):
            assert "another launch" in said[0]
    finally:
        process.kill()
        process.wait()
