"""Runs from an archive: what comes in, what stays out, and that nothing here is touched."""

import json
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.runs.record import spec_id
from lmdbench.sharing import archive

FakeRun = Callable[..., Path]
Command = Callable[..., Any]
Files = dict[str, bytes]


def snapshot(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def first(files: Files, ending: str) -> str:
    return next(name for name in files if name.endswith(ending))


# What comes in


@pytest.mark.parametrize("kind", ["exported", "unpacked"])
def test_tables_are_the_same_elsewhere(
    request: pytest.FixtureRequest, lab: Path, tmp_path: Path, lmdbench: Command, kind: str
) -> None:
    source = request.getfixturevalue(kind)
    there = tmp_path / "there"
    done = lmdbench("results", "import", source, "--results", there)
    assert done.code == 0, done.err
    assert "4 runs imported" in done.err
    before = lmdbench("compare", "--results", lab).out
    assert lmdbench("compare", "--results", there).out == before
    assert "crt ← ce" not in before or "is gone" not in before


def test_two_labs_make_one_row_of_their_seeds(
    tmp_path: Path, fake_run: FakeRun, lmdbench: Command
) -> None:
    both = tmp_path / "both"
    for name, seeds in {"a": (0, 1), "b": (2, 3)}.items():
        for seed in seeds:
            ce = fake_run("ce", seed, results=tmp_path / name)
            fake_run("crt", seed, results=tmp_path / name, ancestor=ce, skill=2.0)
            fake_run(
                "crt", seed, results=both, ancestor=fake_run("ce", seed, results=both), skill=2
            )
        path = tmp_path / f"{name}.zip"
        assert (
            lmdbench("results", "export", "--results", tmp_path / name, "--output", path).code == 0
        )
        done = lmdbench("results", "import", path, "--results", tmp_path / "merged")
        assert done.code == 0, done.err
    merged = lmdbench("compare", "--results", tmp_path / "merged").out
    assert merged == lmdbench("compare", "--results", both).out
    assert "Seeds 0–3 in every row" in merged


def test_an_imported_run_says_where_it_came_from(
    exported: Path, tmp_path: Path, lmdbench: Command
) -> None:
    there = tmp_path / "there"
    lmdbench("results", "import", exported, "--results", there)
    run = next(there.glob("*/*/crt/*"))
    record = json.loads((run / "run.json").read_text())
    source = record["imported"]["archive"]
    assert source["from"] == "lab.zip"
    assert len(source["sha256"]) == 64
    assert Path(record["ancestor"]["directory"]).is_relative_to(there)
    assert Path(record["ancestor"]["directory"], "run.json").is_file()
    assert not (run / "model.safetensors").exists()
    done = lmdbench("results", "list", "--results", there)
    assert len(re.findall(r"  imported  .*  from lab\.zip$", done.out, re.MULTILINE)) == 4


def test_importing_again_and_importing_ones_own_changes_nothing(
    exported: Path, lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    there = tmp_path / "there"
    lmdbench("results", "import", exported, "--results", there)
    for results in (there, lab):
        before = snapshot(results)
        done = lmdbench("results", "import", exported, "--results", results)
        assert done.code == 0, done.err
        assert "0 runs imported, 4 already there" in done.err
        assert snapshot(results) == before


def test_what_was_imported_can_be_handed_on(
    exported: Path, tmp_path: Path, lmdbench: Command
) -> None:
    lmdbench("results", "import", exported, "--results", tmp_path / "there")
    again = tmp_path / "again.zip"
    lmdbench("results", "export", "--results", tmp_path / "there", "--output", again)
    assert again.read_bytes() == exported.read_bytes()


def test_a_dry_run_writes_nothing(exported: Path, tmp_path: Path, lmdbench: Command) -> None:
    there = tmp_path / "there"
    done = lmdbench("results", "import", exported, "--results", there, "--dry-run")
    assert done.code == 0
    assert done.out.count("to import") == 4
    assert not there.exists()


def test_other_predictions_under_one_id_are_refused_and_can_be_kept(
    exported: Path, lab: Path, tmp_path: Path, fake_run: FakeRun, lmdbench: Command
) -> None:
    there = tmp_path / "there"
    fake_run("ce", 0, results=there, skill=3.0)
    before = snapshot(there)
    done = lmdbench("results", "import", exported, "--results", there)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "a run here with other predictions" in done.err
    assert "--keep-existing" in done.err
    assert snapshot(there) == before
    done = lmdbench("results", "import", exported, "--results", there, "--keep-existing")
    assert done.code == 0, done.err
    assert "3 runs imported, 0 already there, 1 left as they are here" in done.err
    assert before.items() <= snapshot(there).items()


def test_a_run_that_is_being_trained_here_is_left_alone(
    exported: Path, lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    there = tmp_path / "there"
    run = next(lab.glob("*/*/ce/*"))
    here = there / run.relative_to(lab)
    shutil.copytree(run, here)
    (here / "done").unlink()
    (here / "checkpoint.pt").write_text("precious")
    done = lmdbench("results", "import", exported, "--results", there, "--keep-existing")
    assert done.code == 0, done.err
    assert "in the way: a run here that is not finished" in done.out
    assert (here / "checkpoint.pt").read_text() == "precious"
    assert not (here / "done").exists()


def test_a_full_disk_leaves_no_half_run(
    exported: Path, tmp_path: Path, lmdbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmdbench.runs import record

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    there = tmp_path / "there"
    monkeypatch.setattr(record, "write_json", full)
    done = lmdbench("results", "import", exported, "--results", there)
    assert done.code == 2
    assert "no space left" in done.err
    assert not [path for path in there.rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert lmdbench("results", "import", exported, "--results", there).code == 0


def test_the_newest_of_two_copies_is_told_by_when_it_finished(
    tmp_path: Path, fake_run: FakeRun, lmdbench: Command
) -> None:
    fake_run("ce", results=tmp_path / "a", record={"finished": "2020-01-02T03:04:05+00:00"})
    path = tmp_path / "a.zip"
    lmdbench("results", "export", "--results", tmp_path / "a", "--output", path)
    lmdbench("results", "import", path, "--results", tmp_path / "b")
    (done,) = (tmp_path / "b").glob("*/*/*/*/done")
    assert done.stat().st_mtime == 1577934245


def test_a_zip_of_an_unpacked_folder_and_stray_files_do_no_harm(
    unpacked: Path, tmp_path: Path, lmdbench: Command
) -> None:
    (unpacked / ".DS_Store").write_text("")
    path = tmp_path / "again.zip"
    with zipfile.ZipFile(path, "w") as file:
        for source in sorted(unpacked.rglob("*")):
            file.write(source, Path("unpacked") / source.relative_to(unpacked))
    done = lmdbench("results", "import", path, "--results", tmp_path / "there")
    assert done.code == 0, done.err
    assert "ignored 1 files not in its manifest: .DS_Store" in done.err


# What stays out


def refused(lmdbench: Command, path: Path, results: Path) -> str:
    """The one line with which an import is refused; nothing is written."""
    done = lmdbench("results", "import", path, "--results", results)
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.splitlines()) == 1, done.err
    assert done.out == ""
    assert not results.exists()
    return str(done.err)


def test_a_changed_file_is_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: Files) -> None:
        name = first(files, "history.csv")
        files[name] = files[name].replace(b"0.5", b"0.4")

    text = refused(lmdbench, rewrite(change), tmp_path / "there")
    assert "history.csv is not what was exported" in text


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "a//b"])
def test_names_that_lead_out_are_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command, name: str
) -> None:
    path = rewrite(lambda files: files.update({name: b"evil"}))
    assert "leads out of it" in refused(lmdbench, path, tmp_path / "there")
    assert not list(tmp_path.rglob("evil"))


