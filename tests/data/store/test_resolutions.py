import itertools
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

from lmdbench.data.store.resolutions import measure, spread


@given(st.integers(0, 3000), st.integers(1, 500))
def test_spread_is_even_and_repeats_nothing(total, wanted):
    chosen = spread(total, wanted)
    assert len(chosen) == min(total, wanted)
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= position < total for position in chosen)
    steps = {b - a for a, b in itertools.pairwise(chosen)}
    assert not steps or max(steps) - min(steps) <= 1
    assert spread(total, wanted) == chosen


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    sizes = [(60, 45), (45, 60), (102, 102), (20, 10), (60, 45)]
    paths = []
    for number, size in enumerate(sizes):
        paths.append(tmp_path / f"{number}.{'png' if number == 3 else 'jpg'}")
        Image.new("RGB", size).save(paths[-1])
    return paths


def test_sizes_are_ordered_by_area(files, tmp_path):
    (tmp_path / "none.jpg").write_text("<html>")
    measured = measure([*files, tmp_path / "none.jpg", tmp_path / "absent.jpg"])
    assert measured is not None
    assert (measured.read, measured.of, measured.unreadable) == (5, 7, 2)
    assert (measured.smallest, measured.median, measured.largest) == (
        (20, 10),
        (60, 45),
        (102, 102),
    )
    assert measured.different == 4
    assert measured.formats == {"JPEG": 4, "PNG": 1}


def test_only_headers_are_read(files):
    """A file cut short still tells its size."""
    Image.effect_noise((102, 102), 90).save(files[2])
    content = files[2].read_bytes()
    files[2].write_bytes(content[: len(content) // 2])
    measured = measure(files[2:3])
    assert measured is not None
    assert measured.largest == (102, 102)


def test_metadata_of_any_size_does_not_hide_the_size(tmp_path):
    profile = b"\0" * 2_000_000
    Image.effect_noise((30, 20), 9).save(tmp_path / "icc.png", icc_profile=profile)
    measured = measure([tmp_path / "icc.png"])
    assert measured is not None
    assert measured.largest == (30, 20)


def test_no_more_than_asked_and_nothing_of_nothing(files):
    measured = measure(files, most=2)
    assert measured is not None
    assert (measured.read, measured.of) == (2, 5)
    assert measure([]) is None
