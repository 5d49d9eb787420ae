"""`lmdbench data audit`, and `compare --drop-leaked` after it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Two classes of small images; a division in a file that tears two patients apart."""
    folder = tmp_path / "clinic"
    folder.mkdir()
    rows, division = ["image,label,group"], ["image,split"]
    rng = np.random.default_rng(0)
    for n in range(40):
        label = "seldom" if n % 4 == 0 else "often"
        pixels = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:02}.png")
        rows.append(f"{n:02}.png,{label},{f'p{n}' if n < 36 else 'torn' if n < 39 else ''}")
        division.append(
            f"{n:02}.png,{'train' if n < 20 or n == 36 else 'val' if n < 24 else 'test'}"
        )
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "torn.csv").write_text("\n".join(division) + "\n")
    return folder


def options(clinic: Path) -> tuple[object, ...]:
    results = clinic.parent / "results"
    return ("--data-root", clinic, "--split", clinic.parent / "torn.csv", "--results", results)


def test_the_published_isic_split_leaks_and_says_how_much(lmdbench, test_data, tmp_path):
    words = ("data", "audit", "isic2019", "--data-root", test_data, "--results", tmp_path)
    outcome = lmdbench(*words)
    assert outcome.code == 1, outcome.err
    assert "lesions in two parts: 2,665 (1,067 train–validation, 1,913 train–test" in outcome.out
    assert "2,503 of 4,621 test images (54.2 %) share one with training" in outcome.out
    assert "isic2019/published-if100/audit-1ee188c4" in outcome.out.rstrip().splitlines()[-1]
    facts = json.loads(lmdbench(*words, "--json").out)
    assert facts["clean"] is False
    assert facts["tables"]["shared_groups"]["by_class"]["VASC"]["test_with_train"] == 15
    with (
        tmp_path / "isic2019" / "published-if100" / "audit-1ee188c4" / "leaks.csv"
    ).open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == 2665
    assert {row["kind"] for row in rows} == {"group"}


