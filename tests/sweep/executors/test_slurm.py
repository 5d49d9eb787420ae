"""Grouping into job arrays, scripts for sbatch and what squeue says, without a SLURM."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import RunFailed, UserError
from lmdbench.runs.request import RunContext, RunRequest
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.executors import slurm
from lmdbench.sweep.executors import slurm_job as jobs
from lmdbench.sweep.executors.batches import Ask, Batch, Queued, Work, units
from lmdbench.sweep.executors.jobs import RunJob
from lmdbench.sweep.executors.pool import PoolOptions
from lmdbench.sweep.executors.slurm_job import SweepJob
from lmdbench.sweep.executors.watcher import Slot

RESOURCES = Resources(on="slurm", time_minutes=480)


def task(key, dataset="demo"):
    return RunJob(key, "1" * 64, "c" * 64, RunRequest(RunContext(dataset), "ce", 0), 0)


def nodes(**needs):
    """``nodes(a=None, b="a")``: b starts from a."""
    return [(task(key), above) for key, above in needs.items()]


def keys(batches):
    """Units and what they wait for, as keys."""
    return [([[t.key for t in unit] for unit in b.units], list(b.after)) for b in batches]


def script(batch, resources=RESOURCES, jobs=None, folder=Path("/shared/submitit")):
    return slurm.script(batch, "skin-1", folder, resources, jobs or {}).splitlines()


# Grouping


def test_runs_that_wait_for_nothing_share_one_array():
    assert keys(units(nodes(a=None, b=None, c="elsewhere"), 1, {}, 1000)) == [
        ([["a"], ["b"], ["c"]], [])
    ]


def test_dependants_are_laid_beside_the_array_of_their_ancestors():
    planned = nodes(a=None, b=None, c=None, d=None, a1="a", c1="c", c2="c", d1="d")
    found = units(planned, 1, {}, 1000)
    assert keys(found) == [
        ([["a"], ["b"], ["c"], ["d"]], []),
        ([["a1"], [], ["c1"], ["d1"]], ["a", "c", "d"]),
        ([["c2"]], ["c"]),
    ]
    assert [batch.aligned for batch in found] == [False, True, False]
    assert [sorted(batch.awaited) for batch in found] == [[0, 2, 3], [], []]
    assert found[1].jobs("12") == {"a1": "12_0", "c1": "12_2", "d1": "12_3"}
    lines = script(found[1], jobs={"a": "7_0", "c": "7_2", "d": "7_3"})
    assert "#SBATCH --dependency=aftercorr:7" in lines
    assert "#SBATCH --array=0,2-3%3" in lines
    assert "#SBATCH --kill-on-invalid-dep=yes" in lines


def test_a_long_tail_behind_one_task_fills_arrays_of_its_own():
    planned = [(task(f"s{n}"), None) for n in range(2)]
    planned += [(task(f"d{n}"), "s0") for n in range(20)] + [(task("e"), "s1")]
    found = units(planned, 1, {}, 10)
    assert [len(batch.tasks) for batch in found] == [2, 10, 10, 1]
    assert [batch.aligned for batch in found] == [False] * 4


def test_2000_runs_behind_400_need_hardly_more_arrays_than_they_fill():
    planned = [(task(f"s{n}"), None) for n in range(400)]
    planned += [(task(f"d{n}-{k}"), f"s{n}") for n in range(400) for k in range(4)]
    assert len(units(planned, 1, {}, 10)) == 200
    packed = units(planned, 4, {}, 10)
    assert len(packed) == 50
    assert sum(len(batch.runs) for batch in packed) == 2000


def test_runs_that_ask_for_something_else_get_other_arrays():
    large = Ask(options=(("mem", "64G"),))
    planned = nodes(a=None, b=None, a1="a", b1="b")
    found = units(planned, 4, {}, 1000, {"b": large, "b1": Ask(alone=True)})
    assert keys(found) == [([["a"]], []), ([["b"]], []), ([["a1"]], ["a"]), ([["b1"]], ["b"])]
    assert [batch.ask for batch in found] == [Ask(), large, Ask(), Ask(alone=True)]


def test_chains_of_any_depth():
    assert keys(units(nodes(a=None, b="a", c="b", d="c"), 1, {}, 1000)) == [
        ([["a"]], []),
        ([["b"]], ["a"]),
        ([["c"]], ["b"]),
        ([["d"]], ["c"]),
    ]


def test_an_ancestor_in_the_queue_is_waited_for():
    found = units(nodes(a="old", b="old", c=None), 1, {"old": "7_3"}, 1000)
    assert keys(found) == [([["a"], ["b"]], ["old"]), ([["c"]], [])]
    assert "#SBATCH --dependency=afterok:7_3" in script(found[0], jobs={"old": "7_3"})
    queued = {"x": "7_1", "y": "7_3", "z": "9"}
    found = units(nodes(a="y", b="x", c="z"), 1, queued, 1000)
    assert keys(found) == [([[], ["b"], [], ["a"]], ["x", "y"]), ([["c"]], ["z"])]
    lines = script(found[0], jobs=queued)
    assert "#SBATCH --dependency=aftercorr:7" in lines
    assert "#SBATCH --array=1,3%2" in lines


def test_packed_runs_share_a_setup_and_their_dependants_wait_together():
    planned = [(task(f"s{n}", "demo"), None) for n in range(3)]
    planned += [(task(f"t{n}", "folder"), None) for n in range(2)]
    planned += [(task(f"d{n}"), f"s{n}") for n in range(3)]
    assert keys(units(planned, 2, {}, 1000)) == [
        ([["s0", "s1"], ["s2"], ["t0", "t1"]], []),
        ([["d0", "d1"], ["d2"]], ["s0", "s1", "s2"]),
    ]


def test_arrays_are_cut_to_the_largest_size():
    batches = units([(task(str(n)), None) for n in range(7)], 1, {}, 3)
    assert [len(batch.units) for batch in batches] == [3, 3, 1]


def test_array_tasks_have_numbers_and_a_single_job_has_none():
    two = Batch(((task("a"), task("b")), (task("c"),)))
    assert two.jobs("12") == {"a": "12_0", "b": "12_0", "c": "12_1"}
    assert Batch(((task("a"),),)).jobs("12") == {"a": "12"}


@given(
    needs=st.lists(st.none() | st.integers(0, 30), max_size=25),
    size=st.integers(1, 4),
    largest=st.integers(1, 5),
)
def test_every_run_once_and_after_what_it_needs(needs, size, largest):
    planned = [
        (task(str(n)), None if above is None or above >= n else str(above))
        for n, above in enumerate(needs)
    ]
    batches = units(planned, size, {}, largest)
    of = {t.key: n for n, b in enumerate(batches) for unit in b.units for t in unit}
    assert sorted(of) == sorted(t.key for t, _ in planned)
    assert sum(len(unit) for b in batches for unit in b.units) == len(planned)
    assert all(1 <= len(b.tasks) <= largest and len(b.units) <= largest for b in batches)
    assert all(len(unit) <= size for b in batches for unit in b.units)
    for t, above in planned:
        if above is not None:
            assert of[above] < of[t.key]
            assert above in batches[of[t.key]].after
    place = {key: (n, i) for n, b in enumerate(batches) for key, i in _indices(b).items()}
    above = {t.key: needs for t, needs in planned if needs is not None}
    for number, batch in enumerate(batches):
        for run in batch.runs:
            assert (run.key in above) == bool(batch.after)
        places = {place[key] for key in batch.after}
        if not batch.aligned:  # all that it waits for is one array task
            assert len(places) <= 1
            continue
        assert len({array for array, _ in places}) == 1  # each waits for its own stage 1's
        assert len(batches[min(places)[0]].units) > 1
        assert all(place[above[r.key]][1] == place[r.key][1] for r in batch.runs), number


def _indices(batch):
    return {run.key: i for i, unit in enumerate(batch.units) for run in unit}


# Scripts


def test_the_script_asks_for_what_the_file_says_and_for_no_wckey():
    resources = dataclasses.replace(
        RESOURCES,
        sbatch={"partition": "gpu", "gpus_per_node": 1, "exclusive": True, "mem": "", "nodes": 1},
        setup=("module load cuda",),
        signal_seconds=120,
        array_parallelism=4,
    )
    lines = script(Batch(tuple((task(str(n)),) for n in range(10))), resources)
    asked = sorted(line.removeprefix("#SBATCH ") for line in lines if "#SBATCH" in line)
    assert asked == [
        "--array=0-9%4",
        "--error=/shared/submitit/%A_%a_0_log.err",
        "--exclusive",
        "--gpus-per-node=1",
        "--job-name=skin-1",
        "--nodes=1",
        "--open-mode=append",
        "--output=/shared/submitit/%A_%a_0_log.out",
        "--partition=gpu",
        "--requeue",
        "--signal=USR2@120",
        "--time=480",
    ]
    assert lines.index("module load cuda") < lines.index("export SUBMITIT_EXECUTOR=slurm")
    assert f"{sys.executable} -u -m submitit.core._submit /shared/submitit" in lines[-1]


def test_options_left_out_and_a_wckey_that_is_wanted():
    resources = dataclasses.replace(
        RESOURCES, sbatch={"nodes": False, "requeue": False, "wckey": "mine", "no_kill": True}
    )
    text = "\n".join(script(Batch(((task("a"),),)), resources))
    assert "--nodes" not in text
    assert "--requeue" not in text
    assert "#SBATCH --wckey=mine" in text
    assert "#SBATCH --no-kill" in text
    assert "--array" not in text


def test_srun_is_told_of_the_cpus_unless_it_is():
    batch = Batch(((task("a"),),))
    resources = dataclasses.replace(RESOURCES, sbatch={"cpus-per-task": 6})
    assert " --cpus-per-task=6 " in script(batch, resources)[-1]
    told = dataclasses.replace(resources, srun_args=("--cpus-per-task=2", "--mpi=none"))
    assert script(batch, told)[-1].count("cpus-per-task") == 1


def test_without_srun_the_script_becomes_python_to_get_the_signal():
    resources = dataclasses.replace(RESOURCES, use_srun=False, python="singularity exec i python")
    lines = script(Batch(((task("a"),),)), resources)
    assert "#SBATCH --signal=B:USR2@90" in lines
    assert lines[-1].startswith("exec singularity exec i python -u -m submitit")
    assert not any("srun" in line for line in lines)


def test_each_job_that_is_waited_for_is_named_once():
    batch = Batch(((task("a"),),), after=("x", "y", "z"))
    lines = script(batch, jobs={"x": "7_0", "y": "7_0", "z": "9"})
    assert "#SBATCH --dependency=afterok:7_0:9" in lines


def test_a_dry_run_names_the_jobs_there_are_none_of_yet():
    lines = script(Batch(((task("a"),),), after=("isic/ce/seed0",)))
    assert "#SBATCH --dependency='afterok:<job of isic/ce/seed0>'" in lines


def test_planning_a_submission_imports_neither_torch_nor_submitit():
    code = "import sys, lmdbench.sweep.executors.slurm as _; "
    code += "print({'torch', 'submitit'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Jobs


def job(**payload):
    return SweepJob({"jobs": [], "time_minutes": 60, "signal_seconds": 90, **payload})


def stop(made, minutes, monkeypatch):
    """A signal after so many minutes of a job's life."""
    made.started = 0.0
    monkeypatch.setattr("time.monotonic", lambda: 60.0 * minutes)
    made.checkpoint()


