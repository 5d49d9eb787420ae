"""The contact sheet of pairs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmdbench.data.check.contact_sheet import MOST, draw_pairs
from lmdbench.data.check.pictures import Pair


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for name, colour in (
        ("left", (200, 30, 30)),
        ("a-very-long-id-of-an-image-right", (30, 30, 200)),
    ):
        made[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (60, 40), colour).save(made[name])
    return made


@pytest.mark.parametrize("number", [1, 4, MOST + 5])
def test_both_images_of_a_pair_are_in_it(
    tmp_path: Path, files: dict[str, Path], number: int
) -> None:
    pairs = [Pair(*files, n == 0, 1 - n / 100, n, None) for n in range(number)]
    draw_pairs(tmp_path / "sheet.png", pairs, files, dict.fromkeys(files, "train, nv"))
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).reshape(-1, 3)
    red, blue = ((pixels == colour).all(axis=1).sum() for colour in ((200, 30, 30), (30, 30, 200)))
    assert red == pytest.approx(blue, rel=0.05)
    assert red > 10_000 * min(number, MOST)


def test_another_format(tmp_path: Path, files: dict[str, Path]) -> None:
    pair = Pair(*files, False, 0.8, 3, 0.9)
    draw_pairs(tmp_path / "sheet.pdf", [pair], files, dict.fromkeys(files, ""))
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")
