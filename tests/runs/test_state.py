"""Which run a path or an id names."""

import json
import shutil

import pytest

from lmdbench.core.errors import UserError
from lmdbench.runs.state import find_run


def test_a_run_by_path_and_by_id(trained_run):
    results = trained_run.parents[3]
    identity = json.loads((trained_run / "run.json").read_text())["id"]
    assert find_run(str(trained_run), results) == trained_run
    assert find_run(identity[:8], results) == trained_run
    assert find_run(identity, results) == trained_run
    for wrong in (identity[:7], identity[:8] + "zz", "0" * 8, "nonsense"):
        with pytest.raises(UserError, match=f"{wrong}: neither a run directory nor the id"):
            find_run(wrong, results)
    with pytest.raises(UserError, match="no run directory, it has no run"):
        find_run(str(results), results)


def test_an_id_of_two_runs_names_neither(trained_run, tmp_path):
    identity = json.loads((trained_run / "run.json").read_text())["id"]
    for dataset in ("a", "b"):
        shutil.copytree(trained_run, tmp_path / dataset / "split" / "ce" / trained_run.name)
    with pytest.raises(UserError, match="several runs have this id"):
        find_run(identity[:12], tmp_path)
