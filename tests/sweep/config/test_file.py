"""Sweep files: what they come to, and that every mistake is told with its line."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import parse
from lmdbench.data.splits.spec import SplitSpec
from lmdbench.runs.request import Contexts, RunRequest
from lmdbench.sweep.config.entries import chain_of, to_text
from lmdbench.sweep.config.file import Resources, read_sweep
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.config.sbatch import mebibytes
from lmdbench.sweep.config.written import sweep_text
from lmdbench.sweep.plan import make_plan
from lmdbench.training.method import built_in_methods

BASE = 'datasets = ["demo"]\nmethods = ["ce"]\n'


@pytest.fixture
def read(tmp_path):
    def read(text, name="skin.toml", data_root=None):
        path = tmp_path / name
        path.write_text(text)
        return read_sweep(str(path), data_root)

    return read


@pytest.fixture
def refusal(read, tmp_path):
    """The error of a text: its line, and what it says."""

    def refusal(text):
        with pytest.raises(UserError) as error:
            read(text)
        message = str(error.value)
        assert "\n" not in message
        start = f"{tmp_path / 'skin.toml'}:"
        assert message.startswith(start), message
        line, _, what = message.removeprefix(start).partition(": ")
        return int(line), what

    return refusal


def settings_of(sweep):
    return [dict(entry.settings) for entry in sweep.entries]


def test_the_least_there_must_be(read):
    sweep = read(BASE)
    assert sweep.name == "skin"
    assert sweep.seeds == (0,)
    assert [setup.dataset for setup in sweep.setups] == ["demo"]
    assert [entry.method for entry in sweep.entries] == ["ce"]
    assert sweep.resources == Resources()
    assert sweep.plugins == ()


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ('"0-4"', (0, 1, 2, 3, 4)),
        ('"0,7-8"', (0, 7, 8)),
        ("[3, 1]", (3, 1)),
        ("5", (5,)),
        ('"5"', (5,)),
    ],
)
def test_seeds(read, written, seeds):
    assert read(f"seeds = {written}\n{BASE}").seeds == seeds


@pytest.mark.parametrize(
    "written", ["-1", "[]", '["0-4"]', '"4-0"', "true", "1.0", "[0, 0]", '"0-5000"', "2147483648"]
)
def test_seeds_that_are_none(refusal, written):
    line, what = refusal(f"{BASE}\nseeds = {written}\n")
    assert line == 4
    assert what.startswith("seeds is ")


def test_data_sets_cross_their_lists_in_the_order_written(read, tmp_path):
    (tmp_path / "data").mkdir()
    sweep = read("""
methods = ["ce"]
[run]
image_size = [32, 48]
selection = "best"
[[datasets]]
name = "isic2019"
data_root = "data"
imbalance_factor = [100, 200.5]
image_size = 64
[[datasets]]
name = "demo"
imbalance_factor = [20, 100]
""")
    rows = [
        (setup.dataset, setup.image_size, setup.split.imbalance_factor) for setup in sweep.setups
    ]
    assert rows == [
        ("isic2019", 64, 100.0),
        ("isic2019", 64, 200.5),
        ("demo", 32, 20.0),
        ("demo", 32, 100.0),
        ("demo", 48, 20.0),
        ("demo", 48, 100.0),
    ]
    assert {setup.selection for setup in sweep.setups} == {"best"}
    roots = [setup.data_root for setup in sweep.setups]
    assert roots == [tmp_path / "data"] * 2 + [None] * 4
    assert sweep.places[sweep.setups[0]].endswith(":6")
    assert sweep.places[sweep.setups[2]].endswith(":11")


def test_kfold_has_all_folds_and_keeps_what_is_its_own(read):
    sweep = read("""