def test_a_job_goes_on_as_itself_with_its_count(monkeypatch):
    made = job()
    stop(made, 58, monkeypatch)
    again = pickle.loads(pickle.dumps(made.checkpoint().function))
    assert again.payload == made.payload
    assert again.fruitless == made.fruitless == 2


def test_time_limits_without_an_epoch_end_a_job_at_the_third(monkeypatch):
    made = job()
    stop(made, 58, monkeypatch)
    stop(made, 58, monkeypatch)
    made.at_work = True
    with pytest.raises(RunFailed, match=r"60 min is shorter than an epoch.*raise time in \[slurm"):
        stop(made, 58, monkeypatch)
    assert made.out_of_time


def test_before_there_is_a_run_to_fail_a_job_gets_more_tries(monkeypatch):
    made = job()
    for _ in range(5):
        stop(made, 58, monkeypatch)
    with pytest.raises(RunFailed, match="shorter than an epoch"):
        stop(made, 58, monkeypatch)


@pytest.mark.parametrize("saved", [True, False])
def test_an_epoch_between_begins_the_count_anew_once_it_is_saved(monkeypatch, tmp_path, saved):
    """Without a checkpoint, where that is made every tenth epoch, the next life does it again."""
    made, slot = job(), Slot("CPU 0", "cpu")
    made.at_work = True
    for _ in range(2):
        stop(made, 58, monkeypatch)
        lines = jobs.JobLines(made)
        begin = {"event": "begin", "directory": str(tmp_path), "epoch": 0, "epochs": 20}
        lines.event(slot, begin)
        if saved:
            (tmp_path / "history.csv").write_text("epoch\n1\n")
        lines.event(slot, {"event": "epoch", "row": {"epoch": 1, "loss": 0.5}})
    assert made.fruitless == (0 if saved else 2)


