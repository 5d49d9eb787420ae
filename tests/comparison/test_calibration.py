"""Tables of calibrated runs: what is fitted on what, what changes, and what is said of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from lmdbench.comparison import frames
from lmdbench.comparison.compare import compare
from lmdbench.comparison.outcomes import calibrators, outcomes, predictions_of
from lmdbench.comparison.results import read_results
from lmdbench.comparison.samples import Sample
from lmdbench.core.errors import UserError
from lmdbench.evaluation.predictions import load_predictions, save_predictions
from lmdbench.evaluation.recalibration import Calibration, fit_temperature
from lmdbench.reporting.tables import csv_text, json_text

SCALED = Calibration(temperature=True)
METRICS = ("balanced_accuracy", "macro_f1", "nll", "brier", "tail")


@pytest.fixture
def table(tmp_path):
    def made(**words):
        (found,) = compare(read_results(tmp_path / "results"), names=METRICS, **words).tables
        return found

    return made


def rewrite(directory, part, change):
    parts = load_predictions(directory / "predictions.npz")
    parts[part] = change(parts[part])
    save_predictions(directory / "predictions.npz", parts)


def means(table, label="ce"):
    (row,) = [row for row in table.rows if row.label == label]
    return {name: cell.mean for name, cell in row.cells.items()}


def test_each_run_is_scaled_by_the_temperature_of_its_own_validation_images(fake_run, table):
    runs = [fake_run("ce", seed, skill=2.0) for seed in (0, 1)]
    found = table(calibration=SCALED)
    (row,) = found.rows
    for seed, directory in enumerate(runs):
        parts = load_predictions(directory / "predictions.npz")
        validation, test = parts["validation"], parts["test"]
        temperature = fit_temperature(validation.labels, validation.logits)
        (fit,) = row.fits[seed]
        assert (fit.temperature, fit.images) == (temperature, 14)
        logs = log_softmax(test.logits.astype(float) / temperature, axis=1)
        nll = -logs[np.arange(len(test)), test.labels].mean()
        assert row.cells["nll"].values[seed] == pytest.approx(nll)
        seen = outcomes(found, row)
        order = np.argsort(test.ids, kind="stable")
        np.testing.assert_allclose(seen.logits[seed], logs[order])


def test_a_temperature_changes_probabilities_and_no_predicted_class(fake_run, table):
    fake_run("ce", skill=2.0)
    plain, scaled = means(table()), means(table(calibration=SCALED))
    for name in ("balanced_accuracy", "macro_f1", "tail"):
        assert scaled[name] == plain[name]
    for name in ("nll", "brier"):
        assert scaled[name] != plain[name]


def test_test_labels_and_logits_have_no_part_in_the_temperature(fake_run, table):
    directory = fake_run("ce", skill=2.0)
    before = table(calibration=SCALED)
    rng = np.random.default_rng(0)
    rewrite(directory, "test", lambda p: replace(p, labels=rng.permutation(p.labels)))
    permuted = table(calibration=SCALED)
    assert permuted.rows[0].fits == before.rows[0].fits
    assert means(permuted)["nll"] != means(before)["nll"]
    rewrite(directory, "test", lambda p: replace(p, logits=p.logits * 7))
    assert table(calibration=SCALED).rows[0].fits == before.rows[0].fits
    rewrite(directory, "validation", lambda p: replace(p, logits=p.logits * 7))
    (changed,) = table(calibration=SCALED).rows[0].fits[0]
    assert changed.temperature == pytest.approx(7 * before.rows[0].fits[0][0].temperature, rel=1e-5)


def test_a_prior_is_changed_from_that_of_the_validation_images(fake_run, table):
    directory = fake_run("ce", skill=2.0)
    test = load_predictions(directory / "predictions.npz")["test"]
    old = np.array([6, 4, 3, 1]) / 14
    for prior, new in (
        ("uniform", np.full(4, 0.25)),
        ("test", np.array([30, 12, 6, 2]) / 50),
        ((0.4, 0.3, 0.2, 0.1), np.array([0.4, 0.3, 0.2, 0.1])),
    ):
        chances = softmax(test.logits.astype(float), axis=1) * new / old
        chances /= chances.sum(axis=1, keepdims=True)
        found = means(table(calibration=Calibration(prior=prior)))
        assert found["nll"] == pytest.approx(
            -np.log(chances[np.arange(len(test)), test.labels]).mean()
        )
        right = chances.argmax(axis=1) == test.labels
        recalls = np.bincount(test.labels, right) / np.bincount(test.labels)
        assert found["balanced_accuracy"] == pytest.approx(recalls.mean())


def test_a_table_says_what_was_done(fake_run, table):
    for seed in (0, 1):
        fake_run("ce", seed, skill=2.0)
    plain = table()
    assert not any("temperature" in note or "Saerens" in note for note in plain.notes)
    found = table(calibration=replace(SCALED, prior="uniform"))
    assert found.title == plain.title + " · temperature-scaled · prior uniform"
    low, high = sorted(fit.temperature for (fit,) in found.rows[0].fits)
    (note,) = [note for note in found.notes if "Guo" in note]
    assert "fitted on its 14 validation images" in note
    assert f"ce {low:.2f} to {high:.2f}. Intervals take it as given." in note
    (note,) = [note for note in found.notes if "Saerens" in note]
    assert "to equal shares" in note
    assert not any("no predicted class" in note for note in found.notes)
    (note,) = [n for n in table(calibration=SCALED).notes if "no predicted class" in n]
    assert "so not Balanced accuracy, Macro F1 and" not in note
    assert "Balanced accuracy, Macro F1, tail" in note.replace("Tail", "tail")


def test_csv_and_json_say_it(fake_run, tmp_path):
    for seed in (0, 1):
        fake_run("ce", seed, skill=2.0)
    results = read_results(tmp_path / "results")
    plain = compare(results)
    assert "temperatures" not in csv_text(plain)
    assert json.loads(json_text(plain))["blocks"][0]["calibration"] is None
    found = compare(
        results, calibration=Calibration(True, {"nv": 1, "mel_a": 0, "bcc": 0, "df": 0})
    )
    temperatures = [fit.temperature for (fit,) in found.tables[0].rows[0].fits]
    frame = found.frame()
    assert set(frame["calibration"]) == {"temperature"}
    assert set(frame["prior"]) == {"nv=1,mel_a=0,bcc=0,df=0"}
    assert set(frame["temperatures"]) == {" ".join(f"{t:.4g}" for t in temperatures)}
    images = found.images()
    assert images["p:nv"].tolist() == [1] * len(images)
    (block,) = json.loads(json_text(found))["blocks"]
    assert block["calibration"]["temperature"] is True
    assert [run["fit"]["temperature"] for run in block["rows"][0]["runs"]] == temperatures


def test_a_run_without_validation_predictions_is_named_and_nothing_is_made(fake_run, table):
    fake_run("ce")
    lacking = fake_run(
        "crt",
        record={"class_counts": {"train": [1] * 4, "validation": [0] * 4, "test": [30, 12, 6, 2]}},
    )
    rewrite(lacking, "validation", lambda p: p.of(np.arange(0)))
    table()
    for asked in (SCALED, Calibration(prior="uniform")):
        with pytest.raises(UserError, match=f"{lacking} has no predictions of validation images"):
            table(calibration=asked)


def test_validation_images_are_not_scored_by_what_was_fitted_on_them(fake_run, table):
    fake_run("ce")
    with pytest.raises(UserError, match="leave --part out"):
        table(calibration=SCALED, part="validation")


def test_a_prior_of_other_classes_names_the_data_set(fake_run, table):
    fake_run("ce")
    with pytest.raises(UserError, match=r"^skin: --prior: 2 shares for 4 classes"):
        table(calibration=Calibration(prior=(0.5, 0.5)))


def test_a_temperature_at_its_bound_and_none_at_all_are_said(fake_run, table):
    separated, broken = fake_run("ce"), fake_run("crt")
    rewrite(separated, "validation", lambda p: replace(p, logits=9 * np.eye(4)[p.labels]))
    rewrite(broken, "validation", lambda p: replace(p, logits=np.full_like(p.logits, np.nan)))
    found = table(calibration=SCALED)
    assert any("bound of 0.05 or 20" in n and n.endswith(": ce.") for n in found.notes)
    assert any(n.startswith("No temperature") and n.endswith(": crt.") for n in found.notes)
    assert means(found, "crt")["nll"] is None


def test_own_classes_of_probability_0_are_left_out_and_said(fake_run, table):
    directory = fake_run("ce")
    fake_run("ce", 1)

    def ruled_out(part):
        logits = part.logits.copy()
        logits[0, part.labels[0]] = -np.inf
        return replace(part, logits=logits)

    rewrite(directory, "validation", ruled_out)
    found = table(calibration=SCALED)
    assert found.rows[0].fits[0][0].impossible == 1
    assert any("probability 0 are left out of its fit: ce (seed 0)." in n for n in found.notes)


def test_each_fold_has_a_temperature_of_its_own(fake_run, tmp_path):
    for fold in (0, 1):
        fake_run(
            "ce",
            images=[f"{fold}-{n}" for n in range(50)],
            split={
                "name": "kfold",
                "seed": 42,
                "imbalance_factor": None,
                "fingerprint": str(fold) * 64,
                "folds": 2,
                "fold": fold,
                "division": "d",
            },
            record={"split_label": f"kfold2-fold{fold}"},
        )
    second = next(tmp_path.glob("results/*/kfold2-fold1/ce/*"))
    rewrite(second, "validation", lambda p: replace(p, logits=p.logits * 2))
    asked = Calibration(True, "test")
    (found,) = compare(read_results(tmp_path / "results"), calibration=asked).tables
    (run,) = found.rows[0].runs
    first, other = found.rows[0].fits[0]
    assert other.temperature == pytest.approx(2 * first.temperature, rel=1e-5)
    assert found.title.startswith("skin · kfold2 · test images")
    temperatures = f"{first.temperature:.4g}/{other.temperature:.4g}"
    assert set(frames.scores([found])["temperatures"]) == {temperatures}
    by_hand = np.concatenate(
        [
            calibrator(predictions_of(member, "test").logits)
            for member, calibrator in zip(run.members, calibrators(run, asked), strict=True)
        ]
    )
    calibrated = predictions_of(run, "test", Sample(calibration=asked)).logits
    np.testing.assert_array_equal(calibrated, by_hand)
    np.testing.assert_allclose(
        calibrators(run, asked)[0].shift,
        np.log(np.array([30, 12, 6, 2]) / 50) - np.log(np.array([6, 4, 3, 1]) / 14),
    )


def test_logits_that_stand_for_another_prior_are_told(fake_run, table):
    """Of ce, the mean probabilities are the shares of the validation images; of crt, equal."""
    fits, balanced = fake_run("ce"), fake_run("crt")
    shares = np.log(np.array([6, 4, 3, 1]) / 14)
    rewrite(fits, "validation", lambda p: replace(p, logits=np.tile(shares, (14, 1))))
    rewrite(balanced, "validation", lambda p: replace(p, logits=np.zeros((14, 4))))
    found = table(calibration=Calibration(prior="uniform"))
    by_label = {row.label: row.fits[0][0] for row in found.rows}
    assert by_label["ce"].gap == pytest.approx(0, abs=1e-6)
    assert by_label["crt"].gap == pytest.approx(6 / 14 - 1 / 4)
    assert any("ce 0.0, crt 17.9." in note for note in found.notes)
    (note,) = [note for note in found.notes if note.startswith("NOT under the new prior")]
    assert "(by more than 10 points): crt. --calibrate bcts" in note
    found = table(calibration=Calibration(True, "uniform", bias=True))
    by_label = {row.label: row.fits[0][0] for row in found.rows}
    assert by_label["crt"].gap == pytest.approx(0, abs=1e-6)
    assert by_label["crt"].bias == pytest.approx(list(shares - shares.mean()), abs=1e-5)
    assert not any(note.startswith("NOT under") for note in found.notes)
    assert "temperature-scaled with biases" in found.title
    assert any("a bias of each class is added" in note for note in found.notes)