methods = ["ce"]
[[datasets]]
name = "isic2019"
split = ["published", "kfold", "balanced-test"]
folds = 3
test_per_class = 10
split_seed = 7
""")
    assert [setup.split for setup in sweep.setups] == [
        SplitSpec("published", seed=7),
        *(SplitSpec("kfold", seed=7, folds=3, fold=fold) for fold in range(3)),
        SplitSpec("balanced-test", seed=7, test_per_class=10),
    ]
    named = read('methods = ["ce"]\ndatasets = [{name="demo", split="kfold", fold=[4, 1]}]')
    assert [setup.split.fold for setup in named.setups] == [4, 1]


def test_data_root_and_paths(read, tmp_path, monkeypatch):
    (tmp_path / "own.csv").write_text("image,split\n")
    (tmp_path / "w.pt").touch()
    (tmp_path / "one_more.py").write_text(
        "from lmdbench.training.samplers import InstanceSampler, register_sampler\n"
        'register_sampler("one-more")(lambda labels: InstanceSampler(labels))\n'
    )
    monkeypatch.chdir("/")
    sweep = read(
        'plugins = ["one_more.py"]\nmethods=["ce"]\n'
        'datasets=[{name="demo", split="own.csv", weights="w.pt"}]',
        data_root=Path("there"),
    )
    (setup,) = sweep.setups
    assert setup.data_root == Path("there")
    assert setup.split.name == str(tmp_path / "own.csv")
    assert setup.weights == str(tmp_path / "w.pt")
    assert sweep.plugins == (tmp_path / "one_more.py",)


def test_settings_act_on_a_method_wherever_it_stands(read):
    sweep = read("""
datasets = ["demo"]
methods = ["ce", "crt", "lmd", {name = "lmd", starts_from = "ce"}]
[settings.ce]
epochs = 30
[settings.all]
batch_size = 32
lr = 0.5
""")
    assert settings_of(sweep) == [
        {"batch_size": "32", "lr": "0.5", "epochs": "30"},
        {"batch_size": "32", "lr": "0.5", "ce.batch_size": "32", "ce.lr": "0.5", "ce.epochs": "30"},
        {"batch_size": "32", "rrl.batch_size": "32", "rrl.lr": "0.5"},
        {"batch_size": "32", "ce.batch_size": "32", "ce.lr": "0.5", "ce.epochs": "30"},
    ]


def test_stage_one_runs_are_shared(read, tmp_path):
    sweep = read("""
datasets = ["demo"]
methods = ["ce", "crt", {name = "lmd", starts_from = "ce"}]
[settings.ce]
epochs = 3
""")
    contexts = Contexts(tmp_path, tmp_path, files=False)
    chains = [
        RunRequest(setup, entry.method, 0, entry.settings, entry.starts_from)
        .plan(contexts.of(setup))
        .chain
        for setup in sweep.setups
        for entry in sweep.entries
    ]
    assert len({chain[0].spec.id for chain in chains}) == 1
    assert chains[0][0].spec.settings["epochs"] == 3


def test_the_entry_wins_over_its_method_and_that_over_all(read):
    sweep = read("""
datasets = ["demo"]
[[methods]]
name = "crt"
set = { epochs = 1, ce.epochs = 4, "ce.lr" = 0.25 }
[[methods]]
name = "crt"
set = { "crt.lr" = 1 }
[settings.crt]
epochs = 2
[settings.all]
epochs = 3
""")
    assert settings_of(sweep) == [
        {"epochs": "1", "ce.epochs": "4", "ce.lr": "0.25"},
        {"epochs": "2", "ce.epochs": "3", "lr": "1"},
    ]


def test_crossed_settings_and_their_labels(read):
    sweep = read("""
datasets = ["demo"]
[[methods]]
name = "lmd"
label = "w/o VFC"
starts_from = ["rrl", "ce"]
set = { calibration = "real", head_lr = [1e-5, 0.0001] }
[settings.ce]
epochs = [1, 2]
""")
    assert [(e.label, dict(e.settings)) for e in sweep.entries] == [
        (
            "w/o VFC starts_from=rrl head_lr=1e-05",
            {"calibration": "real", "head_lr": "1e-05"},
        ),
        (
            "w/o VFC starts_from=rrl head_lr=0.0001",
            {"calibration": "real", "head_lr": "0.0001"},
        ),
        *(
            (
                f"w/o VFC starts_from=ce ce.epochs={epochs} head_lr={lr}",
                {"ce.epochs": epochs, "calibration": "real", "head_lr": lr},
            )
            for epochs, lr in itertools.product(("1", "2"), ("1e-05", "0.0001"))
        ),
    ]


def test_a_list_that_is_overridden_makes_no_runs(read):
    sweep = read("""
