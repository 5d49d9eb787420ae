"""A sweep's runs elsewhere: its table in one command, and its plug-ins as text alone."""

import hashlib
import json
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.sharing.sweeps import SharedSweep, digest_of, read_shared
from lmdbench.sweep.config.file import read_sweep
from lmdbench.sweep.config.written import shareable_text

Command = Callable[..., Any]
FakeRun = Callable[..., Path]
PLUGIN = Path(__file__).parents[2] / "docs" / "examples" / "label_smoothing.py"


def without_plugins(*words: object) -> tuple[str, str]:
    """What a command of another process prints to both streams, which must import no plug-in."""
    code = (
        "import sys\nfrom lmdbench.cli.main import main\n"
        f"sys.argv = ['lmdbench', *{[str(word) for word in words]!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "assert not [name for name in sys.modules if 'smoothing' in name]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def sweep(toy_folder: Path, tmp_path: Path) -> Path:
    """ce and a plug-in's method, called by the user's own names."""
    file = tmp_path / "skin.toml"
    file.write_text(
        f"""
        # for nobody else
        plugins = ["{PLUGIN}"]
        seeds = "0-1"
        methods = [
            "ce",
            {{ name = "label-smoothing", label = "ours", set = {{ smoothing = 0.2 }} }},
            {{ name = "label-smoothing", label = "ours, more", set = {{ smoothing = 0.4 }} }},
        ]
        [[datasets]]
        name = "folder"
        data_root = "{toy_folder}"
        backbone = "small"
        image_size = 24
        [settings.all]
        epochs = 1
        [slurm]
        time = "1:00:00"
        account = "secret-project"
        """
    )
    return file


def test_a_sweeps_table_comes_back_elsewhere_by_the_printed_command(
    toy_run: Command,
    sweep: Path,
    tmp_path: Path,
    lmdbench: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--plugin", PLUGIN, "--set", "epochs=1", "--seeds", "0-1")
    for method in (["ce"], *(["label-smoothing", "--set", f"smoothing={s}"] for s in (0.2, 0.4))):
        done = toy_run(*method, *words)
        assert done.code == 0, done.err
    assert toy_run("focal", "--set", "epochs=1").code == 0  # of no sweep
    here = tmp_path / "results"
    before = lmdbench("compare", "--sweep", sweep, "--results", here, "--reference", "ours")
    assert before.code == 0, before.err
    words = ("results", "export", "--results", here, "--sweep", sweep, "--reference", "ours")
    done = lmdbench(*words, "--output", tmp_path / "x.zip")
    assert done.code == 0, done.err
    assert "plugins/label_smoothing.py  (source of a plug-in)" in done.out
    assert "elsewhere: lmdbench results import x.zip --results results" in done.err

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    _, said = without_plugins("results", "import", "../x.zip", "--results", "results")
    assert "6 runs imported" in said
    (command,) = [line for line in said.splitlines() if line.startswith("table of skin: ")]
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        readme = file.read("README.md").decode()
    assert command.removeprefix("table of skin: ") in readme
    after, _ = without_plugins(*shlex.split(command.removeprefix("table of skin: "))[1:])
    assert after == before.out
    assert "ours, more" in after
    assert "only kept, not executed" in said

    (shared,) = elsewhere.glob("results/sweeps/skin/shared-*")
    assert (shared / "plugins" / "label_smoothing.py").read_bytes() == PLUGIN.read_bytes()
    text = (shared / "sweep.toml").read_text()
    for private in (str(tmp_path), str(PLUGIN.parent), "secret", "nobody else"):
        assert private not in text
    _, said = without_plugins("results", "import", "../x.zip", "--results", "results")
    assert "0 runs imported, 6 already there" in said


def test_an_imported_sweep_is_handed_on_as_it_came(
    toy_run: Command, sweep: Path, tmp_path: Path, lmdbench: Command
) -> None:
    assert toy_run("ce", "--set", "epochs=1").code == 0
    words = ("results", "export", "--sweep")
    done = lmdbench(
        *(*words, sweep, "--results", tmp_path / "results", "--output", tmp_path / "x.zip"),
        *("--reference", "ce"),
    )
    assert done.code == 0, done.err
    assert "note: 5 of 6 runs of skin are not finished, or not chosen" in done.err
    there = tmp_path / "there"
    assert lmdbench("results", "import", tmp_path / "x.zip", "--results", there).code == 0
    (shared,) = there.glob("sweeps/skin/shared-*")
    done = lmdbench(*words, shared, "--results", there, "--output", tmp_path / "again.zip")
    assert done.code == 0, done.err
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "x.zip").read_bytes()
    done = lmdbench(
        *(*words, shared, "--results", there, "--output", tmp_path / "without"), "--without-plugins"
    )
    assert done.code == 0, done.err
    assert not list((tmp_path / "without").rglob("*.py"))
    done = lmdbench(
        *(*words, shared, "--results", there, "--output", tmp_path / "y", "--reference", "cee")
    )
    assert (done.code, "Did you mean ce?" in done.err) == (2, True)


def test_a_reference_is_for_a_sweep(lab: Path, tmp_path: Path, lmdbench: Command) -> None:
    words = ("results", "export", "--results", lab, "--output", tmp_path / "y.zip")
    done = lmdbench(*words, "--reference", "ce")
    assert (done.code, "give --sweep, or leave it out" in done.err) == (2, True)


def test_the_source_that_a_run_keeps_goes_along(
    lab: Path, tmp_path: Path, lmdbench: Command
) -> None:
    run = next(lab.glob("*/*/crt/*"))
    (run / "plugins" / "helpers").mkdir(parents=True)
    for name in ("mine.py", "helpers/more.py"):
        (run / "plugins" / name).write_text(f"raise SystemExit({name!r})\n")
    words = ("results", "export", "--results", lab, "--output", tmp_path / "x.zip")
    done = lmdbench(*words)
    assert done.code == 0, done.err
    assert done.out.count("(source of a plug-in)") == 2
    there = tmp_path / "there"
    done = lmdbench("results", "import", tmp_path / "x.zip", "--results", there)
    assert done.code == 0, done.err
    key = run.relative_to(lab)
    for name in ("mine.py", "helpers/more.py"):
        assert (there / key / "plugins" / name).read_text() == f"raise SystemExit({name!r})\n"
    assert lmdbench("compare", "--results", there).out == lmdbench("compare", "--results", lab).out


def test_the_text_of_a_sweep_reads_back_as_the_same_runs(
    sweep: Path, tmp_path: Path, toy_folder: Path
) -> None:
    asked = read_sweep(str(sweep), None)
    (tmp_path / "again.toml").write_text(shareable_text(asked))
    again = read_sweep(str(tmp_path / "again.toml"), toy_folder)
    assert (again.name, again.seeds, again.setups) == ("skin", asked.seeds, asked.setups)
    assert again.plugins == ()
    assert [(e.method, e.label, e.settings) for e in again.entries] == [
        (e.method, e.label, e.settings) for e in asked.entries
    ]


def test_a_shared_sweep_is_read_as_it_was_written(tmp_path: Path) -> None:
    sweep = SharedSweep("a", {"d/s/m/seed0-01234567": "ours"}, "ce", "seeds = 0\n", {"p.py": b"x"})
    for name, content in sweep.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert read_shared(tmp_path) == sweep
    assert sweep.key == f"sweeps/a/shared-{digest_of(sweep.files)}"
    other = SharedSweep("a", sweep.labels, "lmd", sweep.text, sweep.plugins)
    assert other.key != sweep.key


TABLE = {"format": 1, "name": "a", "reference": "ce", "labels": {"d/s/m/seed0-01234567": "x"}}


@pytest.mark.parametrize(
    ("table", "key", "more", "said"),
    [
        (TABLE, None, {}, ""),
        ({**TABLE, "format": 2}, None, {}, "written by another version"),
        ({**TABLE, "labels": {"x": "\x1b[2J"}}, None, {}, "damaged, not what an export writes"),
        ({**TABLE, "labels": ["x"]}, None, {}, "damaged, not what an export writes"),
        ({**TABLE, "name": "../a"}, None, {}, "leads out of it"),
        ({**TABLE, "name": "b"}, "sweeps/a/shared-{digest}", {}, "of another sweep, or damaged"),
        (TABLE, "sweeps/a/shared-01234567", {}, "of another sweep, or damaged"),
        (TABLE, "skin/a/shared-{digest}", {}, "of another sweep, or damaged"),
        (TABLE, None, {"plugins/../../evil.py": b"x"}, "leads out of it"),
        (TABLE, None, {"plugins/.evil.py": b"x"}, "it lists 'plugins/.evil.py', which no export"),
        (TABLE, None, {"plugins/evil.so": b"x"}, "it lists 'plugins/evil.so', which no export"),
        (TABLE, None, {"plugins/good.py": b"\xff"}, ""),
        (TABLE, None, {"sweep.toml": b"\xff"}, "damaged, not what an export writes"),
    ],
)
def test_a_sweep_that_no_export_writes_is_refused(
    rewrite: Callable[..., Path],
    tmp_path: Path,
    lmdbench: Command,
    table: dict[str, Any],
    key: str | None,
    more: dict[str, bytes],
    said: str,
) -> None:
    content = {"table.json": json.dumps(table).encode(), **more}
    name = (key or f"sweeps/{table['name']}/shared-{{digest}}").format(digest=digest_of(content))

    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        hashes = {k: hashlib.sha256(v).hexdigest() for k, v in content.items()}
        manifest["sweeps"] = [{"key": name, "files": hashes}]
        files["manifest.json"] = json.dumps(manifest).encode()
        files.update({f"{name}/{k}": v for k, v in content.items()})

    there = tmp_path / "there"
    done = lmdbench("results", "import", rewrite(change), "--results", there)
    if said:
        assert done.code == 2
        assert said in done.err
        assert len(done.err.splitlines()) == 1
        assert not there.exists()
    else:
        assert done.code == 0, done.err
        assert (there / name / "table.json").is_file()


def test_an_archive_of_before_sweeps_were_shared_comes_in(
    rewrite: Callable[..., Path], tmp_path: Path, lmdbench: Command
) -> None:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        del manifest["sweeps"], files["README.md"]
        files["manifest.json"] = json.dumps(manifest).encode()

    done = lmdbench("results", "import", rewrite(change), "--results", tmp_path / "there")
    assert done.code == 0, done.err
    assert "4 runs imported" in done.err


def test_what_a_plug_in_imports_goes_along_with_the_sweep_and_with_its_runs(
    copies: Any, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    (tmp_path / "helper.py").write_text("WEIGHT = 2.0\n")
    plugin = tmp_path / "mine.py"
    text = PLUGIN.read_text().replace("label-smoothing", "mine")
    plugin.write_text(
        text.replace("from torch import", "from helper import WEIGHT\nfrom torch import")
    )
    sweep = tmp_path / "own.toml"
    sweep.write_text(
        f'plugins = ["mine.py"]\nmethods = ["mine"]\n[settings.all]\nepochs = 1\n'
        f'[[datasets]]\nname = "folder"\ndata_root = "{toy_folder}"\n'
        'backbone = "small"\nimage_size = 24\n'
    )
    results = tmp_path / "results"
    for words in (  # in processes of their own, as a method stays registered
        ("sweep", "launch", sweep, "--results", results),
        ("results", "export", "--results", results, "--sweep", sweep, "--output", tmp_path / "x"),
    ):
        process = copies.popen(
            [sys.executable, "-m", "lmdbench", *words], stderr=subprocess.PIPE, text=True
        )
        _, err = process.communicate()
        assert process.returncode == 0, err
    for folder in ("*/*/mine/seed0-*", "sweeps/own/shared-*"):
        (kept,) = (tmp_path / "x").glob(f"{folder}/plugins")
        assert (kept / "mine.py").read_text() == plugin.read_text()
        assert (kept / "helper.py").read_text() == "WEIGHT = 2.0\n"
    there = tmp_path / "there"
    imported = lmdbench("results", "import", tmp_path / "x", "--results", there)
    assert imported.code == 0, imported.err
    assert len(list(there.glob("*/*/mine/seed0-*/plugins/helper.py"))) == 1
