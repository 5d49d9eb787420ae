"""Plans: which runs, shared how, in which order; and that workers come to the same ones."""

import json

import pytest

from lmdbench.core.errors import UserError
from lmdbench.runs.request import Contexts
from lmdbench.sweep.executors.jobs import RunJob, planned_run


def methods(plan):
    return [node.run.spec.method for node in plan.nodes.values()]


def test_stage_1_is_planned_once_and_first(make_plan):
    plan = make_plan('methods = ["crt", "lws", "ce"]\nseeds = [0, 1]')
    assert methods(plan) == ["ce", "crt", "lws"] * 2  # the first seed's whole table first
    for node in plan.nodes.values():
        if node.needs is None:
            continue
        assert list(plan.nodes).index(node.needs) < list(plan.nodes).index(node.key)
        assert plan.nodes[node.needs].run.spec.seed == node.run.spec.seed
    assert [plan.times_needed(node) for node in plan.shared] == [3, 3]
    assert all(node.asked for node in plan.nodes.values())


def test_what_is_only_started_from_is_told_apart(make_plan):
    plan = make_plan('methods = ["crt"]')
    ce, crt = plan.nodes.values()
    assert not ce.asked
    assert [entry.method for _, entry in crt.asked] == ["crt"]
    assert plan.shared == []


def test_settings_of_an_ancestor_keep_it_shared(make_plan):
    plan = make_plan('methods = ["ce", "crt"]\n[settings.ce]\nepochs = 3')
    assert methods(plan) == ["ce", "crt"]
    (ce, _) = plan.nodes.values()
    assert ce.run.spec.settings["epochs"] == 3


def test_keys_are_the_directories_that_run_uses(make_plan, toy_run, tmp_path):
    plan = make_plan('methods = ["ce"]\n[settings.ce]\nepochs = 1\nbatch_size = 8')
    outcome = toy_run("ce", "--set", "epochs=1", "--set", "batch_size=8")
    assert outcome.code == 0, outcome.err
    (key,) = plan.nodes
    assert (tmp_path / "results" / key / "done").exists()


def test_a_worker_comes_to_the_same_runs(make_plan, tmp_path, cache):
    plan = make_plan('methods = ["crt"]\nseeds = "0-2"\n[settings.crt]\nlr = [0.1, 0.2]')
    contexts = Contexts(plan.results, cache, files=True)
    for node in plan.nodes.values():
        sent = RunJob.from_json(json.loads(json.dumps(node.job.to_json())))
        assert sent == node.job
        run = planned_run(sent, contexts)
        assert (run.directory, run.spec.id) == (node.run.directory, node.job.id)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"id": "0" * 64}, "comes to another run here"), ({"code": "0"}, "code of ce .* has changed")],
)
def test_a_worker_refuses_what_was_planned_otherwise(make_plan, cache, change, complaint):
    plan = make_plan('methods = ["ce"]')
    (node,) = plan.nodes.values()
    run_job = RunJob(**{**vars(node.job), **change})
    with pytest.raises(UserError, match=complaint):
        planned_run(run_job, Contexts(plan.results, cache, files=True))


def test_set_ups_on_one_split_are_told_apart(make_plan):
    """By as few words as do it: of two networks, each with its own weights, the name alone."""
    (one,) = make_plan('methods = ["ce"]').nodes.values()
    assert one.where == one.place
    networks = 'backbone = ["small", "resnet18"]\ntuning = ["full", "norm"]'
    plan = make_plan('methods = ["ce"]', networks)
    assert {node.where for node in plan.nodes.values()} == {
        f"{one.place} ({backbone}, tuning {tuning})"
        for tuning in ("full", "norm")
        for backbone in ("small", "resnet18")
    }
    plan = make_plan('methods = ["ce"]', 'selection = ["last", "best"]')
    assert [node.setup for node in plan.nodes.values()] == ["selection last", "selection best"]
