"""The pages on one's own data, as files and as a class: their examples are written, their commands
run, their output compared."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "own-data.md").read_text()
FILES = dict(re.findall(r"`([\w/.-]+)`:\n\n```(?:csv|toml)\n(.*?)```", PAGE, re.DOTALL))
CONSOLES = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
MY_IMAGES = {"benign": 40, "malignant": 20, "rare": 10}  # class → images


def draw(path: Path, brightness: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 100, (32, 32, 3))
    Image.fromarray((noise + brightness).astype(np.uint8)).save(path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder in which the page's commands are given."""
    monkeypatch.chdir(tmp_path)
    for brightness, (label, n) in enumerate(MY_IMAGES.items()):
        for number in range(n):
            draw(Path("my-images", label, f"{number:04}.png"), 60 * brightness)
    for name, content in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    for row in FILES["skin/labels.csv"].splitlines()[1:]:
        draw(Path("skin", row.split(",")[0]), 0)
    for row in FILES["clinic/export.csv"].splitlines()[1:]:
        draw(Path("clinic/photos", row.split(",")[1] + ".png"), 0)
    rng = np.random.default_rng(0)
    np.savez_compressed(
        "bloodmnist.npz",
        **{
            f"{piece}_{kind}": array
            for piece, n in (("train", 24), ("val", 8), ("test", 8))
            for kind, array in (
                ("images", rng.integers(0, 256, (n, 28, 28, 3), dtype=np.uint8)),
                ("labels", (np.arange(n) % 8)[:, None].astype(np.uint8)),
            )
        },
    )


def test_every_example_and_command_is_found():
    assert set(FILES) == {"skin/labels.csv", "clinic/export.csv", "clinic/dataset.toml"}
    assert len(re.findall(r"```(?:csv|toml)\n", PAGE)) == len(FILES)
    assert len(CONSOLES) == PAGE.count("```console")
    assert all(console.startswith("$ lmdbench ") for console in CONSOLES)


def follow(consoles, lmdbench):
    for console in consoles:
        for block in console.removeprefix("$ ").split("\n$ "):
            command, *shown = block.splitlines()
            outcome = lmdbench(*shlex.split(command)[1:])
            assert outcome.code == 0, f"{command}\n{outcome.err}"
            printed = iter(line.strip() for line in (outcome.out + outcome.err).splitlines())
            for line in shown:
                assert line.strip() in printed, f"{command}\n{outcome.out}\ndoes not show: {line}"


@pytest.mark.usefixtures("data")
def test_the_commands_work_and_print_what_the_page_shows(lmdbench):
    follow(CONSOLES, lmdbench)
    assert {path.name for path in Path("results").iterdir()} == {
        "folder-my-images",
        "folder-clinic-2024",
        "folder-bloodmnist",
    }
    assert len(list(Path("results/folder-my-images/random/ce").iterdir())) == 1
    (record,) = Path("results").glob("folder-clinic-2024/*/ce/*/run.json")
    assert json.loads(record.read_text())["costs"] == {"melanoma": {"nevus": 5}}
    compared = lmdbench("compare", "--dataset", "folder-my-images", "--format", "csv").out
    assert [name for name in ("ce", "crt") if f"{name}," in compared] == ["ce", "crt"]


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """The folder ``skin`` of the page on a data set's class, beside the example."""
    monkeypatch.chdir(tmp_path)
    Path("clinic.py").symlink_to(DOCS / "examples" / "clinic.py")
    rows = ["photo,icd10,patient"]
    for brightness, (code, n) in enumerate((("D22", 50), ("C43", 25), ("C44", 15))):
        for number in range(n):
            draw(Path("skin/photos", f"{code}-{number:02}.png"), 60 * brightness)
            rows.append(f"{code}-{number:02},{code},patient-{code}-{number // 2}")
    Path("skin/export.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_data_set_from_a_plug_in_is_trained_and_compared(lmdbench, clinic):
    page = (DOCS / "adding-a-data-set.md").read_text()
    consoles = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    assert consoles
    follow(consoles, lmdbench)
    records = [
        json.loads(path.read_text())["spec"]
        for path in sorted(clinic.glob("results/clinic/random/*/seed0-*/run.json"))
    ]
    assert [(s["method"], s["settings"]["epochs"]) for s in records] == [("ce", 3), ("crt", 1)]
    compared = lmdbench("compare", "--dataset", "clinic", "--format", "csv").out
    assert [name for name in ("ce", "crt") if f"{name}," in compared] == ["ce", "crt"]
    asked = ("--method", "ce", "--dataset", "clinic", "--data-root", "skin", "--dry-run")
    refused = lmdbench("run", *asked, "--imbalance-factor", "20")
    assert refused.code == 2
    assert "data set 'clinic': its split says nothing of --imbalance-factor 20" in refused.err
    Path("skin/export.csv").write_text("photo,icd10,patient\na,D23,b\n")
    refused = lmdbench("run", *asked)
    assert "line 2: icd10 'D23' is none of D22, C43, C44" in refused.err
