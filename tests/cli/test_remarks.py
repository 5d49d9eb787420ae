"""What a data set remarks is told by every command that reads it, once."""

from pathlib import Path

import pytest

REMARK = "7 rows without a label are left out"
PLUGIN = f"""
from lmdbench.data.dataset import register_dataset
from lmdbench.datasets.demo import Demo


@register_dataset("remarking")
class Remarking(Demo):
    remarks = ("{REMARK}",)
"""


@pytest.mark.parametrize(
    "command",
    [
        "datasets show remarking",
        "data audit remarking",
        "data verify remarking",
        "run --method ce --dataset remarking --dry-run",
        "run --method ce --dataset remarking --split kfold --folds 3 --dry-run",
    ],
)
def test_each_command_tells_it_once(lmdbench, tmp_path: Path, monkeypatch, command: str) -> None:
    monkeypatch.setenv("LMDBENCH_RESULTS", str(tmp_path / "results"))
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    outcome = lmdbench(*command.split(), "--plugin", str(plugin))
    told = outcome.out + outcome.err
    assert told.count(REMARK) == 1