def test_a_key_that_leads_out_is_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: Files) -> None:
        files["manifest.json"] = files["manifest.json"].replace(b'"skin/', b'"../skin/')

    assert "lacks ../skin" in refused(lmdbench, rewrite(change), tmp_path / "there")


def test_a_run_under_another_key_is_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: Files) -> None:
        for name in list(files):
            if "/crt/" in name:
                files[name.replace("/crt/", "/lmd/")] = files.pop(name)
        files["manifest.json"] = files["manifest.json"].replace(b"/crt/", b"/lmd/")

    text = refused(lmdbench, rewrite(change), tmp_path / "there")
    assert "its run.json is of skin/plain-if100/crt/" in text


def test_links_are_refused(
    exported: Path, unpacked: Path, tmp_path: Path, lmdbench: Command
) -> None:
    with zipfile.ZipFile(exported, "a") as file:
        info = zipfile.ZipInfo("skin/link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    assert "is a link" in refused(lmdbench, exported, tmp_path / "there")
    history = next(unpacked.rglob("history.csv"))
    target = tmp_path / "history.csv"
    history.rename(target)
    history.symlink_to(target)
    assert "is a link" in refused(lmdbench, unpacked, tmp_path / "there")


def test_a_file_that_is_there_twice_is_refused(
    exported: Path, tmp_path: Path, lmdbench: Command
) -> None:
    with zipfile.ZipFile(exported, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("manifest.json", "{}")
    assert "is there twice" in refused(lmdbench, exported, tmp_path / "there")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_zip_cut_short_is_refused(
    exported: Path, tmp_path: Path, lmdbench: Command, kept: float
) -> None:
    content = exported.read_bytes()
    exported.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    assert "no zip file, or cut short" in refused(lmdbench, exported, tmp_path / "there")


def test_damage_inside_is_refused(exported: Path, tmp_path: Path, lmdbench: Command) -> None:
    content = bytearray(exported.read_bytes())
    with zipfile.ZipFile(exported) as file:
        info = file.getinfo(first(dict.fromkeys(file.namelist(), b""), "predictions.npz"))
    start = info.header_offset + 30 + len(info.filename)
    content[start + 50 : start + 150] = bytes(100)
    exported.write_bytes(content)
    assert "damaged or cut short" in refused(lmdbench, exported, tmp_path / "there")


def test_enormous_files_are_refused_before_they_are_unpacked(
    exported: Path, tmp_path: Path, lmdbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = exported.read_bytes()
    with zipfile.ZipFile(exported) as file:
        size = file.infolist()[1].file_size
    at = content.rindex(struct.pack("<L", size))  # in the directory at the end
    exported.write_bytes(content[:at] + struct.pack("<L", 3 << 30) + content[at + 4 :])
    assert "would have 3,072 MiB" in refused(lmdbench, exported, tmp_path / "there")
    exported.write_bytes(content)
    monkeypatch.setattr(archive, "MOST_IN_ALL", 10_000)
    assert "are read at most" in refused(lmdbench, exported, tmp_path / "there")
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    assert "more than 3 files" in refused(lmdbench, exported, tmp_path / "there")


def test_a_file_longer_than_it_says_is_refused(
    exported: Path, tmp_path: Path, lmdbench: Command
) -> None:
    content = exported.read_bytes()
    with zipfile.ZipFile(exported) as file:
        size = file.getinfo("manifest.json").file_size
    at = content.rindex(struct.pack("<L", size))
    exported.write_bytes(content[:at] + struct.pack("<L", size - 5) + content[at + 4 :])
    assert "manifest.json" in refused(lmdbench, exported, tmp_path / "there")


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b"7", "no JSON object"),
        (b'{"format": 1}', "lacks 'runs'"),
        (b'{"format": 1, "runs": [{"key": 1}], "audits": []}', "lacks 'files'"),
        (b'{"format": 1, "runs": [7], "audits": []}', "not what an export writes"),
        (b'{"format": 1, "runs": 7, "audits": []}', "not what an export writes"),
        (b'{"format": 1, "runs": [{"key": 1, "files": []}]}', "not what an export writes"),
        (b'{"format": 1, "runs": [{"key": 1, "files": {"x": ""}}]}', "it lists 'x'"),
        (b'{"format": 1, "runs": [], "audits": [{"key": "\\u001b", "files": {}}]}', "unprintable"),
        (b"[" * 99_999, "nested too deeply"),
    ],
)
def test_a_damaged_manifest_is_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command, manifest: bytes, why: str
) -> None:
    path = rewrite(lambda files: files.update({"manifest.json": manifest}))
    text = refused(lmdbench, path, tmp_path / "there")
    assert f"manifest.json: damaged, {why}" in text or "unprintable" in why in text
    assert not re.search(r"[A-Z]\w+Error|object is|indices|recursion", text)