def test_the_lesion_split_is_clean(lmdbench, test_data, tmp_path):
    words = ("data", "audit", "isic2019", "--data-root", test_data, "--split", "lesion")
    outcome = lmdbench(*words, "--results", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "lesions in two parts: none" in outcome.out
    assert "2,023 images have none" in outcome.out


def test_without_lesions_it_says_so(lmdbench, test_data, tmp_path):
    words = ("data", "audit", "hyper-kvasir", "--data-root", test_data, "--results", tmp_path)
    outcome = lmdbench(*words)
    assert outcome.code == 0
    assert "lesions in two parts: unknown, no table names them" in outcome.out
    assert "clean as far as was looked: lesions are unknown" in outcome.out
    line = next(line for line in outcome.out.splitlines() if line.startswith("ileum"))
    assert line.split() == ["ileum", "1", "±", "48", "points"]


def test_a_torn_patient_is_found_in_a_division_of_ones_own(lmdbench, clinic):
    outcome = lmdbench("data", "audit", "folder", *options(clinic))
    assert outcome.code == 1
    assert "lesions in two parts: 1 (1 train–test)" in outcome.out
    assert "2 of 15 test images (13.3 %) share one with training" in outcome.out


def test_compare_scores_the_test_images_that_do_not_leak(lmdbench, clinic):
    words = ("--method", "ce", "--dataset", "folder", *options(clinic))
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    assert lmdbench("run", *words, *small).code == 0
    results = ("--results", clinic.parent / "results")
    refused = lmdbench("compare", "--drop-leaked", *results)
    assert refused.code == 2
    assert "no audit of folder-clinic file-torn" in refused.err
    command = f"lmdbench data audit folder --results {results[1]} --data-root DIR --split torn.csv"
    assert f"`{command}`" in refused.err

    assert lmdbench("data", "audit", "folder", *options(clinic)).code == 1
    outcome = lmdbench("compare", "--drop-leaked", *results, "--json")
    assert outcome.code == 0, outcome.err
    full, clean = json.loads(outcome.out)["blocks"]
    assert clean["title"] == f"{full['title']} · without the 2 that leak"
    assert (full["images"]["test"]["all"], clean["images"]["test"]["all"]) == (15, 13)
    with np.load(next(clinic.parent.glob("results/*/*/ce/*/predictions.npz"))) as arrays:
        kept = ~np.isin(arrays["test_ids"], ["37.png", "38.png"])
        hits = arrays["test_logits"].argmax(axis=1) == arrays["test_labels"]
    assert clean["rows"][0]["scores"]["accuracy"]["mean"] == pytest.approx(hits[kept].mean())
    assert full["rows"][0]["scores"]["accuracy"]["mean"] == pytest.approx(hits.mean())
    assert any("share a lesion, or a picture" in note for note in clean["notes"])
    assert (full["dropped"], clean["dropped"]) == (None, 2)
    table = lmdbench("compare", "--drop-leaked", *results, "--format", "csv").out
    assert {row["dropped"] for row in csv.DictReader(table.splitlines())} == {"", "2"}


def test_compare_audits_the_tables_itself_where_they_are_there(lmdbench, clinic):
    words = ("--method", "ce", "--dataset", "folder", "--data-root", clinic)
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    results = ("--results", clinic.parent / "results")
    assert lmdbench("run", *words, *small, *results).code == 0
    outcome = lmdbench("compare", "--drop-leaked", "--data-root", clinic, *results)
    assert outcome.code == 0, outcome.err
    looked = "No test image leaks, by its tables, as far as was looked: "
    assert f"{looked}lesions are unknown" not in outcome.out
    assert f"{looked}pictures were not compared" in outcome.out
    assert outcome.out.count("Balanced") == 1
    assert not list(clinic.parent.glob("results/*/*/audit*"))


def test_a_table_without_an_audit_stops_no_other(lmdbench, clinic, fake_run):
    words = ("--method", "ce", "--dataset", "folder", *options(clinic))
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    assert lmdbench("run", *words, *small).code == 0
    assert lmdbench("data", "audit", "folder", *options(clinic)).code == 1
    results = clinic.parent / "results"
    fake_run("ce", results=results, dataset="hyper-kvasir")
    page = clinic.parent / "r.html"
    done = lmdbench("report", "--drop-leaked", "--results", results, "--output", page)
    assert done.code == 0, done.err
    assert "not without leaked images: no audit of hyper-kvasir plain-if100" in done.err
    assert "--data-root DIR" in done.err
    text = page.read_text()
    assert "No table without leaked test images: this split has no audit" in text
    assert "without the 2 that leak" in text
    leaks = "Of the test images 13.3 % share a lesion (or patient) with training images"
    assert text.count(leaks) == 1  # not of the table that is without them
    assert str(clinic.parent) not in text
    outcome = lmdbench("compare", "--drop-leaked", "--results", results, "--json")
    notes = [block["notes"] for block in json.loads(outcome.out)["blocks"]]
    assert any("as the audit of this split found" in note for note in notes[1])


def test_drop_leaked_is_for_test_images(lmdbench, fake_run, tmp_path):
    fake_run("ce")
    words = ("compare", "--results", tmp_path / "results", "--drop-leaked")
    outcome = lmdbench(*words, "--part", "validation")
    assert outcome.code == 2
    assert "--drop-leaked is for test images" in outcome.err


def test_an_audit_of_another_split_is_not_taken(lmdbench, clinic):
    """The same file name, another content: the fingerprint tells."""
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    assert lmdbench("data", "audit", "folder", *options(clinic)).code == 1
    division = clinic.parent / "torn.csv"
    division.write_text(division.read_text().replace("39.png,test\n", ""))
    run = lmdbench("run", "--method", "ce", "--dataset", "folder", *options(clinic), *small)
    assert run.code == 0, run.err
    outcome = lmdbench("compare", "--drop-leaked", "--results", clinic.parent / "results")
    assert outcome.code == 2
    assert "no audit of folder-clinic file-torn" in outcome.err


def test_every_fold_is_audited(lmdbench, clinic):
    results = ("--results", clinic.parent / "results")
    words = ("data", "audit", "folder", "--data-root", clinic, "--split", "kfold", *results)
    outcome = lmdbench(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("lesions in two parts: none") == 5
    labels = [facts["split"]["label"] for facts in json.loads(lmdbench(*words, "--json").out)]
    assert labels == [f"kfold5-fold{k}" for k in range(5)]
    assert json.loads(lmdbench(*words, "--fold", 1, "--json").out)["split"]["fold"] == 1


def test_a_list_that_was_changed_is_not_trusted(lmdbench, clinic):
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    lmdbench("run", "--method", "ce", "--dataset", "folder", *options(clinic), *small)
    lmdbench("data", "audit", "folder", *options(clinic))
    (leaks,) = clinic.parent.glob("results/*/*/audit-*/leaks.csv")
    leaks.write_text(leaks.read_text().replace("38.png", "39.png"))
    outcome = lmdbench("compare", "--drop-leaked", "--results", clinic.parent / "results")
    assert outcome.code == 2
    assert "leaks.csv: has changed since its audit; do the audit again" in outcome.err
    leaks.with_name("audit.json").write_text('{"format": 1}')
    outcome = lmdbench("compare", "--drop-leaked", "--results", clinic.parent / "results")
    assert outcome.code == 2
    assert "audit.json: damaged, or of another version; do the audit again" in outcome.err
    assert "--near-duplicates" not in outcome.err
    leaks.with_name("near-duplicates.csv").write_text("")
    outcome = lmdbench("compare", "--drop-leaked", "--results", clinic.parent / "results")
    assert "do the audit again, with --near-duplicates" in outcome.err
    assert lmdbench("data", "audit", "folder", *options(clinic)).code == 1
    assert lmdbench("compare", "--drop-leaked", *options(clinic)[-2:]).code == 0


def test_results_that_cannot_be_written_get_one_line(lmdbench, clinic, tmp_path):
    (tmp_path / "file").write_text("")
    words = ("data", "audit", "folder", "--data-root", clinic, "--results", tmp_path / "file")
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert "cannot write in" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.fixture
def copied(clinic: Path) -> Path:
    """The clinic with, in test, a mirrored copy of a training image and the same file under
    another label; nothing is torn."""
    division = clinic.parent / "torn.csv"
    lines = [f"{line}" for line in division.read_text().splitlines() if "36.png" not in line]
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3)).astype(np.uint8))
    original = coarse.resize((96, 96), Image.Resampling.BICUBIC)
    original.save(clinic / "original.png")
    original.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(clinic / "mirrored.jpg", quality=70)
    (clinic / "again.png").write_bytes((clinic / "original.png").read_bytes())
    with (clinic / "labels.csv").open("a") as table:
        table.write("original.png,often,\nmirrored.jpg,often,\nagain.png,seldom,\n")
    lines += ["original.png,train", "mirrored.jpg,test", "again.png,val"]
    division.write_text("\n".join(lines) + "\n")
    return clinic


