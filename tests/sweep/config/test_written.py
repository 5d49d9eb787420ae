"""Where a written sweep file says that its plug-ins lie."""

import os
import shutil
from dataclasses import replace

import pytest

from lmdbench.core.schema import read_document
from lmdbench.runs.request import RunContext
from lmdbench.sweep.config.entries import Entry
from lmdbench.sweep.config.file import Sweep
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.config.written import sweep_text


def found(file):
    """The plug-ins that a sweep file names; they are there."""
    document = read_document(file)
    paths = tuple(document.resolved(name) for name in document.content["plugins"])
    assert all(path.is_file() for path in paths)
    return paths


def written(tmp_path, plugin, file):
    """A sweep with a plug-in, written to a file; paths below ``tmp_path``."""
    for path in (plugin, file):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / plugin).touch()
    source = str(tmp_path / file)
    setups, entries = (RunContext("demo"),), (Entry("ce", None, {}),)
    sweep = Sweep("s", source, setups, entries, (0,), Resources(), (tmp_path / plugin,))
    (tmp_path / file).write_text(sweep_text(sweep, "A comment"))
    return sweep


@pytest.mark.parametrize(
    ("plugin", "file", "expected"),
    [
        ("home/late.py", "home/s.toml", "./late.py"),
        ("home/own/my late.py", "home/s.toml", "./own/my late.py"),
        ("home/late.py", "home/results/sweeps/a/s.toml", "../../../late.py"),
    ],
)
def test_a_plug_in_below_or_beside_moves_with_the_file(tmp_path, plugin, file, expected):
    sweep = written(tmp_path, plugin, file)
    text = (tmp_path / file).read_text()
    assert f'plugins = ["{expected}"]' in text
    assert str(tmp_path) not in text
    assert found(tmp_path / file) == sweep.plugins
    shutil.move(tmp_path / "home", tmp_path / "moved")
    moved = tmp_path / plugin.replace("home", "moved", 1)
    assert found(tmp_path / file.replace("home", "moved", 1)) == (moved,)


def test_a_plug_in_of_elsewhere_keeps_its_path_and_that_is_said(tmp_path):
    sweep = written(tmp_path, "elsewhere/late.py", "home/s.toml")
    text = (tmp_path / "home/s.toml").read_text()
    assert f'plugins = ["{tmp_path}/elsewhere/late.py"]' in text
    assert "# Absolute paths of plug-ins are this machine's" in text
    assert found(tmp_path / "home/s.toml") == sweep.plugins


def test_relative_to_where_the_command_runs(tmp_path, monkeypatch):
    """Results and plug-ins are named as people type them."""
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    sweep = written(tmp_path, "late.py", "results/s.toml")
    relative = replace(sweep, source=os.path.join("results", "s.toml"))
    assert 'plugins = ["../late.py"]' in sweep_text(relative, "")