def test_another_format_and_no_archive_at_all_are_refused(
    rewrite: Callable[..., Path], lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    path = rewrite(lambda files: files.update({"manifest.json": b'{"format": 2}'}))
    assert "format 2; this one reads 1" in refused(lmdbench, path, tmp_path / "there")
    assert "has no manifest.json" in refused(lmdbench, lab, tmp_path / "there")
    assert "no such file" in refused(lmdbench, tmp_path / "nothing.zip", tmp_path / "there")


# Runs that contradict themselves, under honest hashes


def edited(files: Files, change: Callable[[dict[str, Any]], object]) -> None:
    name = first(files, "/run.json")
    record = json.loads(files[name])
    change(record)
    files[name] = json.dumps(record).encode()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r["spec"]["settings"].update(lr=9.0), "but its spec comes to"),
        (lambda r: r.update(id="0" * 64), "its id is 00000000"),
        (lambda r: r["class_counts"]["test"].reverse(), "test labels are not those"),
        (lambda r: r["class_counts"]["train"].pop(), "train class_counts are not 4 numbers"),
        (lambda r: r["classes"].pop(), "class_counts are not 3 numbers"),
        (lambda r: r["groups"].update(tail=["xyz"]), "'xyz', which is no class"),
        (lambda r: r.update(split_label="other"), "its split is not other"),
        (lambda r: r.update(split_label="../.."), "its split is not ../.."),
        (lambda r: r.update(results_name="../x"), "not of ../x"),
        (lambda r: r.update(classes=7), "damaged"),
        (lambda r: r.update(ancestor={"id": "x", "method": "y", "directory": "z"}), "another run"),
        (lambda r: r.pop("groups"), "lacks 'groups'"),
        (lambda r: r.update(format=9), "format 9"),
        (lambda r: r.update(imported={"predictions": {"from": "x", "parts": []}}), "which parts"),
        (lambda r: r.update(imported={"predictions": "x"}), "damaged"),
        (
            lambda r: r.update(
                imported={"predictions": {"from": "x", "parts": ["test"], "stated": 1}}
            ),
            "no list",
        ),
        (lambda r: r.update(partial={"total": 5}), "its split is not plain-if100"),
        (lambda r: r.update(split_notes="x"), "its split_notes cannot be"),
        (lambda r: r["classes"].__setitem__(0, "\x1b[2J"), "control characters"),
        (lambda r: r["classes"].__setitem__(0, "\u200b"), "unprintable"),
        (lambda r: r.update(split_label="\x1b[2J"), "control characters"),
        (lambda r: r.update(format="\x1b[2J"), "format '\\x1b[2J'"),
        (lambda r: r.update(device="\x1b[2J"), "a text in it has control characters"),
        (lambda r: r.update(versions={"torch\n": "2"}), "a text in it has control characters"),
        (lambda r: r.update(split_notes=["\ud800"]), "a text in it has control characters"),
        (lambda r: r.update(device=7), "its device cannot be"),
        (lambda r: r.update(seconds="long"), "its seconds is 'long', no number"),
        (lambda r: r.update(seconds=float("nan")), "its seconds is nan, no number"),
        (lambda r: r.update(epochs=True), "its epochs is True, no number"),
        (lambda r: r.update(peak_memory_mib=-1), "its peak_memory_mib is -1, no number"),
        (lambda r: r["groups"].update(tail=["nv", "df"]), "its groups have 'nv' twice"),
    ],
)
def test_a_record_that_lies_is_refused(
    rewrite: Callable[..., Path],
    tmp_path: Path,
    lmdbench: Command,
    change: Callable[[dict[str, Any]], object],
    text: str,
) -> None:
    path = rewrite(lambda files: edited(files, change), honest=True)
    problem = refused(lmdbench, path, tmp_path / "there")
    assert text in problem
    assert "run.json" in problem or "predictions.npz" in problem
    assert "lmdbench-" not in problem  # the temporary folder