def test_near_duplicates_are_found_listed_and_drawn(lmdbench, copied):
    words = ("data", "audit", "folder", *options(copied), "--near-duplicates")
    outcome = lmdbench(*words)
    assert outcome.code == 1, outcome.err
    assert "lesions in two parts: none" in outcome.out
    assert "near-duplicate pairs in two parts: 3 (" in outcome.out
    assert "1 of identical files, 2 with two labels; 42 images compared" in outcome.out
    assert "1 files have two labels" in outcome.out
    (folder,) = copied.parent.glob("results/folder-clinic/file-torn/audit-*")
    with (folder / "near-duplicates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["image"], row["part"]) for row in rows} == {
        ("original.png", "train"),
        ("mirrored.jpg", "test"),
        ("again.png", "validation"),
    }
    assert [row["kind"] for row in rows] == ["identical"] * 2 + ["near-duplicate"] * 4
    assert Image.open(folder / "near-duplicates.png").width > 500

    facts = json.loads(lmdbench(*words, "--json").out)
    assert facts["pictures"]["shared"]["test_with_train"] == 1
    assert facts["clean"] is False


def test_what_leaks_by_picture_is_dropped_and_a_later_look_at_the_tables_keeps_it(lmdbench, copied):
    small = ("--backbone", "small", "--image-size", 24, "--set", "epochs=1", "--quiet")
    run = lmdbench("run", "--method", "ce", "--dataset", "folder", *options(copied), *small)
    assert run.code == 0, run.err
    lmdbench("data", "audit", "folder", *options(copied), "--near-duplicates")
    results = ("--results", copied.parent / "results")
    for _ in range(2):
        blocks = json.loads(lmdbench("compare", "--drop-leaked", *results, "--json").out)["blocks"]
        assert blocks[1]["title"].endswith("without the 1 that leak")
        tables_only = lmdbench("data", "audit", "folder", *options(copied))
        assert tables_only.code == 1
        assert "near-duplicate pairs in two parts: 3" in tables_only.out


def test_features_of_a_backbone_search_too(lmdbench, copied):
    words = ("data", "audit", "folder", *options(copied), "--near-duplicates")
    outcome = lmdbench(*words, "--backbone", "efficientnet-lite0", "--device", "cpu", "--json")
    assert outcome.code == 1, outcome.err
    facts = json.loads(outcome.out)["pictures"]
    assert facts["evidence"] == "perceptual hash and features of efficientnet-lite0"
    assert facts["pairs"] == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--backbone", "resnet18"), "--backbone is for --near-duplicates"),
        (("--near-duplicates", "--backbone", "resnet"), "unknown backbone 'resnet'"),
        (("--near-duplicates", "--device", "tpu"), "--device 'tpu'"),
    ],
)
def test_mistakes_get_one_line(lmdbench, clinic, words, problem):
    outcome = lmdbench("data", "audit", "folder", *options(clinic), *words)
    assert outcome.code == 2
    assert problem in outcome.err


def test_pictures_that_are_not_there_stop_it(lmdbench, clinic):
    (clinic / "05.png").unlink()
    words = ("data", "audit", "folder", *options(clinic), "--near-duplicates")
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert "1 of 40 images are missing" in outcome.err
    assert "partial: 39 of 40 images" in lmdbench(*words, "--allow-missing").out
