"""What runs ask of a queue by their method, and by how long they take."""

import dataclasses

import pytest

from lmdbench.core.errors import UserError
from lmdbench.sweep.asks import asks
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.estimate import CALIBRATIONS, Estimate, kind_of, save_calibrations
from lmdbench.sweep.executors import job_executor
from lmdbench.sweep.executors.batches import Ask, Batch, resources_of
from lmdbench.sweep.launch import LAUNCH, batches, choose
from lmdbench.sweep.learned import with_more
from lmdbench.sweep.status import look

METHODS = (
    'seeds = [0, 1]\nmethods = ["ce", "crt", {name = "crt", label = "long", set = {epochs = 9}}]'
)


@pytest.fixture
def plan(make_plan):
    def make(slurm, runs_per_job=1):
        resources = f'[resources]\non = "slurm"\nruns_per_job = {runs_per_job}\n'
        return make_plan(f"{METHODS}\n{resources}{slurm}")

    return make


def asked(plan):
    """Method or label → what its runs ask for."""
    found = asks(plan, list(plan.nodes.values()))
    return {node.label: found.get(key, Ask()) for key, node in plan.nodes.items()}


def arrays(plan):
    """The runs of each array, by label, and what it is submitted with."""
    nodes, overview = choose(look(plan), LAUNCH, plan.sweep.resources.run).nodes, look(plan)
    found, _ = batches(plan, nodes, overview, job_executor("slurm"), 100)
    return [
        (
            [plan.nodes[run.key].label for run in batch.runs],
            resources_of(batch, plan.sweep.resources),
        )
        for batch in found
    ]


def calibrated(plan, device, **seconds):
    """Measurements by label are kept in the sweep's folder."""
    known = {
        kind_of(node.run): Estimate(seconds[node.label], device, "a measurement")
        for node in plan.nodes.values()
        if node.label in seconds
    }
    save_calibrations(plan.folder / CALIBRATIONS, known)


def test_a_method_and_a_label_have_options_and_time_of_their_own_in_arrays_of_their_own(plan):
    found = plan(
        '[slurm]\ntime = "8h"\nmem = "8G"\n[slurm.crt]\nmem = "16G"\ngpus_per_node = 1\n'
        '[slurm.long]\ntime = "2h"\nmem = ""'
    )
    crt = (("gpus-per-node", 1), ("mem", "16G"))
    assert asked(found) == {
        "ce": Ask(),
        "crt": Ask(crt),
        "long": Ask((("gpus-per-node", 1), ("mem", "")), 120),
    }
    (first, usual), (second, more), (third, other) = arrays(found)
    assert (first, second, third) == (["ce"] * 2, ["crt"] * 2, ["long"] * 2)
    assert (usual.time_minutes, usual.sbatch) == (480, {"mem": "8G"})
    assert (more.time_minutes, more.sbatch) == (480, {"mem": "16G", "gpus-per-node": 1})
    assert (other.time_minutes, other.sbatch) == (120, {"mem": "", "gpus-per-node": 1})


def test_time_is_twice_what_is_expected_and_that_of_packed_runs_together(plan):
    found = plan('[slurm]\ntime = "auto"\ntime_most = "3h"\n[slurm.long]\ntime = "50m"', 2)
    calibrated(found, "cpu (x86_64)", ce=30.0, crt=1000.0)
    assert asked(found) == {
        "ce": Ask(minutes=1, summed=True),
        "crt": Ask(minutes=34, summed=True),
        "long": Ask(minutes=50),
    }
    assert [(labels, with_.time_minutes) for labels, with_ in arrays(found)] == [
        (["ce", "ce"], 10),  # not less
        (["crt", "crt"], 68),
        (["long", "long"], 50),
    ]
    calibrated(found, "cpu (x86_64)", ce=7200.0, crt=1000.0)
    assert arrays(found)[0][1].time_minutes == 180  # not more


def test_a_job_told_early_of_its_end_gets_time_for_that(plan):
    resources = dataclasses.replace(
        plan('[slurm]\ntime = "8h"').sweep.resources, signal_seconds=900
    )
    batch = Batch((("a run",),), ask=Ask(minutes=3, summed=True))
    assert resources_of(batch, resources).time_minutes == 30


@pytest.mark.parametrize(
    ("slurm", "device", "told"),
    [
        ("gpus_per_node = 1", "cpu (x86_64)", "how long ce takes on a GPU (nor 2 other methods)"),
        ('gres = "gpu:1"', "cpu (x86_64)", "how long ce takes on a GPU"),
        ('gpus_per_node = 1\n[slurm.ce]\ngpus_per_node = ""', "cpu (x86_64)", "long crt takes on"),
        ("", None, "how long ce takes on a CPU"),
    ],
)
def test_what_nothing_tells_the_time_of_is_refused_with_what_to_do(plan, slurm, device, told):
    found = plan(f'[slurm]\ntime = "auto"\n{slurm}')
    if device:
        calibrated(found, device, ce=30.0, crt=40.0, long=90.0)
    with pytest.raises(UserError) as caught:
        asked(found)
    assert told in str(caught.value)
    assert "toy.toml --calibrate on such a machine measures it; or give time" in str(caught.value)


def test_runs_side_by_side_and_in_turn_are_packed_together(make_plan):
    text = 'seeds = "0-8"\nmethods = ["ce"]\n[resources]\non = "slurm"\nruns_per_job = 2\n'
    found = make_plan(f'{text}runs_per_gpu = 2\n[slurm]\ntime = "8h"')
    nodes = choose(look(found), LAUNCH, found.sweep.resources.run).nodes
    (batch,), _ = batches(found, nodes, look(found), job_executor("slurm"), 100)
    assert [len(unit) for unit in batch.units] == [4, 4, 1]


def test_what_grew_after_a_death_is_no_shorter_than_the_job_before(plan):
    resources = plan('[slurm]\ntime = "auto"').sweep.resources
    resources = dataclasses.replace(resources, retry=Retry(time=2.0))
    more = with_more(Ask(minutes=1, summed=True), resources, 0, 1)
    assert resources_of(Batch((("a run",),), ask=more), resources).time_minutes == 20
