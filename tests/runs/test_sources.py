"""Plug-ins' source in the directories of runs: as it was, with that of attempts before beside."""

import os

from lmdbench.runs.sources import keep_sources


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nothing_is_kept_of_a_run_without_plug_ins(tmp_path):
    keep_sources(tmp_path, {}, 0)
    assert list(tmp_path.iterdir()) == []


def test_what_began_a_run_stays_beside_what_goes_on(tmp_path):
    first = {"mine.py": b"x = 1\r\n", "deep/mine.py": "ü".encode()}
    for attempt in range(2):  # the second time nothing is to do
        keep_sources(tmp_path, first, attempt)
        assert content(tmp_path) == {f"plugins/{name}": text for name, text in first.items()}
    second = {"mine.py": b"x = 2\n"}
    keep_sources(tmp_path, second, 2)
    assert content(tmp_path / "plugins") == second
    assert content(tmp_path / "plugins-of-attempt-2") == first


def test_what_a_killed_attempt_left_half_is_made_whole(tmp_path):
    sources = {"mine.py": b"x = 1\n", "deep/other.py": b"y = 2\n"}
    keep_sources(tmp_path, {"mine.py": b"x = 1\n"}, 0)
    half = tmp_path / "plugins" / f".other~elsewhere~{os.getpid()}~0.py"
    half.write_bytes(b"y =")
    keep_sources(tmp_path, sources, 0)
    assert content(tmp_path) == {f"plugins/{name}": text for name, text in sources.items()}