datasets = ["demo"]
methods = ["focal", {name = "ce", set = {lr = 1}}]
[settings.all]
lr = [0.1, 0.2]
""")
    assert settings_of(sweep) == [{"lr": "0.1"}, {"lr": "0.2"}, {"lr": "1"}]


@given(st.lists(st.integers(1, 4), min_size=3, max_size=3), st.integers(1, 3))
def test_as_many_entries_and_set_ups_as_the_lists_cross_to(tmp_path_factory, sizes, factors):
    path = tmp_path_factory.mktemp("crossed") / "a.toml"
    first, second, third = (list(range(1, 1 + n)) for n in sizes)
    path.write_text(
        f'methods = [{{name = "crt", set = {{epochs = {first}, "ce.epochs" = {second}}}}}]\n'
        f"[settings.all]\nlr = {third}\n"
        f'[[datasets]]\nname = "demo"\nimbalance_factor = {[20 + n for n in range(factors)]}\n'
    )
    sweep = read_sweep(str(path), None)
    assert len(sweep.entries) == math.prod(sizes)
    assert len(sweep.setups) == factors
    combinations = [
        (int(e.settings["lr"]), int(e.settings["epochs"]), int(e.settings["ce.epochs"]))
        for e in sweep.entries
    ]
    assert combinations == list(itertools.product(third, first, second))
    assert all(e.settings["lr"] == e.settings["ce.lr"] for e in sweep.entries)
    assert len({e.label for e in sweep.entries}) == len(sweep.entries)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_the_same(number):
    assert parse("x", float, to_text(number)) == number


@given(st.integers(), st.booleans())
def test_whole_numbers_and_truth_values_come_back_the_same(number, truth):
    assert parse("x", int, to_text(number)) == number
    assert parse("x", bool, to_text(truth)) is truth
    assert parse("x", float | None, "none") is None


def test_chains():
    assert chain_of("lmd") == ["rrl", "lmd"]
    assert chain_of("lmd", "crt") == ["ce", "crt", "lmd"]
    assert chain_of("ce") == ["ce"]
    with pytest.raises(UserError, match="lmd ← lmd: it can't start from itself"):
        chain_of("lmd", "lmd")
    assert all(chain_of(method.name)[-1] == method.name for method in built_in_methods())


def test_starting_from_a_run_leaves_the_ancestor_alone(read, tmp_path):
    (tmp_path / "seed0-abc").mkdir()
    sweep = read("""
datasets = ["demo"]
methods = ["ce", {name = "crt", starts_from = "seed0-abc"}, {name="crt", starts_from="0123abcd"}]
[settings.ce]
epochs = 3
""")
    assert settings_of(sweep) == [{"epochs": "3"}, {}, {}]
    starts = [entry.starts_from for entry in sweep.entries]
    assert starts == [None, str(tmp_path / "seed0-abc"), "0123abcd"]


def test_resources(read):
    sweep = read(
        BASE
        + """
[resources]
on = "slurm"
gpus = [0, 2]
runs_per_job = 4
patience = 60
[slurm]
partition = "gpu"
gpus-per-node = 1
cpus_per_task = 8
exclusive = true
wckey = ""
time = "1-12:00:00"
signal_seconds = 120
setup = '''module load cuda
source x'''
srun_args = ["--mpi=none"]
use_srun = false
array_parallelism = 10
workers = 12
[slurm.extra]
brand_new = "x"
"""
    )
    assert sweep.resources == Resources(
        on="slurm",
        gpus=(0, 2),
        runs_per_job=4,
        patience=60.0,
        time_minutes=36 * 60,
        signal_seconds=120,
        setup=("module load cuda", "source x"),
        srun_args=("--mpi=none",),
        use_srun=False,
        array_parallelism=10,
        worker_jobs=12,
        sbatch={
            "partition": "gpu",
            "gpus-per-node": 1,
            "cpus-per-task": 8,
            "exclusive": True,
            "wckey": "",
            "brand-new": "x",
        },
    )


def test_retry(read):
    assert read(BASE).resources.retry == Retry()
    written = """[retry]
