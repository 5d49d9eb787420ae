"""`lmdbench doctor` through its entry point."""

import json


def test_a_line_a_thing_and_the_exit_code(lmdbench, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # so that there is no SLURM
    words = ("doctor", "--results", tmp_path / "results", "--data-root", toy_folder)
    outcome = lmdbench(*words)
    assert outcome.code == 0, outcome.out
    lines = outcome.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    names = [line.split()[1] for line in lines]
    assert names[:4] == ["python", "torch", "device", "processors"]
    assert "folder" in names
    found = json.loads(lmdbench(*words, "--json").out)
    assert [one["name"] for one in found] == names
    assert not (tmp_path / "results").exists()


def test_a_problem_is_an_exit_code(lmdbench, tmp_path):
    (tmp_path / "file").touch()
    outcome = lmdbench("doctor", "--results", tmp_path / "file" / "results")
    assert outcome.code == 1
    assert "problem  results" in outcome.out


def test_without_a_home_folder(lmdbench, monkeypatch):
    monkeypatch.delenv("LMDBENCH_CACHE", raising=False)
    monkeypatch.setattr("lmdbench.core.folders.has_home", lambda: False)
    outcome = lmdbench("doctor")
    assert "problem  cache" in outcome.out
    assert outcome.code == 1
