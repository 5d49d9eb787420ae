"""Reference results: what becomes an entry, and what is refused, through the commands."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from lmdbench.core.settings import recorded
from lmdbench.runs.record import spec_id
from lmdbench.sharing.repository import read_card
from lmdbench.training.method import METHODS

# Of ISIC 2019, in place of those that fake runs have
CLASSES = {
    "classes": ["NV", "MEL", "BCC", "DF"],
    "groups": {"head": ["NV"], "medium": ["MEL", "BCC"], "tail": ["DF"]},
}
CARD = ("--title", "Three seeds", "--by", "A. Author", "--command", "lmdbench run …")


@pytest.fixture
def make(fake_run, lmdbench, tmp_path):
    """An archive of seeds of methods on a data set of lmdbench, with their usual settings but for
    those that are given; returns its path."""
    numbers = iter(range(100))

    def archive(*methods, seeds=(0, 1, 2), record=None, settings=None, **what):
        results = tmp_path / f"lab{next(numbers)}"
        for method in methods or ("ce",):
            usual = recorded(METHODS[method].Settings()) if method in METHODS else {}
            words = {"dataset": "isic2019", "settings": {**usual, **(settings or {})}, **what}
            facts = {**CLASSES, "changed_settings": {}, **(record or {})}
            for seed in seeds:
                fake_run(method, seed, results=results, record=facts, **words)
        path = results.with_suffix(".zip")
        done = lmdbench("results", "export", "--results", results, "--output", path)
        assert done.code == 0, done.err
        return path

    return archive


@pytest.fixture
def submit(lmdbench, tmp_path):
    repository = tmp_path / "reference"

    def command(archive, *words, name="mine"):
        there = ("--repository", repository)
        return lmdbench("results", "submit", archive, "--name", name, *CARD, *there, *words)

    command.repository = repository
    return command


def rewritten(archive, edit):
    """The same archive with its files (name → content) changed by ``edit``, hashes made right."""
    with zipfile.ZipFile(archive) as file:
        files = {name: file.read(name) for name in file.namelist()}
    edit(files)
    path = archive.with_name(f"edited-{archive.name}")
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_a_right_one_appears_on_the_leaderboard(make, submit, lmdbench, tmp_path):
    archive = make("ce", "focal")
    done = submit(archive, "--machine", "one H100")
    assert done.code == 0, done.err
    folder = submit.repository / "mine"
    assert (folder / "runs.zip").read_bytes() == archive.read_bytes()
    card = read_card(folder / "entry.toml")
    assert (card.title, card.by, card.machine, card.source) == (
        "Three seeds",
        "A. Author",
        "one H100",
        "",
    )
    checked = lmdbench("results", "check", submit.repository)
    assert checked.code == 0
    assert checked.out.startswith("ok       mine: 6 runs, ")
    board = tmp_path / "board"
    made = lmdbench("results", "leaderboard", "--repository", submit.repository, "--output", board)
    assert made.code == 0, made.err
    index = (board / "index.html").read_text()
    assert "Three seeds" in index
    for label in ("ce", "focal"):
        (page,) = board.glob(f"table-1-*-{label}.html")
        assert f'<a href="{page.name}">{label}</a>' in index
        assert "<code>lmdbench run …</code>" in page.read_text()
        assert "one H100" in page.read_text()


def test_seeds_of_another_lab_may_join_a_row(make, submit, lmdbench):
    assert submit(make("ce")).code == 0
    assert submit(make("ce", seeds=(3, 4)), name="more").code == 0
    assert submit(make("focal", seeds=(3, 4)), name="few").code == 2
    checked = lmdbench("results", "check", submit.repository)
    assert [line.split()[1] for line in checked.out.splitlines()] == ["mine:", "more:"]


def test_too_few_seeds(make, submit):
    refused = submit(make("ce", "focal", seeds=(0, 1)))
    assert refused.code == 2
    assert "has 2 seeds; an entry needs 3 of each row" in refused.err
    assert not submit.repository.exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"dataset": "skin"}, "images that nobody else has"),
        ({"method_version": 99}, "trained by version 99 of ce, which has version"),
        ({"settings": {"lr": "fast"}}, "ce.lr is 'fast', but wants a finite number"),
        ({"settings": {"lr": -1.0}}, "settings of ce: lr is -1.0, but must be at least 0"),
        ({"settings": {"Lr": 0.1}}, "unknown setting of ce 'Lr'. Did you mean lr?"),
        ({"backbone": "ResNet18"}, "unknown backbone 'ResNet18'. Did you mean resnet18"),
        ({"tuning": "lora"}, "its tuning lora is none that a run records"),
        ({"tuning": "Head"}, "unknown tuning 'Head'. Did you mean head?"),
        ({"results_name": "ISIC2019"}, "its data set isic2019 is called ISIC2019"),
        (
            {"record": {"classes": ["nv", "MEL", "BCC", "DF"], "groups": {"tail": ["DF"]}}},
            "isic2019 has no class 'nv'",
        ),
        (
            {"record": {"class_counts": {
                "train": [60, 20, 10, 0], "validation": [6, 4, 3, 1], "test": [30, 12, 6, 2],
            }}},
            "no training image of DF, which its test images have",
        ),
    ],
)  # fmt: skip
def test_what_is_not_fit_to_be_referred_to(make, submit, what, said):
    refused = submit(make("ce", **what))
    assert refused.code == 2
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not submit.repository.exists()


def test_a_method_without_its_source(make, submit):
    refused = submit(make("my-loss"))
    assert refused.code == 2
    assert "my-loss is no method of lmdbench, and the archive lacks the source" in refused.err


def test_a_foreign_split(make, submit, lmdbench):
    assert submit(make("ce")).code == 0
    split = {"name": "plain", "seed": 42, "imbalance_factor": 100.0, "fingerprint": "a" * 64}
    refused = submit(make("focal", split=split), name="other")
    assert refused.code == 2
    assert "its split plain-if100 is of other images than that of the entries there" in refused.err
    assert not (submit.repository / "other").exists()
    assert lmdbench("results", "check", submit.repository).code == 0


def test_a_split_in_other_capitals(make, submit):
    assert submit(make("ce")).code == 0
    split = {"name": "Plain", "seed": 42, "imbalance_factor": 100.0, "fingerprint": "f" * 64}
    capitals = make("focal", split=split, record={"split_label": "Plain-if100"})
    refused = submit(capitals, name="capitals")
    assert refused.code == 2
    assert "its split Plain-if100 is called plain-if100 by the entries there" in refused.err


def test_seeds_that_are_one_training(make, submit, fake_run, lmdbench, tmp_path):
    labels = np.repeat(np.arange(4), [30, 12, 6, 2])
    logits = np.random.default_rng(0).normal(size=(50, 4))
    refused = submit(make("ce", test=(labels, logits)))
    assert refused.code == 2
    assert "ce on isic2019: seeds 0 and 1 have the same predictions to the bit" in refused.err

    # Class means of features that are not trained are the same in each seed
    for seed in range(3):
        run = fake_run("ncm", seed, dataset="isic2019", test=(labels, logits), record=CLASSES)
        record = json.loads((run / "run.json").read_text())
        record["spec"]["settings"] = {}
        record["id"] = spec_id(record["spec"])
        (run / "run.json").write_text(json.dumps(record))
        run.rename(run.with_name(f"seed{seed}-{record['id'][:8]}"))
    archive = tmp_path / "ncm.zip"
    lmdbench("results", "export", "--results", tmp_path / "results", "--output", archive)
    assert submit(archive).code == 0


def test_what_a_run_starts_from_comes_along(make, submit, fake_run, tmp_path):
    above = fake_run("ce", dataset="isic2019", results=tmp_path / "elsewhere", record=CLASSES)
    start = json.loads((above / "run.json").read_text())["id"][:8]

    def leave_out(files):
        for name in [name for name in files if "/ce/" in name]:
            del files[name]
        manifest = json.loads(files["manifest.json"])
        manifest["runs"] = [run for run in manifest["runs"] if "/ce/" not in run["key"]]
        files["manifest.json"] = json.dumps(manifest).encode()

    refused = submit(rewritten(make("crt", ancestor=above), leave_out))
    assert refused.code == 2
    assert f"it starts from ce {start}, which is neither in the archive nor in an" in refused.err


def test_files_that_no_export_has(make, submit):
    beside = rewritten(make("ce"), lambda files: files.update({"isic2019/model.pkl": b"x"}))
    refused = submit(beside)
    assert refused.code == 2
    assert "'isic2019/model.pkl' is no file of an export" in refused.err
    assert not submit.repository.exists()


def test_test_images_in_the_validation_set(make, submit):
    archive = make("ce")

    def overlap(files):
        for name in [name for name in files if name.endswith("predictions.npz")]:
            arrays = dict(np.load(io.BytesIO(files[name])))
            arrays["validation_ids"][0] = arrays["test_ids"][0]
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            files[name] = buffer.getvalue()
        _seal(files)

    refused = submit(rewritten(archive, overlap))
    assert refused.code == 2
    assert "1 test image in its validation set" in refused.err


def _seal(files):
    """Make hashes of the manifest right, as somebody who means harm would."""
    import hashlib

    manifest = json.loads(files["manifest.json"])
    for run in manifest["runs"]:
        for name in run["files"]:
            content = files[f"{run['key']}/{name}"]
            if name == "run.json":
                record = json.loads(content)
                record.pop("digests", None)  # older records have none
                files[f"{run['key']}/{name}"] = content = json.dumps(record).encode()
            run["files"][name] = hashlib.sha256(content).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()


def test_edited_predictions(make, submit):
    def edit(files):
        name = next(name for name in files if name.endswith("predictions.npz"))
        files[name] = files[name][:-1] + b"x"

    refused = submit(rewritten(make("ce"), edit))
    assert refused.code == 2
    assert "is not what was exported (its SHA-256 is another)" in refused.err


def test_another_s_run_with_other_predictions(make, submit):
    assert submit(make("ce")).code == 0
    refused = submit(make("ce", skill=3.0), name="better")
    assert refused.code == 2
    assert "another entry has this run with other predictions" in refused.err


def test_a_pickle_and_a_path_outside(make, submit):
    def pickle(files):
        name = next(name for name in files if name.endswith("predictions.npz"))
        buffer = io.BytesIO()
        np.savez(buffer, test_ids=np.array([{}], dtype=object))
        files[name] = buffer.getvalue()
        _seal(files)

    assert "Python objects" in submit(rewritten(make("ce"), pickle)).err
    outside = rewritten(make("ce"), lambda files: files.update({"../evil": b"x"}))
    assert "leads out of it" in submit(outside).err
    assert not submit.repository.exists()


def test_an_id_that_is_not_of_its_specification(make, submit):
    def edit(files):
        name = next(name for name in files if name.endswith("run.json"))
        record = json.loads(files[name])
        record["spec"]["settings"]["lr"] = 0.5
        assert spec_id(record["spec"]) != record["id"]
        files[name] = json.dumps(record).encode()
        _seal(files)

    refused = submit(rewritten(make("ce"), edit))
    assert refused.code == 2
    assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("Mine!", (), "give small letters, digits and hyphens"),
        ("../mine", (), "give small letters, digits and hyphens"),
        ("mine", ("--machine", "two\nlines"), "--machine: give one line of text"),
    ],
)
def test_names_and_words(make, submit, name, words, said):
    refused = submit(make("ce"), *words, name=name)
    assert refused.code == 2
    assert said in refused.err


def test_no_entry_is_overwritten(make, submit):
    archive = make("ce")
    assert submit(archive).code == 0
    refused = submit(archive)
    assert refused.code == 2
    assert "there is such an entry already" in refused.err


def test_an_entry_has_runs_and_files_of_its_own(make, submit, lmdbench):
    archive = make("ce")
    assert submit(archive).code == 0
    refused = submit(archive, name="mine-too")
    assert refused.code == 2
    assert "holds no run that the entries there don't have already" in refused.err
    (submit.repository / "linked").symlink_to(submit.repository / "mine")
    checked = lmdbench("results", "check", submit.repository)
    assert checked.code == 1
    assert "linked: a link; an entry is a folder of its own files" in checked.out


def test_one_unsound_entry_does_not_hide_the_others(make, submit, lmdbench, tmp_path):
    for name, method in (("a-focal", "focal"), ("b-ce", "ce"), ("c-crt", "rw")):
        assert submit(make(method), name=name).code == 0
    repository = submit.repository
    (repository / "b-ce" / "entry.toml").write_text('title = "x"\n')
    (repository / "README.md").write_text("about them\n")
    checked = lmdbench("results", "check", repository)
    assert checked.code == 1
    assert [line.split()[0] for line in checked.out.splitlines()] == ["ok", "problem", "ok"]
    board = tmp_path / "board"
    refused = lmdbench("results", "leaderboard", "--repository", repository, "--output", board)
    assert refused.code == 2
    assert not board.exists()
    (repository / "b-ce" / "notes.txt").touch()
    assert "has 'notes.txt'" in lmdbench("results", "check", repository).out


def test_a_leaderboard_takes_the_place_of_none_but_its_own(make, submit, lmdbench, tmp_path):
    assert submit(make("ce")).code == 0
    words = ("results", "leaderboard", "--repository", submit.repository, "--output")
    other = tmp_path / "board"
    other.mkdir()
    (other / "thesis.tex").touch()
    refused = lmdbench(*words, other)
    assert refused.code == 2
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    (other / "thesis.tex").unlink()
    assert lmdbench(*words, other).code == 0
    (page,) = other.glob("table-1-*-ce.html")
    page.unlink()
    assert lmdbench(*words, other).code == 0
    assert page.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if "board" in path.name) == ["board"]


def test_code_that_changed_is_said(make, submit, fake_run, lmdbench, tmp_path):
    """All of it, also of what a run starts from; these digests are none that any code has."""
    changed = {"method": "0" * 64, "loop": "0" * 64}
    for seed in range(3):
        words = {"dataset": "isic2019", "results": tmp_path / "lab"}
        usual = {method: recorded(METHODS[method].Settings()) for method in ("ce", "crt")}
        ce = fake_run(
            "ce", seed, settings=usual["ce"], record={**CLASSES, "digests": changed}, **words
        )
        fake_run("crt", seed, settings=usual["crt"], ancestor=ce, record=CLASSES, **words)
    archive = tmp_path / "lab.zip"
    lmdbench("results", "export", "--results", tmp_path / "lab", "--output", archive)
    assert submit(archive).code == 0
    board = tmp_path / "board"
    lmdbench("results", "leaderboard", "--repository", submit.repository, "--output", board)
    index = (board / "index.html").read_text()
    said = "ce, lmdbench&#39;s training"
    assert index.count(f'<span class="changed">{said} changed</span>') == 2
    assert "These rows were made by other code" in index
    (page,) = board.glob("table-1-*-crt-*.html")
    assert f"the code of {said} has changed" in page.read_text()
    shutil.rmtree(board)
