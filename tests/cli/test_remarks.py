"""What a data set remarks is told by every command that reads it, once."""

import json
from pathlib import Path

import pytest
from PIL import Image

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


def test_every_given_fold_is_planned_and_said(lmdbench, tmp_path: Path) -> None:
    rows = [f"{n}.png,{'ab'[n % 2]},{n // 2 % 4}" for n in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,fold", *rows]))
    for n in range(40):
        Image.new("RGB", (24, 24), (n, 0, 0)).save(tmp_path / f"{n}.png")
    words = ("--dataset", "folder", "--data-root", tmp_path, "--results", tmp_path / "results")
    method = ("--method", "ce", "--backbone", "small", "--image-size", 24, "--dry-run")
    outcome = lmdbench("run", *words, *method, "--split", "kfold")
    told = outcome.out + outcome.err
    assert (outcome.code, told.count("folds: column 'fold' of labels.csv, 4 folds")) == (0, 4)
    told = lmdbench("run", *words, *method)
    assert "column 'fold' of labels.csv is not used here; --split kfold" in told.out + told.err


def test_a_run_records_it_and_tables_note_it(lmdbench, tmp_path: Path) -> None:
    for n in range(20):
        Image.new("RGB", (24, 24), (n * 9, 0, 0)).save(tmp_path / f"{n}.png")
    method = ("--method", "ce", "--backbone", "small", "--image-size", 24, "--set", "epochs=1")
    words = ("--dataset", "folder", "--data-root", tmp_path, "--results", tmp_path / "results")
    notes = {}
    for lesion in ("p", "NA"):
        rows = [f"{n}.png,{'ab'[n % 2]},{lesion if n < 2 else f'p{n}'}" for n in range(20)]
        (tmp_path / "labels.csv").write_text("\n".join(["image,label,group", *rows]))
        assert lmdbench("run", *words, *method).code == 0
        new = [path for path in tmp_path.glob("results/*/*/ce/*/run.json") if path not in notes]
        notes[new[0]] = json.loads(new[0].read_text()).get("data_notes")
    told = 'lesions: 2 images have none ("NA": 2)'
    assert list(notes.values()) == [None, [told]]
    table = lmdbench("compare", "--results", tmp_path / "results")
    assert (table.out + table.err).count(f"Data: {told}.") == 1


@pytest.mark.parametrize("words", [("plan",), ("launch", "--dry-run")])
def test_a_sweep_tells_it_once(lmdbench, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    sweep = tmp_path / "s.toml"
    sweep.write_text(
        'seeds = "0-1"\nplugins = ["plugin.py"]\nmethods = ["ce", "crt"]\n'
        'datasets = [{ name = "remarking" }]\n'
    )
    command, *options = words
    outcome = lmdbench("sweep", command, sweep, "--results", tmp_path / "results", *options)
    assert (outcome.code, (outcome.out + outcome.err).count(REMARK)) == (0, 1)
