"""Reading, comparing, plotting and reporting where torch is not installed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ..forked import Server

# What docs/install.md leaves out of an installation without training
LACKING = ("torch", "torchvision", "safetensors", "submitit", "requests")

# Imported by Python as it starts, where it is found on the path
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""

PLOT = """
from matplotlib.figure import Figure
from lmdbench import register_plot

@register_plot("mine", title="the size of nothing", of="run")
def draw(run, width):
    return Figure(figsize=(width, 1))
"""


IMPORTED = ("lmdbench.cli.main", "pandas", "scipy.stats", "matplotlib.figure")


@pytest.fixture(scope="module")
def poorer(tmp_path_factory):
    """The environment of a Python that has no torch."""
    folder = tmp_path_factory.mktemp("poorer")
    (folder / "sitecustomize.py").write_text(BLOCKED.replace("{LACKING}", repr(LACKING)))
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.fixture
def runs(fake_run):
    """Two seeds of ce and lmd."""
    for method, skill in (("ce", 0.5), ("lmd", 2.0)):
        for seed in (0, 1):
            directory = fake_run(method, seed, skill=skill)
            (directory / "history.csv").write_text("epoch,loss\n1,2.0\n2,1.0\n")


@pytest.fixture(scope="module")
def poorer_copies(poorer):
    """Copies of such a process, which has imported what most commands do."""
    if sys.platform != "linux":
        pytest.skip("copies of a process are made on Linux only")
    with Server(IMPORTED, poorer) as server:
        yield server


@pytest.fixture
def without_torch(runs, poorer, poorer_copies, tmp_path):
    """Runs a command there on these runs, as a copy or in a process of its own."""

    def run(*words, popen=poorer_copies.popen):
        command = [sys.executable, "-m", "lmdbench", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with popen(command, cwd=tmp_path, env=poorer, **pipes) as process:
            out, err = process.communicate(timeout=120)
        return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--per-class", "--pairwise", "--ranks", "--permutation", "--published"),
        ("compare", "--groups", "head=nv;rest=mel_a,bcc,df", "--format", "csv"),
        ("plot",),
        *(("plot", kind) for kind in ("forest", "curves", "reliability", "rank-stability")),
        ("report", "--pairwise", "--ranks", "--published"),
        ("results", "list", "--sort", "score"),
        ("results", "export", "--output", "ours.zip"),
        ("results", "prune", "--weights"),
        ("results", "remove", "--method", "ce", "--yes"),
        ("datasets",),
    ],
    ids=" ".join,
)
def test_works(without_torch, words):
    done = without_torch(*words)
    assert done.returncode == 0, done.stderr


def test_a_plot_of_one_run(without_torch, tmp_path):
    (tmp_path / "mine.py").write_text(PLOT)
    (run,) = tmp_path.glob("results/*/*/lmd/seed1-*")
    words = ("plot", "mine", "--plugin", "mine.py", "--run", run.name[-8:])
    done = without_torch(*words, popen=subprocess.Popen)
    assert (done.returncode, done.stderr) == (0, f"written: mine-skin-lmd-{run.name}.pdf\n")


def test_what_needs_torch_says_so_in_a_line(without_torch):
    download = ("data", "download", "isic2019", "--data-root", "data")
    for words, lacking in ((("methods",), "torch"), (download, "requests")):
        done = without_torch(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{lacking} is not installed" in done.stderr


def test_the_doctor_says_how_to_train(without_torch):
    done = without_torch("doctor", popen=subprocess.Popen)
    assert done.stderr == ""
    (line,) = [line for line in done.stdout.splitlines() if line.split()[1] == "torch"]
    assert line.startswith("note ")
    assert line.endswith("results can be read; to train, pip install torch torchvision")


def test_the_page_on_installing_names_all_other_dependencies():
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = {re.split("[>=]", line)[0] for line in project["dependencies"]}
    page = (root / "docs" / "install.md").read_text()
    (listed,) = re.findall(
        r"^pip install (.+)\npip install --no-deps lmdbench$", page, re.MULTILINE
    )
    assert set(listed.split()) == needed - set(LACKING)