attempts = 5
stall = "90s"
mem = "x2"
mem_most = "64G"
time = 1.5
time_most = "24h"
"""
    found = read(BASE + written).resources.retry
    assert found == Retry(5, 90.0, 2.0, 1.5, 64 * 1024, 24 * 60)
    assert Retry.from_json(found.to_json()) == found
    never = read(BASE + "[retry]\nstall = false\n")
    assert never.resources.retry.stall is None
    assert read(sweep_text(never, "")).resources.retry == never.resources.retry
    again = replace(never, resources=replace(never.resources, retry=found))
    assert read(sweep_text(again, "")).resources.retry == found


@pytest.mark.parametrize(
    ("text", "size"),
    [("700M", 700), ("32g", 32768), ("1T", 1048576), ("512", 512), ("2048K", 2), ("4GB", 4096)],
)
def test_memory_as_sbatch_writes_it(text, size):
    assert mebibytes(text) == size
    assert mebibytes(f"{text} or so") is None


def test_extra_is_an_option_too(read):
    sweep = read(BASE + '[slurm]\nextra = "x"\n')
    assert sweep.resources.sbatch == {"extra": "x"}


# What is wrong: text behind two lines that are right, the line, and words of the message.
MISTAKES = {
    "syntax": ("a = = 1", 3, "no valid TOML"),
    "unfinished": ("a = [1,\n\n", 5, "no valid TOML"),
    "key": ("\nseed = 1", 4, "unknown key 'seed'. Did you mean seeds"),
    "name": ('name = "a/b"', 3, "letters, digits"),
    "run key": ("[run]\n\nimage_sice = 3", 5, "Did you mean image_size"),
    "retry key": ("[retry]\nattempt = 2", 4, "Did you mean attempts"),
    "retry table": ("retry = 3", 3, "make it a table, [retry]"),
    "attempts": ("[retry]\nattempts = 0", 4, "give a whole number from 1"),
    "stall": ("[retry]\n\nstall = 10", 5, 'such as "10m", "90s"'),
    "stall for ever": ("[retry]\nstall = true", 4, "or false for never"),
    "no stall": ('[retry]\nstall = "0s"', 4, 'such as "10m"'),
    "factor": ('[retry]\nmem = "2G"', 4, 'a factor from 1 to 100, such as "x2"'),
    "less": ('[retry]\ntime = "x0.5"', 4, "a factor from 1"),
    "memory": ('[retry]\nmem_most = "much"', 4, 'an amount of memory such as "64G"'),
    "time most": ('[retry]\ntime_most = "soon"', 4, "a time such as"),
    "run table": ("run = 3", 3, "make it a table"),
    "type": ('[run]\nimage_size = "big"', 4, 'image_size is "big"; give a whole number from 16'),
    "truth for a number": ("[run]\nimage_size = true", 4, "give a whole number"),
    "range": ("[run]\nimage_size = 5", 4, "from 16 to 2048"),
    "in a list": ("[run]\nimage_size = [\n 32,\n 5]", 6, "image_size has 5"),
    "empty list": ("[run]\nimage_size = []", 4, "image_size is an empty list"),
    "twice in a list": ("[run]\nimage_size = [32, 32]", 4, "32 twice"),
    "no list here": ("[run]\nallow_missing = [true, false]", 4, "give true or false"),
    "nor here": ("[run]\nskip_damaged = 1", 4, "give true or false"),
    "word": ('[run]\nselection = "first"', 4, 'give "last" or "best"'),
    "backbone": ('[run]\nbackbone = "resnet19"', 4, "Did you mean resnet18"),
    "no such weights": ('[run]\nbackbone = "small"\nweights = "imagenet"', 5, "none for small"),
    "weights file": ('[run]\nweights = "w.pt"', 4, "no such file"),
    "split file": ('[run]\nsplit = "mine.csv"', 4, "no such file"),
    "data root": ('[run]\ndata_root = "away"', 4, "does not exist"),
    "folds without kfold": ("[run]\nfolds = 3", 4, 'for split = "kfold"'),
    "fold too far": ('[run]\nsplit = "kfold"\nfolds = 3\nfold = [0, 3]', 6, "from 0 to 2"),
    "settings of none": ("[settings.crt]\nepochs = 3", 3, "no method of this sweep is crt"),
    "settings of an unknown": ("[settings.crx]\nepochs = 3", 3, "unknown method 'crx'. Did you"),
    "setting": ("[settings.ce]\n\nepoch = 3", 5, "unknown setting of ce 'epoch'. Did you mean epo"),
    "setting of all": ("[settings.all]\nhead_lr = 3", 4, "unknown setting of all methods"),
    "setting's type": ('[settings.ce]\nepochs = "x"', 4, "give a whole number"),
    "setting's number": ("[settings.ce]\nepochs = 1.5", 4, "give a whole number"),
    "setting's bound": ("[settings.ce]\nepochs = 3\nlr = -1.0", 5, "lr is -1.0, but must be at le"),
    "type of all": ('[settings.all]\nepochs = 3\nlr = "x"', 5, "ce.lr is 'x'"),
    "date": ("[settings.ce]\nepochs = 2020-01-01", 4, "epochs is"),
    "dotted setting": ('[settings.ce]\n"crt.lr" = 1', 4, "give [settings.NAME]"),
    "resources key": ("[resources]\nworker = 1", 4, "Did you mean workers"),
    "list of numbers": ("[resources]\nworkers = [1, 2]", 4, "workers is [1, 2]"),
    "gpus": ("[resources]\ngpus = 1", 4, "a list of GPU numbers"),
    "where": ('[resources]\non = "cluster"', 4, "unknown executor 'cluster'"),
    "no time": ('[resources]\non = "slurm"', 4, 'add time = "8h"'),
    "no time in slurm": ('[resources]\non = "slurm"\n[slurm]\nmem = "1G"', 5, "add time"),
    "time": ('[slurm]\ntime = "soon"', 4, "a time such as"),
    "option": ('[slurm]\n\npartitoin = "gpu"', 5, "Did you mean partition"),
    "auto most": ('[slurm]\ntime = "8h"\ntime_most = "9h"', 5, 'is for time = "auto"'),
    "auto what": ('[slurm]\ntime = "aut"', 4, 'or "auto" for what estimates say'),
    "no such method": ('[slurm.crt]\nmem = "1G"', 3, "no method of this sweep is crt. It has ce"),
    "option of a method": ('[slurm.ce]\nmemm = "1G"', 4, "Did you mean mem"),
    "not of a method": ("[slurm.ce]\nmax_jobs = 3", 4, "max_jobs is of all jobs; give it under"),
    "time of a method": ('[slurm.ce]\ntime = "auto"', 4, "a time such as"),
    "short for a method": ('[slurm]\ntime = "8h"\n[slurm.ce]\ntime = "2m"', 6, "give more time"),
    "max_jobs": ("[slurm]\nmax_jobs = 0", 4, "a whole number from 1"),
    "memory of jobs": (
        '[slurm]\nmem = "32 GB"',
        4,
        'mem is "32 GB"; give an amount of memory such as',
    ),
    "processes": ("[slurm]\nntasks = 8", 4, "ntasks is 8; give 1, or leave it out: a job is one"),
    "nodes": ('[slurm]\nnodes = "2-4"', 4, 'nodes is "2-4"; give 1'),
    "memory below none": ("[slurm]\nmem_per_cpu = -5", 4, "mem_per_cpu is -5; give an amount"),
    "memory of a method": ('[slurm.ce]\nmem = "lots"', 4, 'mem is "lots"; give an amount'),
    "nothing to raise": (
        '[resources]\non = "slurm"\n[slurm]\ntime = "8h"\n[retry]\nmem = "x2"',
        8,
        'mem has nothing to raise; add what a job has, mem = "32G", under [slurm]',
    ),
    "bound below the memory": (
        '[slurm]\nmem = "32G"\n[retry]\nmem = "x2"\nmem_most = "64"',
        7,
        "mem_most is '64', less than the mem in [slurm]",
    ),
    "bound below the time": (
        '[slurm]\ntime = "8h"\n[retry]\ntime = "x2"\ntime_most = "1h"',
        7,
        "time_most is '1h', less than the time in [slurm]",
    ),
    "bound of no memory": (
        '[retry]\nmem_most = "64G"',
        4,
        'bounds what mem raises; add mem = "x2"',
    ),
    "bound of no time": (
        '[retry]\ntime = "x1"\ntime_most = "9h"',
        5,
        'time_most bounds what time raises; add time = "x2"',
    ),
    "option of ours": ('[slurm]\njob_name = "x"', 4, "job-name is not yours to set"),
    "option of ours, extra": ("[slurm.extra]\nrequeue = true", 4, "requeue is not yours to set"),
    "option twice": ("[slurm]\ncpus-per-task = 1\ncpus_per_task = 2", 5, "twice"),
    "option's list": ('[slurm]\nmail_type = ["END"]', 4, "a text of one line"),
    "option's lines": ('[slurm]\ncomment = """a\nb"""', 4, "a text of one line"),
    "plug-in": ('plugins = ["none.py"]', 3, "no such file"),
}


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_with_their_line(refusal, text, line, words):
    where, what = refusal(BASE + text)
    assert (where, words in what) == (line, True), (where, what)


METHOD_MISTAKES = {
    "none": ("", 1, 'no methods; add methods = ["ce"]'),
    "empty": ("methods = []", 3, "methods is []"),
    "no list": ('methods = "ce"', 3, 'give a list, as in ["ce"]'),
    "number": ("methods = [\n 'ce',\n 1]", 5, "methods has 1"),
    "unknown": ("methods = [\n 'ce',\n 'crx']", 5, "unknown method 'crx'. Did you mean crt"),
    "no name": ("[[methods]]\nlabel = 'x'", 3, "has one name"),
    "names": ("[[methods]]\nname = ['ce', 'crt']", 4, "has one name"),
    "key": ("[[methods]]\nname = 'crt'\nstart_from = 'ce'", 5, "Did you mean starts_from"),
    "double": ("[[methods]]\nname = 'ce'\n[[methods]]\nname = 'ce'\nlabel = 'x'", 5, "skin.toml:3"),
    "start": ("[[methods]]\nname = 'lmd'\nstarts_from = 'rrx'", 5, "neither a run's id"),
    "no start": ("[[methods]]\nname = 'ce'\nstarts_from = 'rrl'", 5, "starts from no other run"),
    "itself": ("[[methods]]\nname = 'crt'\nstarts_from = 'crt'", 5, "can't start from itself"),
    "set": ("[[methods]]\nname = 'crt'\nset = 3", 5, "make it a table"),
    "set key": ("[[methods]]\nname = 'crt'\n[methods.set]\nepoch = 3", 6, "Did you mean epochs"),
    "set of a stranger": ("[[methods]]\nname = 'crt'\nset = {rrl.lr = 1}", 5, "crt does not start"),
    "set of an unknown": ("[[methods]]\nname = 'crt'\nset = {cx.lr = 1}", 5, "unknown method 'cx'"),
    "set of all": ("[[methods]]\nname = 'crt'\nset = {all.lr = 1}", 5, "unknown method 'all'"),
    "set twice": ("[[methods]]\nname = 'crt'\nset = {lr = 1, crt.lr = 2}", 5, "twice"),
    "set, two deep": (
        "[[methods]]\nname = 'crt'\nset = {ce.lr.x = 1}",
        5,
        "give a number, true or",
    ),
    "label": ("[[methods]]\nname = 'crt'\nlabel = 3", 5, "a text in quotes"),
    "bounds": ("[[methods]]\nname = 'lmd'\n[methods.set]\nridge = 0\nrounds = 1", 6, "ridge is 0"),
    "bounds above": ("methods = ['crt']\n[settings.ce]\nlr = -1\n", 5, "lr is -1.0, but must"),
}


@pytest.mark.parametrize(("text", "line", "words"), METHOD_MISTAKES.values(), ids=METHOD_MISTAKES)
def test_mistakes_in_methods_are_told_with_their_line(refusal, text, line, words):
    where, what = refusal(f'\ndatasets = ["demo"]\n{text}\n')
    assert (where, words in what) == (line, True), (where, what)


DATASET_MISTAKES = {
    "none": ("", 1, 'no datasets; add datasets = ["demo"]'),
    "unknown": ("datasets = ['isic2018']", 3, "unknown data set 'isic2018'. Did you mean isic2019"),
    "key": ("[[datasets]]\nname = 'demo'\nimbalance = 3", 5, "Did you mean imbalance_factor"),
    "factor": ("[[datasets]]\nname = 'demo'\nimbalance_factor = [20, 0.5]", 5, "a number from 1"),
    "double": ("datasets = ['demo', 'demo']", 3, "the same runs"),
    "double by lists": (
        "datasets = [{name='demo', imbalance_factor=[20, 30]},\n"
        "{name='demo', imbalance_factor=30}]",
        4,
        "the same runs",
    ),
    "folds": ("[[datasets]]\nname='demo'\nsplit='lesion'\nfolds = 4", 6, 'for split = "kfold"'),
}


@pytest.mark.parametrize(("text", "line", "words"), DATASET_MISTAKES.values(), ids=DATASET_MISTAKES)
def test_mistakes_in_data_sets_are_told_with_their_line(refusal, text, line, words):
    where, what = refusal(f'\nmethods = ["ce"]\n{text}\n')
    assert (where, words in what) == (line, True), (where, what)


PLAN_MISTAKES = {
    "split": ("[[datasets]]\nname = 'demo'\nsplit = 'drawm'", 3, "unknown split of demo 'drawm'"),
    "groups": ("[[datasets]]\nname = 'demo'\ngroups = 'by size'", 3, "groups"),
    "factor": ("[[datasets]]\nname = 'demo'\nimbalance_factor = [20, 2]", 3, "factor 2 is imposs"),
    "run": ("datasets = ['demo']\n[[methods]]\nname='crt'\nstarts_from='0123abcd'", 4, "0123abcd"),
}


@pytest.mark.parametrize(("text", "line", "words"), PLAN_MISTAKES.values(), ids=PLAN_MISTAKES)
def test_what_only_tables_can_tell_has_its_line_too(read, tmp_path, text, line, words):
    methods = "" if "methods" in text else "methods = ['ce']"
    sweep = read(f"{methods}\n\n{text}\n")
    with pytest.raises(UserError) as error:
        make_plan(sweep, Contexts(tmp_path / "results", tmp_path / "cache", files=False))
    assert str(error.value).startswith(f"{tmp_path / 'skin.toml'}:{line}: ")
    assert words in str(error.value)


def test_bounds_are_those_of_the_backbone_and_data_set(read):
    """ridge = 0 stands alone only where FDC is off, also when that is said elsewhere."""
    sweep = read("""