def test_a_job_that_asked_for_a_gpu_never_works_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    there = dict.fromkeys(("results", "cache", "folder"), tmp_path)
    options = PoolOptions(**there, name="job-7")
    said = []
    assert jobs.job_slots(options, said.append) == [Slot("CPU 0", "cpu")]
    with pytest.raises(RunFailed, match=r"node .* has none .*leave the node out \(exclude in"):
        jobs.job_slots(dataclasses.replace(options, needs_gpu=True), said.append)
    assert not said
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'Failed to initialize NVML'; exit 9\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs.job_slots(options, said.append) == [Slot("CPU 0", "cpu")]
    assert said[0].startswith("no GPU was asked for, so the CPU is used: nvidia-smi fails (exit")
    with pytest.raises(RunFailed, match="which GPUs there are is not known; leave the node out"):
        jobs.job_slots(dataclasses.replace(options, needs_gpu=True), said.append)


def test_preemption_and_waiting_for_others_are_not_counted(monkeypatch):
    made = job()
    for _ in range(5):
        stop(made, 20, monkeypatch)
    made.waiting = True
    for _ in range(5):
        stop(made, 58, monkeypatch)
    assert made.fruitless == 0


# The queue


def test_lines_of_squeue():
    line = "812|4|RUNNING|1-02:03:04|gpu07|None|skin-1123-101500-ab12cd"
    assert slurm.read_line(line) == Queued(
        "812_4", "skin-1123-101500-ab12cd", 4, "RUNNING", "", "gpu07", 93784.0
    )
    never = "813|N/A|PENDING|INVALID||DependencyNeverSatisfied|a"
    assert slurm.read_line(never).stuck
    line = "813|N/A|PENDING|INVALID||Dependency|a|b"
    assert not slurm.read_line(line).stuck
    assert slurm.read_line(line) == Queued("813", "a|b", None, "PENDING", "Dependency", "", None)