def test_a_record_that_was_edited_is_refused_also_where_nothing_contradicts_it(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["groups"] = {"head": record["classes"]}

    path = rewrite(lambda files: edited(files, change), honest=True, sealed=True)
    problem = refused(lmdbench, path, tmp_path / "there")
    assert "run.json: damaged, it was changed since it was written" in problem
    path = rewrite(lambda files: edited(files, change), honest=True)
    assert lmdbench("results", "import", path, "--results", tmp_path / "there").code == 0


def test_predictions_of_another_run_are_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: Files) -> None:
        one, other = (name for name in sorted(files) if "/ce/" in name and name.endswith(".npz"))
        files[one] = files[other]

    path = rewrite(change, honest=True, sealed=True)
    problem = refused(lmdbench, path, tmp_path / "there")
    assert "predictions.npz: damaged, its SHA-256 is not the one in run.json" in problem
    path = rewrite(change, honest=True)
    assert lmdbench("results", "import", path, "--results", tmp_path / "there").code == 0


@pytest.mark.parametrize(("dataset", "real"), [("demo", True), ("isic2019", False)])
def test_real_and_synthetic_images_are_not_taken_for_each_other(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command, dataset: str, real: bool
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["spec"]["dataset"] = dataset
        record["id"] = spec_id(record["spec"])
        record["synthetic"] = not real

    path = rewrite(lambda files: edited(files, change), honest=True)
    said = f"it says that {dataset} is {'real' if real else 'synthetic'}"
    assert said in refused(lmdbench, path, tmp_path / "there")


def with_arrays(files: Files, tmp_path: Path, **arrays: Any) -> None:
    name = first(files, "/predictions.npz")
    (tmp_path / "p.npz").write_bytes(files[name])
    with np.load(tmp_path / "p.npz") as there:
        content = {key: there[key] for key in there}
    content |= {key: make(content) for key, make in arrays.items()}
    np.savez(tmp_path / "p.npz", **content)
    files[name] = (tmp_path / "p.npz").read_bytes()


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"test_ids": lambda c: c["test_ids"].astype(object)}, "Python objects"),
        ({"test_logits": lambda c: np.full_like(c["test_logits"], np.nan)}, "not all finite"),
        ({"test_logits": lambda c: c["test_logits"][:, :3]}, "damaged|3 logits an image"),
        ({"test_labels": lambda c: c["test_labels"][::-1] * 0}, "not those that run.json counts"),
        ({"test_ids": lambda c: np.full_like(c["test_ids"], "x")}, "is there twice"),
        ({"train_ids": lambda c: c["test_ids"]}, "train"),
        ({"test_ids": lambda c: c["test_ids"].astype("S")}, "are no text"),
        ({"test_ids": lambda c: np.char.add(c["test_ids"], "x")}, "test images are not those of"),
    ],
)
def test_predictions_that_lie_are_refused(
    rewrite: Callable[..., Path],
    tmp_path: Path,
    lmdbench: Command,
    arrays: dict[str, Any],
    text: str,
) -> None:
    path = rewrite(lambda files: with_arrays(files, tmp_path, **arrays), honest=True)
    problem = refused(lmdbench, path, tmp_path / "there")
    assert any(part in problem for part in text.split("|"))