datasets = ["demo"]
methods = [{name = "lmd", set = {ridge = 0}}]
[settings.lmd]
fdc_weight = 0
""")
    assert settings_of(sweep) == [{"fdc_weight": "0", "ridge": "0"}]


def test_files_that_cannot_be_read(read, tmp_path):
    with pytest.raises(UserError, match=r"no such file; presets are ablation, demo, found.*paper"):
        read_sweep(str(tmp_path / "none.toml"), None)
    with pytest.raises(
        UserError, match=r"unknown sweep file or preset 'papre'\. Did you mean paper"
    ):
        read_sweep("papre", None)
    (tmp_path / "latin.toml").write_bytes("name = 'é'".encode("latin-1"))
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_sweep(str(tmp_path / "latin.toml"), None)
    with pytest.raises(UserError, match=r"two words.toml:1: name 'two words'"):
        read(BASE, name="two words.toml")


def test_too_many_runs(refusal):
    factors = list(range(20, 420))
    line, what = refusal(
        'seeds = "0-999"\nmethods = ["ce"]\n'
        f'datasets = [{{name="demo", imbalance_factor={factors}}}]'
    )
    assert line == 1
    assert "400 × 1 × 1000 runs" in what


def test_entries_of_one_method_are_told_apart(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'methods = ["crt", {name = "crt", starts_from = "focal"}, '
        '{name = "crt", set = {lr = 0.5}}, "ce"]\ndatasets = ["demo"]\n'
    )
    labels = [entry.label for entry in read_sweep(str(path), None).entries]
    assert labels == [None, "crt from focal", "crt lr=0.5", None]


def test_a_label_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'datasets = ["demo"]\nmethods = [\n{name = "ce", label = "A"},\n'
        '{name = "crt", label = "A"},\n]\n'
    )
    with pytest.raises(UserError, match=r"s\.toml:4: label 'A' stands twice"):
        read_sweep(str(path), None)


def test_what_is_of_this_machine_alone_is_remarked_for_slurm(read):
    text = BASE + '[resources]\non = "{on}"\nworkers = 3\n[slurm]\ntime = "8h"\n'
    assert read(text.format(on="local")).resources.remarks == []
    assert read(text.format(on="slurm")).resources.remarks == [
        "workers in [resources] is of this machine and has no part in jobs of SLURM, which workers "
        "in [slurm] is for"
    ]