JOB = "4711|N/A|RUNNING|1:00|n1|None|skin"


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("", []),
        ("CLUSTER: main\n", []),  # with SLURM_CLUSTERS, above the jobs of each
        (f"CLUSTER: main\n{JOB}\n\nCLUSTER: other\n{JOB.replace('11', '12')}\n", ["4711", "4712"]),
        (f"{JOB}\nsecond line of its name\n", ["4711"]),
    ],
)
def test_of_what_squeue_prints_only_lines_of_jobs_count(text, jobs):
    assert [job.job for job in slurm.read_lines(text)] == jobs


def test_another_answer_than_the_columns_asked_for_is_no_empty_queue():
    with pytest.raises(UserError, match="squeue: answers 'JOBID NAME ST', not the columns"):
        slurm.read_lines("JOBID NAME ST\n4711 skin R\n")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Puts a script under the name of a command of SLURM, the only one on PATH."""

    def put(name: str, content: bytes) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))
        return path

    return put


def test_bytes_that_are_no_text_are_read_as_signs_of_their_own(commands):
    commands("squeue", b"#!/bin/sh\necho '4711|N/A|RUNNING|1:00|n1|None|Gr\xf6sse'\n")
    assert [(job.job, job.name) for job in slurm.queue()] == [("4711", "Gr\ufffdsse")]


def test_a_job_is_known_by_its_number_whatever_sbatch_says_beside_it(commands, tmp_path):
    said = b"#!/bin/sh\necho 'sbatch: Konto verl\xe4ngert' >&2\necho Submitted batch job 4711\n"
    commands("sbatch", said)
    work = Work(tmp_path / "results", tmp_path / "cache")
    batch = Batch(((task("a"),),))
    assert slurm.submit(batch, "skin-1", tmp_path / "jobs", RESOURCES, work, {}) == "4711"


@pytest.mark.parametrize("content", [b"no script\n", b"#!/nowhere/python\n"])
def test_a_command_that_cannot_be_started_is_named(commands, content):
    path = commands("squeue", content)
    with pytest.raises(UserError, match=f"{path} cannot be started: "):
        slurm.queue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:07", 7), ("59:59", 3599), ("8:00:00", 28800), ("2-00:00:00", 172800), ("UNLIMITED", None)],
)
def test_times_of_slurm(text, expected):
    assert slurm.seconds(text) == expected


SQUEUE = """#!/bin/sh
echo "slurm_load_jobs error: $SAYS" >&2
exit 1
"""


def test_jobs_that_slurm_forgot_are_told_from_a_slurm_that_does_not_answer(monkeypatch, tmp_path):
    path = tmp_path / "squeue"
    path.write_text(SQUEUE)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SAYS", "Invalid job id specified")
    assert slurm.ends(["5"]) == {}
    monkeypatch.setenv("SAYS", "Unable to contact slurm controller (connect failure)")
    with pytest.raises(UserError, match="SLURM does not answer"):  # else it was remembered as this
        slurm.ends(["5"])


def test_no_slurm_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="squeue is not on this machine's PATH"):
        slurm.queue()
    with pytest.raises(UserError, match="scancel is not on"):
        slurm.cancel(["1"])
    work = Work(tmp_path / "results", tmp_path / "cache")
    with pytest.raises(UserError, match="sbatch is not on"):
        slurm.submit(Batch(((task("a"),),)), "skin-1", tmp_path / "jobs", RESOURCES, work, {})
    assert not list((tmp_path / "jobs").glob("*.pkl"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("50%", "takes the % for a pattern"),
        ("back\\slash", "drops a backslash"),
        ("two\nlines", "can't be printed"),
        ("tab\there", "can't be printed"),
        ("caf\udce9", "can't be printed"),  # a byte that is no UTF-8
    ],
)
def test_a_path_that_slurm_would_change_is_refused_before_anything_is_there(
    monkeypatch, tmp_path, name, why
):
    monkeypatch.setattr(slurm.shutil, "which", lambda _: "/usr/bin/sbatch")
    batch = Batch([[task("a")]], [])
    work = Work(tmp_path, tmp_path)
    with pytest.raises(UserError, match=why) as caught:
        slurm.submit(batch, "skin-1", tmp_path / name, RESOURCES, work, {})
    assert "choose another --results" in str(caught.value)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["it's", 'a"b', "a  b", "$HOME", "`id`", "#x", ";x", "*", "übung"])
def test_a_shell_finds_the_paths_that_a_script_names(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "skin-1-0.pkl").write_text("x")
    lines = script(Batch([[task("a")]], []), folder=folder)
    own = [line for line in lines if "lmdbench_job" in line]
    done = subprocess.run(["bash", "-c", "\n".join(own)], env={"SLURM_JOB_ID": "7"})
    assert done.returncode == 0
    assert [path.name for path in folder.iterdir()] == ["7_submitted.pkl"]
