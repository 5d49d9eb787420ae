"""The page on one's own data: its examples are written, its commands run, its output compared."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "own-data.md").read_text()
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


@pytest.mark.usefixtures("data")
def test_the_commands_work_and_print_what_the_page_shows(lmdbench):
    for console in CONSOLES:
        for block in console.removeprefix("$ ").split("\n$ "):
            command, *shown = block.splitlines()
            outcome = lmdbench(*shlex.split(command)[1:])
            assert outcome.code == 0, f"{command}\n{outcome.err}"
            printed = iter(line.strip() for line in (outcome.out + outcome.err).splitlines())
            for line in shown:
                assert line.strip() in printed, f"{command}\n{outcome.out}\ndoes not show: {line}"
    assert {path.name for path in Path("results").iterdir()} == {
        "folder-my-images",
        "folder-clinic-2024",
        "folder-bloodmnist",
    }
    assert len(list(Path("results/folder-my-images/random/ce").iterdir())) == 1
    compared = lmdbench("compare", "--dataset", "folder-my-images", "--format", "csv").out
    assert [name for name in ("ce", "crt") if f"{name}," in compared] == ["ce", "crt"]
