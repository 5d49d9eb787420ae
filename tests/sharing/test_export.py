"""What an export holds, and what stays at home."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.runs.record import read_record
from lmdbench.sharing.shared import shared_record

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def test_records_histories_and_predictions_go_and_nothing_else(exported: Path, lab: Path) -> None:
    runs = [path.parent for path in lab.glob("*/*/*/*/run.json")]
    keys = [run.relative_to(lab).as_posix() for run in runs]
    wanted = {f"{k}/{n}" for k in keys for n in ("run.json", "predictions.npz", "history.csv")}
    assert set(names(exported)) == wanted | {"manifest.json", "README.md"}
    content = exported.read_bytes()
    with zipfile.ZipFile(exported) as file:
        for name in file.namelist():
            content += file.read(name)
    for private in (b"gpu-of-anna", str(lab).encode(), b"weights\n"):
        assert private not in content


def test_a_record_keeps_what_its_id_is_made_of_and_loses_what_tells_of_a_machine(
    fake_run: FakeRun,
) -> None:
    ce = fake_run("ce")
    private = {"host": "gpu-of-anna", "imported": {"archive": {"from": "x.zip"}}}
    crt = fake_run("crt", ancestor=ce, record=private)
    record = read_record(crt)
    shared = shared_record(record)
    assert shared.spec.id == shared.id == record.id
    assert shared.ancestor.directory == f"skin/plain-if100/ce/{ce.name}"
    assert "gpu-of-anna" not in json.dumps(shared.to_json())
    assert "imported" not in shared.to_json()
    assert shared_record(shared) == shared
    assert shared.key == f"skin/plain-if100/crt/{crt.name}"


def test_the_name_of_an_ancestor_elsewhere_is_not_told(fake_run: FakeRun) -> None:
    ce = fake_run("ce")
    elsewhere = ce.with_name("my-secret-project")
    shutil.copytree(ce, elsewhere)
    record = read_record(fake_run("crt", ancestor=elsewhere))
    assert shared_record(record).ancestor.directory == ""


def test_the_same_runs_make_the_same_bytes(
    exported: Path, lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(lab, moved)
    again = tmp_path / "again.zip"
    assert lmdbench("results", "export", "--results", moved, "--output", again).code == 0
    assert again.read_bytes() == exported.read_bytes()


def test_a_choice_brings_along_what_it_started_from(
    lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    path = tmp_path / "crt"
    done = lmdbench(
        *("results", "export", "--results", lab, "--method", "crt", "--output", path),
    )
    assert done.code == 0, done.err
    assert sorted(p.parent.parent.name for p in path.glob("*/*/*/*/run.json")) == [
        *("ce", "ce", "crt", "crt")
    ]
    assert done.out.count("(what others started from)") == 2


def test_a_gone_ancestor_is_told(lab: Path, tmp_path: Path, lmdbench: Command) -> None:
    shutil.rmtree(lab / "skin" / "plain-if100" / "ce")
    done = lmdbench("results", "export", "--results", lab, "--output", tmp_path / "x.zip")
    assert done.code == 0
    assert "the ce run it started from is gone" in done.err


@pytest.mark.parametrize("name", ["there.zip", "there"])
def test_nothing_is_overwritten(lab: Path, tmp_path: Path, lmdbench: Command, name: str) -> None:
    (tmp_path / "there.zip").write_text("precious")
    (tmp_path / "there").mkdir()
    done = lmdbench("results", "export", "--results", lab, "--output", tmp_path / name)
    assert done.code == 2
    assert "is there already" in done.err
    assert (tmp_path / "there.zip").read_text() == "precious"
    assert not list((tmp_path / "there").iterdir())


def test_no_archive_is_left_of_a_run_that_contradicts_itself(
    lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    run = next(lab.glob("*/*/crt/*"))
    other = next(lab.glob("*/*/ce/*"))
    record = json.loads((run / "run.json").read_text())
    record["class_counts"]["test"][0] += 1
    (run / "run.json").write_text(json.dumps(record))
    done = lmdbench("results", "export", "--results", lab, "--output", tmp_path / "x.zip")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "its test labels are not those that run.json counts" in done.err
    assert not list(tmp_path.glob("*x*.zip"))
    assert other.exists()


def test_another_archives_name_is_refused(lab: Path, tmp_path: Path, lmdbench: Command) -> None:
    done = lmdbench("results", "export", "--results", lab, "--output", tmp_path / "x.tar.gz")
    assert done.code == 2
    assert ".zip" in done.err


def test_an_audit_goes_along_with_its_lists_but_not_its_pictures(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    assert toy_run("ce", "--set", "epochs=1").code == 0
    results = tmp_path / "results"
    audit = ("data", "audit", "folder", "--data-root", toy_folder, "--results", results)
    done = lmdbench(*audit, "--near-duplicates")
    assert done.code in (0, 1), done.err
    path = tmp_path / "x.zip"
    done = lmdbench("results", "export", "--results", results, "--output", path)
    assert done.code == 0, done.err
    assert "look whether its image names" in done.err
    audits = {name.split("/")[-1] for name in names(path) if "/audit-" in name}
    assert audits == {"audit.json", "leaks.csv", "near-duplicates.csv"}
    lab_b = tmp_path / "b"
    done = lmdbench("results", "import", path, "--results", lab_b)
    assert done.code == 0, done.err
    done = lmdbench("compare", "--results", lab_b, "--drop-leaked")
    assert done.code == 0, done.err