def test_an_array_that_claims_more_than_there_is_takes_no_memory(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: Files) -> None:
        name = first(files, "/predictions.npz")
        path = tmp_path / "p.npz"
        with zipfile.ZipFile(path, "w") as file, file.open("test_labels.npy", "w") as member:
            header = {"descr": "<i8", "fortran_order": False, "shape": (1 << 42,)}
            np.lib.format.write_array_header_1_0(member, header)
        files[name] = path.read_bytes()

    path = rewrite(change, honest=True)
    assert "not as large as it says" in refused(lmdbench, path, tmp_path / "there")


def test_a_split_of_other_images_here_is_refused(
    exported: Path, tmp_path: Path, fake_run: FakeRun, lmdbench: Command
) -> None:
    there = tmp_path / "there"
    fake_run("focal", results=there, images=[f"other{n}" for n in range(50)])
    done = lmdbench("results", "import", exported, "--results", there)
    assert done.code == 2
    assert "its test images are not those of" in done.err
    assert "though both say they are of the split ffffffffffff" in done.err
    assert len(list(there.glob("*/*/*/*"))) == 1


def test_ids_with_an_unknown_key_in_the_spec_are_refused(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["spec"]["new"] = 1
        record["id"] = spec_id(record["spec"])

    path = rewrite(lambda files: edited(files, change), honest=True)
    assert "the unknown new" in refused(lmdbench, path, tmp_path / "there")


def test_an_unwritable_results_folder_is_one_line(
    exported: Path, tmp_path: Path, lmdbench: Command
) -> None:
    (tmp_path / "file").write_text("")
    done = lmdbench("results", "import", exported, "--results", tmp_path / "file")
    assert done.code == 2
    assert "cannot write" in done.err
    assert os.path.getsize(tmp_path / "file") == 0
