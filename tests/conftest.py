"""Fixtures that tests of every folder use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and official tables; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LMDBENCH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set LMDBENCH_TEST_DATA)")
    return folder
