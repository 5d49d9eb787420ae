"""``lmdbench predict``, through its real entry point."""

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax

from lmdbench.evaluation.predictions import load_predictions, save_predictions
from lmdbench.evaluation.recalibration import fit_temperature

CLASSES = ["dotted", "rare", "round", "striped"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Files without a folder land here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hospital(toy_folder, tmp_path) -> Path:
    """24 images of three of the four classes, in folders of other names."""
    root = tmp_path / "hospital"
    for label, name in (("round", "Round"), ("striped", "stripes"), ("dotted", "dotted")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            shutil.copy(toy_folder / f"{label}-{number}.png", root / name / f"{number}.png")
    return root


MAP = ("--map", "stripes=striped")


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_s_own_test_images_get_the_run_s_own_logits(
    lmdbench, trained_run, toy_folder, tmp_path
):
    """As a table of its own, without parts; from the folder; and as the data set's test part."""
    saved = load_predictions(trained_run / "predictions.npz", ["test"])["test"]
    expected = dict(zip(saved.ids, saved.logits, strict=True))
    for words in (
        (toy_folder,),
        ("folder", "--data-root", toy_folder),
        ("folder", "--data-root", toy_folder, "--part", "all"),
    ):
        found = lmdbench(
            *("predict", trained_run, *words),
            *("--logits", "--output", "own.csv", "--force", "--quiet"),
        )
        assert found.code == 0, found.err
        table = pd.read_csv("own.csv", index_col="image")
        assert set(expected) <= set(table.index)
        logits = table.loc[list(saved.ids), CLASSES].to_numpy(np.float32)
        np.testing.assert_allclose(logits, saved.logits, atol=1e-5)


def test_predictions_are_scored_with_a_metric_that_is_no_percent(
    lmdbench, trained_run, toy_folder, tmp_path
):
    plugin = tmp_path / "surprise.py"
    plugin.write_text(
        "from lmdbench import metrics, register_metric\n\n"
        'register_metric("surprise", title="Surprise", bounds=(0, 99), lower_is_better=True)(\n'
        '    lambda labels, logits: metrics.score("nll", labels, logits)\n)\n'
    )
    outcome = lmdbench(
        *("predict", trained_run, "folder", "--data-root", toy_folder, "--part", "all"),
        *("--plugin", plugin),
    )
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("Surprise ")]
    value, low, high = re.findall(r"\d\.\d{3}\b", line)[:3]
    assert float(low) <= float(value) <= float(high)
    assert "Surprise: no percent" in outcome.out
    assert "95 % of Surprise: by a bootstrap within classes" in outcome.out


def test_an_external_test_set(lmdbench, trained_run, hospital):
    results = trained_run.parents[3]
    identity = json.loads((trained_run / "run.json").read_text())["id"]
    outcome = lmdbench("predict", identity[:8], hospital, *MAP, "--results", results)
    assert outcome.code == 0, outcome.err
    assert "labels taken for classes: Round → round, stripes → striped" in outcome.out
    assert "hospital: 24 images, 24 with a label" in outcome.out
    assert "24 images scored" in outcome.out
    assert "no images of rare: means are over the 3 of 4 classes" in outcome.out
    assert re.search(r"Balanced accuracy +\d+\.\d +\d+\.\d to \d+\.\d +\d+\.\d +24", outcome.out)
    assert "the run was trained on" not in outcome.out
    name = f"ce-{trained_run.name}-on-hospital.csv"
    assert f"predictions: {name}" in outcome.out

    rows = rows_of(name)
    assert list(rows[0]) == ["image", "label", "predicted", "probability", *CLASSES]
    assert len(rows) == 24
    for row in rows:
        probabilities = {label: float(row[label]) for label in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(probabilities, key=probabilities.get)
        assert float(row["probability"]) == max(probabilities.values())
        folder = row["image"].split("/")[0]
        assert row["label"] == {"Round": "round", "stripes": "striped"}.get(folder, folder)

    right = {
        label: [r["predicted"] == label for r in rows if r["label"] == label]
        for label in ("round", "striped", "dotted")
    }
    shown = json.loads(
        lmdbench("predict", identity[:8], hospital, *MAP, "--results", results, "--json").out
    )
    assert shown["file"] is None
    assert len(shown["predictions"]) == 24
    recalls = [np.mean(hits) for hits in right.values()]
    score = shown["scores"]["balanced_accuracy"]
    assert score["value"] == pytest.approx(np.mean(recalls))
    assert score["low"] < score["value"] <= score["high"]
    assert shown["scores"]["recall:rare"] == {
        "value": None,
        "low": None,
        "high": None,
        "images": 0,
        "reason": "the class has no images",
        "own_test": None,
    }


def test_nothing_is_overwritten_unless_forced(lmdbench, trained_run, hospital):
    Path("mine.csv").write_text("precious")
    words = ("predict", trained_run, hospital, *MAP, "--output", "mine.csv")
    refused = lmdbench(*words)
    assert refused.code == 2
    assert "mine.csv is there already; --force replaces it" in refused.err
    assert "predicting" not in refused.err
    assert Path("mine.csv").read_text() == "precious"
    assert lmdbench(*words, "--force").code == 0
    assert len(rows_of("mine.csv")) == 24
    for output, why in (
        (".", "is a folder"),
        ("none/a.csv", "there is no folder none"),
        ("a.png", "--output a.png: give a name that ends in .csv"),
    ):
        outcome = lmdbench(*words[:-1], output)
        assert outcome.code == 2
        assert why in outcome.err


def test_a_run_or_a_file_that_will_not_do_is_told_before_images_are_looked_for(
    lmdbench, trained_run, tmp_path
):
    bare = shutil.copytree(trained_run, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    for words, why in (
        ((trained_run, "--output", "none/a.csv"), "there is no folder none"),
        ((trained_run, "--output", "/proc/a.csv"), "cannot write in /proc"),
        ((bare,), "without its weights"),
    ):
        outcome = lmdbench("predict", words[0], "nowhere", *words[1:])
        assert outcome.code == 2
        assert why in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_few_images_are_printed_and_no_file_is_made(lmdbench, trained_run, toy_folder, tmp_path):
    before = set(tmp_path.iterdir())
    one = lmdbench("predict", trained_run, toy_folder / "round-0.png")
    assert one.code == 0, one.err
    line = next(line for line in one.out.splitlines() if "round-0.png  " in line)
    shown = [float(number) for number in re.findall(r"(\d+\.\d) %", line)]
    assert len(shown) == 3
    assert shown == sorted(shown, reverse=True)
    assert "score" not in one.out
    several = lmdbench("predict", trained_run, *sorted(toy_folder.glob("striped-[0-7].png")))
    assert several.out.count("striped-") == 8
    assert set(tmp_path.iterdir()) == before
    assert lmdbench(
        "predict", trained_run, toy_folder / "round-0.png", "--output", "one.csv"
    ).out.endswith("predictions: one.csv\n")
    (row,) = rows_of("one.csv")
    assert "label" not in row


def test_files_that_are_not_read_are_told(lmdbench, trained_run, hospital):
    (hospital / "Round" / "scan.heic").touch()
    told = f"not read: 1 file in {hospital}: 1 .heic, such as Round/scan.heic; "
    assert told in lmdbench("predict", trained_run, hospital, *MAP, "--output", "a.csv").out
    content = lmdbench("predict", trained_run, hospital, *MAP, "--output", "b.csv", "--json").out
    assert told in json.loads(content)["remarks"][0]


def test_unreadable_images_are_named_and_the_others_predicted(lmdbench, trained_run, hospital):
    (hospital / "Round" / "text.png").write_text("hello")
    (hospital / "Round" / "empty.png").touch()
    outcome = lmdbench("predict", trained_run, hospital, *MAP, "--output", "a.csv")
    assert outcome.code == 1
    assert "2 of 26 images can't be read: Round/empty.png (empty file), Round/text.png" in (
        outcome.err
    )
    assert "24 images scored" in outcome.out
    rows = {row["image"]: row for row in rows_of("a.csv")}
    assert rows["Round/text.png"]["error"] == "not an image"
    assert rows["Round/text.png"]["label"] == "round"
    assert rows["Round/text.png"]["predicted"] == rows["Round/text.png"]["rare"] == ""
    assert rows["Round/0.png"]["error"] == ""
    nothing = lmdbench("predict", trained_run, hospital / "Round" / "text.png")
    assert nothing.code == 2
    assert "none of the images can be read: " in nothing.err
    assert len(nothing.err.splitlines()) <= 2  # the progress, and the reason


@pytest.fixture
def odd(tmp_path) -> Path:
    """A folder of pictures as clinics have them, beside what only looks like pictures."""
    folder = tmp_path / "odd"
    folder.mkdir()
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    wide.save(folder / "plain.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown, it is turned by 90° clockwise
    wide.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    grey = wide.convert("L")
    grey.save(folder / "grey.png")
    deep = np.asarray(grey, dtype=np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep / np.float32(65535)).save(folder / "float.tif")
    wide.convert("CMYK").save(folder / "cmyk.tif")
    still = wide.convert("P")
    still.save(folder / "still.gif")
    others = [Image.new("P", still.size) for _ in range(3)]
    still.save(folder / "animated.gif", save_all=True, append_images=others)
    Image.new("RGB", (30_000, 4), (200, 0, 0)).save(folder / "long.png")
    Image.new("RGB", (3, 4), (200, 0, 0)).save(folder / "short.png")
    wide.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("the report is in the other folder")
    return folder


def test_odd_pictures_are_read_as_they_look_and_what_is_none_is_told(lmdbench, trained_run, odd):
    found = lmdbench("predict", trained_run, odd, "--output", "odd.csv", "--quiet")
    rows = {row["image"]: row for row in rows_of("odd.csv")}
    why = {image: row["error"] for image, row in rows.items() if row["error"]}
    assert why.pop("cut.jpg").startswith("image file is truncated")
    assert why == {
        "empty.jpg": "empty file",
        "float.tif": "floats of unknown range",
        "text.jpg": "not an image",
    }
    assert found.code == 1
    assert len(found.err.splitlines()) == 1
    assert "4 of 13 images can't be read: cut.jpg (" in found.err
    for one, same in (
        ("turned.png", "plain.png"),
        ("cmyk.tif", "plain.png"),
        ("deep.png", "grey.png"),
        ("animated.gif", "still.gif"),
        ("long.png", "short.png"),
    ):
        mine, theirs = ([float(rows[x][c]) for c in CLASSES] for x in (one, same))
        np.testing.assert_allclose(mine, theirs, atol=1e-6, err_msg=one)
    assert "1 picture of more than 8 bits holds values from" in found.out
    assert "1 picture of floats can't be read, as the run was trained on none" in found.out
    assert "of which the first is read: animated.gif" in found.out


def test_labels_without_a_class_are_counted_and_not_scored(lmdbench, trained_run, hospital):
    words = ("predict", trained_run, hospital, "--output", "a.csv")
    ignored = lmdbench(*words)
    assert ignored.code == 0, ignored.err
    assert (
        "predicted but not scored, as the run has no such class: stripes (8 images; striped?); "
        "--map 'stripes=striped' says otherwise" in ignored.out
    )
    assert "16 images scored" in ignored.out
    assert [row["label"] for row in rows_of("a.csv")].count("stripes") == 8
    unlabelled = lmdbench(*words, "--unlabelled", "--force")
    assert unlabelled.code == 0
    assert "scored" not in unlabelled.out
    assert "label" not in rows_of("a.csv")[0]
    assert re.search(r"striped +8 +\d+\n", unlabelled.out)  # class, trained on, predicted


def test_no_label_is_a_class(lmdbench, trained_run, hospital):
    for name in ("Round", "dotted"):
        shutil.rmtree(hospital / name)
    refused = lmdbench("predict", trained_run, hospital)
    assert refused.code == 2
    assert "none of the labels is a class of the run: stripes (8 images; striped?)" in refused.err
    outcome = lmdbench("predict", trained_run, hospital, "--ignore-unknown")
    assert outcome.code == 0
    assert "not scored: no image that can be read has a label that is a class" in outcome.out


def test_images_the_run_may_have_seen(lmdbench, trained_run, toy_folder, tmp_path):
    own = ("predict", trained_run, "folder", "--data-root", toy_folder)
    assert "trained on some of these" not in lmdbench(*own).out
    trained = lmdbench(*own, "--part", "train", "--output", "t.csv")
    assert "the run was trained on some of these images: scores are too good" in trained.out
    fold = ("--split", "kfold", "--folds", 2, "--fold", 0)
    other = lmdbench(*own, *fold, "--output", "o.csv")
    assert "another split of it or all" in other.out
    assert "the run was trained" not in lmdbench("predict", trained_run, toy_folder).out
    whole = lmdbench("predict", trained_run, toy_folder, "--part", "all", "--output", "w.csv")
    assert "another split of it or all" in whole.out
    shown = json.loads(lmdbench(*own, "--part", "train", "--json").out)
    assert "too good" in shown["warning"]


def test_images_the_run_may_have_seen_are_told_by_the_names_of_its_own(
    lmdbench, trained_run, toy_folder, tmp_path
):
    """Of a data set of another name: some, all, and none of the run's test images."""
    test = load_predictions(trained_run / "predictions.npz", ["test"])["test"].ids
    copy = tmp_path / "copy"
    copy.mkdir()
    for image in test[:3]:
        shutil.copy(toy_folder / image, copy / image)
    warning = "of these images are named as validation or test images of the run"
    assert warning not in lmdbench("predict", trained_run, copy).out
    for number in range(2):
        shutil.copy(toy_folder / test[0], copy / f"{number}.png")
    assert f"3 {warning}" in lmdbench("predict", trained_run, copy).out
    assert (
        f"3 {warning}"
        in json.loads(lmdbench("predict", trained_run, copy, "--json").out)["warning"]
    )


def test_a_stray_image_beside_the_classes_is_told(lmdbench, trained_run, hospital):
    shutil.copy(hospital / "dotted" / "0.png", hospital / "preview.png")
    said = "preview.png lies beside the sub-folders, so their names are not taken as labels"
    outcome = lmdbench("predict", trained_run, hospital, "--output", "a.csv")
    assert outcome.code == 0, outcome.err
    assert said in outcome.out
    assert json.loads(lmdbench("predict", trained_run, hospital, "--json").out)["note"] == said


def test_synthetic_and_partial_are_said(lmdbench, trained_run, hospital, tmp_path, rewrite_record):
    copy = shutil.copytree(trained_run, tmp_path / "run")
    words = {"synthetic": True, "partial": {"missing": 1, "total": 5}}
    rewrite_record(copy, lambda record: record.update(words))
    out = lmdbench("predict", copy, hospital, *MAP, "--quiet").out
    assert "on part of its images, synthetic images" in out


def test_a_column_is_not_taken_twice(lmdbench, tmp_path, toy_folder):
    """A class called as a column of the file is."""
    rows = (toy_folder / "labels.csv").read_text().replace(",rare,", ",label,")
    data = shutil.copytree(toy_folder, tmp_path / "named")
    (data / "labels.csv").write_text(rows)
    words = ("--dataset", "folder", "--data-root", data, "--backbone", "small")
    assert (
        lmdbench(*("run", "--method", "ce", *words, "--image-size", 24, "--set", "epochs=1")).code
        == 0
    )
    (done,) = tmp_path.glob("results/*/*/ce/seed*/done")
    assert lmdbench("predict", done.parent, data, "--output", "a.csv").code == 0
    assert "class label" in rows_of("a.csv")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nonsense", "x"), "nonsense: neither a run directory nor the id"),
        (("RUN", "nowhere"), "nowhere: no such file or folder"),
        (("RUN", "TOY", "--map", "stripes=striped"), "--map: unknown label 'stripes'"),
        (("RUN", "TOY", "--unlabelled", "--map", "a=b"), "--unlabelled takes no labels, and --map"),
        (("RUN", "TOY", "--unlabelled", "--ignore-unknown"), "and --ignore-unknown is about"),
        (("RUN", "TOY", "--logits", "--json"), "--logits is about the file: ask for one"),
        (("RUN", "TOY", "--device", "cuda:99"), "this machine shows"),
        (("RUN", "TOY", "--split", "kfold"), "say which with --fold"),
        (("RUN", "TOY", "--batch-size", "0"), "--batch-size"),
        (("RUN",), "Missing argument"),
    ],
)
def test_mistakes_are_told_in_one_line(lmdbench, trained_run, toy_folder, words, message):
    words = [{"RUN": trained_run, "TOY": toy_folder}.get(word, word) for word in words]
    outcome = lmdbench("predict", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def start(words, **options):
    command = [sys.executable, "-m", "lmdbench", "predict", *map(str, words)]
    return subprocess.Popen(command, **options)


def many(folder: Path, images: int) -> Path:
    folder.mkdir()
    Image.new("RGB", (24, 24)).save(folder / "0.png")
    for number in range(1, images):
        os.link(folder / "0.png", folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_no_file(trained_run, copies, tmp_path, number):
    folder = many(tmp_path / "many", 30_000)
    words = (trained_run, folder, "--batch-size", 8, "--output", tmp_path / "out.csv")
    process = copies.popen(
        [sys.executable, "-m", "lmdbench", "predict", *words], stderr=subprocess.PIPE, text=True
    )
    while "predicting" not in process.stderr.readline():
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().endswith("lmdbench: interrupted")
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]


def test_a_bar_with_the_time_left_on_a_terminal(trained_run, tmp_path, read_terminal):
    folder = many(tmp_path / "many", 500)
    ours, theirs = pty.openpty()
    process = start(
        (trained_run, folder, "--batch-size", 20, "--output", tmp_path / "out.csv"),
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    seen = read_terminal(ours).decode()
    assert process.wait(60) == 0
    assert "predicting" in seen
    assert "left" in seen
    assert "100%" in seen


def test_real_photographs(lmdbench, trained_run, test_data):
    photos = sorted((test_data / "isic2019" / "ISIC_2019_Training_Input").glob("*.jpg"))[:30]
    outcome = lmdbench("predict", trained_run, *photos, "--output", "photos.csv")
    assert outcome.code == 0, outcome.err
    assert [row["image"] for row in rows_of("photos.csv")] == list(map(str, photos))


def test_how_many_look_unlike_is_told_where_validation_images_allow_it(
    lmdbench, trained_run, toy_folder, tmp_path, rewrite_record
):
    run = tmp_path / "copy"
    shutil.copytree(trained_run, run)
    words = ("predict", run, toy_folder / "round-0.png", toy_folder / "rare-0.png")
    assert "not told, as it keeps no 20 validation images" in lmdbench(*words).out
    parts = load_predictions(run / "predictions.npz", ["validation", "test"])
    own = parts["validation"]
    many = own.of(np.arange(40) % len(own))
    save_predictions(run / "predictions.npz", {"validation": many, "test": parts["test"]})
    os.utime(run / "predictions.npz", (0, 0))  # as if the run had been done with these
    rewrite_record(run)
    found = json.loads(lmdbench(*words, "--json").out)["unlike"]
    assert found["of"] == 2
    assert 0 <= found["images"] <= 2
    told = f"{found['images']} of 2 images look unlike the run's: their features are farther"
    assert told in lmdbench(*words).out
    assert found["by"] == "features"
    assert (run / "likeness.npz").is_file()


def test_calibrated_probabilities_are_those_of_the_run_s_own_temperature(
    lmdbench, trained_run, toy_folder
):
    """Of its own test images: softmax(logits / T) · new share / validation share, and the same
    classes without a prior; the fit is told."""
    parts = load_predictions(trained_run / "predictions.npz")
    test, validation = parts["test"], parts["validation"]
    temperature = fit_temperature(validation.labels, validation.logits)
    old = np.bincount(validation.labels, minlength=4) / len(validation)
    chances = softmax(test.logits.astype(float) / temperature, axis=1)
    new = np.array([0.1, 0.2, 0.3, 0.4])
    shifted = chances * new / old
    shifted /= shifted.sum(axis=1, keepdims=True)
    for words, expected in (((), chances), (("--prior", "0.1,0.2,0.3,0.4"), shifted)):
        found = lmdbench(
            *("predict", trained_run, toy_folder, "--calibrate", "temperature", *words),
            *("--output", "own.csv", "--force", "--quiet"),
        )
        assert found.code == 0, found.err
        assert f"temperature {temperature:.3g}" in found.out
        assert f"fitted on the run's {len(validation)} validation images" in found.out
        given = pd.read_csv("own.csv", index_col="image").loc[list(test.ids)]
        np.testing.assert_allclose(given[CLASSES].to_numpy(), expected, atol=1e-5)
        assert given["predicted"].tolist() == [CLASSES[k] for k in expected.argmax(axis=1)]
    found = lmdbench(
        *("predict", trained_run, toy_folder, "--prior", "uniform", "--json", "--quiet")
    )
    told = json.loads(found.out)["calibration"]
    assert (told["temperature"], told["prior"]) == (None, "uniform")
    wrong = lmdbench("predict", trained_run, toy_folder, "--prior", "0.5,0.5")
    assert wrong.code != 0
    assert wrong.err.count("\n") == 1
    assert "2 shares for 4 classes (dotted, rare, round, striped)" in wrong.err


def test_own_test_scores_are_calibrated_like_those_beside_them(lmdbench, trained_run, toy_folder):
    words = "predict", trained_run, "folder", "--data-root", toy_folder, "--prior", "uniform"
    scores = json.loads(lmdbench(*words, "--json", "--quiet").out)["scores"]
    assert scores["balanced_accuracy"]["value"] == pytest.approx(
        scores["balanced_accuracy"]["own_test"]
    )
