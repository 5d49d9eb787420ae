"""Scores of lesions, patients and subgroups, by the tables of one's own and of real data sets."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, recall_score

import lmdbench
from lmdbench.comparison.compare import Comparison
from lmdbench.core.errors import UserError
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation.predictions import load_predictions, save_predictions

CLASSES = ["nv", "mel_a", "bcc", "df"]
LABELS = np.repeat(np.arange(4), [12, 8, 6, 4])
IMAGES = [f"photos/{n}.png" for n in range(len(LABELS))]
LOGITS = {
    (method, seed): np.random.default_rng([seed, len(method)]).normal(size=(len(LABELS), 4))
    + skill * np.eye(4)[LABELS]
    for method, skill in (("ce", 1.0), ("lmd", 2.0))
    for seed in (0, 1)
}
SEX = np.array(["female", "male", ""])[np.arange(len(LABELS)) % 3]
AGE = np.array(["35", "50.0", "71", "64"])[np.arange(len(LABELS)) % 4]
LESION = np.array([f"L{n // 2}" for n in range(len(LABELS))])


@pytest.fixture
def clinic(fake_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Runs of two methods and two seeds on images of one's own, and their table: returns the folder
    of that. ``units``: recorded with the predictions."""

    def make(units: Sequence[str] | None = None, **columns: Sequence[str]) -> Path:
        root = tmp_path / "clinic"
        root.mkdir()
        table = {"image": IMAGES, "label": [CLASSES[k] for k in LABELS], **columns}
        with (root / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        for (method, seed), logits in LOGITS.items():
            directory = fake_run(
                method,
                seed,
                test=(LABELS, logits),
                images=IMAGES,
                dataset="folder",
                results_name="folder-clinic",
            )
            if units is not None:
                parts = load_predictions(directory / "predictions.npz")
                parts["test"] = replace(parts["test"], units=np.array(units))
                save_predictions(directory / "predictions.npz", parts)
        return root

    return make


def compared(tmp_path: Path, root: Path | None = None, **options: Any) -> Comparison:
    return lmdbench.compare(tmp_path / "results", data_root=root, **options)


def chances(method: str, seed: int) -> np.ndarray:
    powers = np.exp(LOGITS[method, seed].astype(np.float32).astype(float))
    return powers / powers.sum(axis=1, keepdims=True)


def test_subgroups_have_the_scores_of_their_images(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    (table,) = compared(tmp_path, clinic(sex=SEX), by="sex").tables
    (by_sex,) = table.subgroups
    assert (by_sex.by, by_sex.column) == ("sex", "sex")
    assert [part.name for part in by_sex.parts] == ["female", "male", "not recorded"]
    for part, value in zip(by_sex.parts, ["female", "male", ""], strict=True):
        chosen = value == SEX
        assert part.table.images["test"]["all"] == chosen.sum()
        for row in part.table.rows:
            expected = [
                balanced_accuracy_score(
                    LABELS[chosen], LOGITS[row.method, seed][chosen].argmax(axis=1)
                )
                for seed in (0, 1)
            ]
            cell = row.cells["balanced_accuracy"]
            assert cell.values == pytest.approx(expected)
            assert cell.n == chosen.sum()
            assert cell.estimate is not None
            assert cell.estimate.low < cell.estimate.value < cell.estimate.high


def test_differences_within_subgroups_are_told_and_not_tested(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    comparison = compared(tmp_path, clinic(sex=SEX), by="sex")
    (table,) = comparison.tables
    for part in table.subgroups[0].parts:
        ce, lmd = part.table.rows
        cell = ce.cells["balanced_accuracy"]
        assert cell.difference is not None
        mean = lmd.cells["balanced_accuracy"].mean
        assert cell.difference.value == pytest.approx(cell.mean - mean)
        assert math.isnan(cell.difference.p)
        assert (cell.p_corrected, cell.mark, cell.best) == (None, "", False)
    assert table.rows[0].cells["balanced_accuracy"].p_corrected is not None
    frame = comparison.frame()
    lines = frame[frame["kind"] == "subgroup"]
    assert set(lines["by"]) == {"sex"}
    assert set(lines["subgroup"]) == {"female", "male", "not recorded"}
    assert lines["p"].isna().all()
    one = lines[(lines["subgroup"] == "male") & (lines["metric"] == "accuracy")]
    assert one["label"].tolist() == ["ce", "lmd"]
    assert one["n_images"].tolist() == [10, 10]


def test_a_subgroup_without_a_class_says_so(clinic: Callable[..., Path], tmp_path: Path) -> None:
    site = np.where(LABELS == 3, "face", "arm")
    site[0] = "face"
    (table,) = compared(tmp_path, clinic(localization=site), by="site").tables
    (by_site,) = table.subgroups
    assert by_site.column == "localization"
    assert by_site.lacking == (
        "arm: no test images of df; averages over classes are over the other 3.",
        "face: no test images of mel_a, bcc; averages over classes are over the other 2.",
        "Averages over other classes are not to be compared between subgroups.",
    )
    arm, face = (part.table.rows[0].cells for part in by_site.parts)
    assert arm["tail"].mean is None
    assert arm["tail"].reason
    right = LOGITS["ce", 0].argmax(axis=1) == LABELS
    assert face["balanced_accuracy"].values[0] == pytest.approx(
        (right[0] + right[LABELS == 3].mean()) / 2
    )


def test_ages_in_bands_and_several_columns(clinic: Callable[..., Path], tmp_path: Path) -> None:
    root = clinic(sex=SEX, Age=AGE)
    (table,) = compared(tmp_path, root, by=["sex", "age"]).tables
    assert [s.by for s in table.subgroups] == ["sex", "age"]
    sizes = {p.name: p.table.images["test"]["all"] for p in table.subgroups[1].parts}
    assert sizes == {"0–39": 8, "40–59": 8, "60+": 14}
    (table,) = compared(tmp_path, root, by="age", bands=[65]).tables
    assert [part.name for part in table.subgroups[0].parts] == ["0–64", "65+"]


def test_lesions_are_scored_beside_images(clinic: Callable[..., Path], tmp_path: Path) -> None:
    comparison = compared(tmp_path, clinic(lesion_id=LESION), unit="lesion", metrics=["accuracy"])
    images, lesions = comparison.tables
    assert images.title.endswith("test images")
    assert lesions.title.endswith("test lesions")
    for row in lesions.rows:
        expected = []
        for seed in (0, 1):
            pairs = chances(row.method, seed).reshape(15, 2, 4).mean(axis=1)
            expected.append((pairs.argmax(axis=1) == LABELS[::2]).mean())
        assert row.cells["accuracy"].values == pytest.approx(expected)
        assert row.cells["accuracy"].n == 15
    assert any(
        "column lesion_id of its table says; 15 lesions of 30 images." in n for n in lesions.notes
    )
    assert any("paired by lesion and seed" in note for note in lesions.notes)
    assert any("unit of resampling: the lesion." in note for note in lesions.notes)
    frame = comparison.frame()
    assert set(frame[frame["scored"] == "image"]["n_images"]) == {30}
    assert frame[frame["scored"] == "lesion"]["n_images"].isna().all()
    assert set(frame[frame["scored"] == "lesion"]["n_lesions"]) == {15}
    assert len(comparison.images()) == 2 * 4 * 30  # of each table and run, an image a row


def test_lesions_of_different_classes_and_those_of_one_patient(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    lesion = np.array(
        [f"L{(n + 1) // 2}" for n in range(30)]
    )  # L10 and L13 are of two classes, L6 of two patients
    lesion[-2:] = ""
    patient = np.array([f"P{n // 6}" for n in range(30)])
    root = clinic(lesion=lesion, patient_id=patient)
    _, lesions = compared(tmp_path, root, unit="lesion").tables
    told = " ".join(lesions.notes)
    assert "2 images without a known lesion each stand alone" in told
    assert "2 lesions have images of different classes" in told
    assert "5 patients: lesions of one are resampled together." in told
    assert "unit of resampling: the patient, known for" in told
    assert lesions.grouped == lesions.images["test"]["all"]


def test_recorded_units_do_without_a_table(clinic: Callable[..., Path], tmp_path: Path) -> None:
    clinic(units=LESION)
    _, lesions = compared(tmp_path, unit="lesion").tables
    assert lesions.images["test"]["all"] == 15
    assert any("as recorded with the predictions; whether" in note for note in lesions.notes)


def test_units_of_one_image_need_no_second_table(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    root = clinic(patient=[f"P{n}" for n in range(30)])
    (table,) = compared(tmp_path, root, unit="patient").tables
    assert "Every patient has one test image: scores per patient are these." in table.notes


def test_subgroups_of_lesions(clinic: Callable[..., Path], tmp_path: Path) -> None:
    root = clinic(lesion_id=LESION, sex=SEX)
    _, lesions = compared(tmp_path, root, unit="lesion", by="sex").tables
    (by_sex,) = lesions.subgroups
    assert [part.table.images["test"]["all"] for part in by_sex.parts] == [10, 10, 10]
    assert by_sex.notes[-1] == (
        "A lesion with images in several subgroups is scored in each by its images there: 15 more "
        "in all."
    )


def test_what_no_table_knows_is_refused_in_one_line(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    root = clinic(sex=SEX, lesion=LESION)
    with pytest.raises(UserError, match=r"'sexx'\. Did you mean sex\? Known: label, sex, lesion\."):
        compared(tmp_path, root, by="sexx")
    with pytest.raises(UserError, match="the table of folder-clinic is needed; give --data-root"):
        compared(tmp_path, by="sex")
    with pytest.raises(UserError, match=r"no patient is recorded .* column patient or patient_id"):
        compared(tmp_path, root, unit="patient")
    with pytest.raises(UserError, match=r"unknown unit 'lesions'\. Did you mean lesion"):
        compared(tmp_path, root, unit="lesions")
    with pytest.raises(UserError, match="of --by sex that is none"):
        compared(tmp_path, root, by="sex", bands=[40])
    with pytest.raises(UserError, match="name it, as in --by age"):
        compared(tmp_path, root, bands=[40])
    other = tmp_path / "other"
    root.rename(other)
    with pytest.raises(UserError, match="holds folder-other, not folder-clinic"):
        compared(tmp_path, other, by="sex")


def test_a_table_that_lacks_the_column_is_noted_where_another_has_it(
    clinic: Callable[..., Path], fake_run: Callable[..., Path], tmp_path: Path
) -> None:
    root = clinic(sex=SEX)
    fake_run("ce", dataset="elsewhere")
    told: list[str] = []
    tables = compared(tmp_path, root, by="sex", say=told.append).tables
    assert [len(table.subgroups) for table in tables] == [0, 1]
    assert any(note.startswith("No subgroups by sex: unknown data set") for note in tables[0].notes)
    assert any("unknown data set 'elsewhere'" in line for line in told)


def test_tables_without_leaked_images_are_divided_too(
    clinic: Callable[..., Path], tmp_path: Path
) -> None:
    from lmdbench.comparison.columns import Tables
    from lmdbench.comparison.compare import compare
    from lmdbench.comparison.divided import Further
    from lmdbench.comparison.results import read_results

    root = clinic(lesion_id=LESION, sex=SEX)
    leaks = Leaks(frozenset(IMAGES[:2]), ())
    further = Further(Tables(root, tmp_path / "cache"), "lesion", ("sex",))
    found = compare(read_results(tmp_path / "results"), leaked=lambda _: leaks, further=further)
    assert [table.dropped for table in found.tables] == [None, None, 2, 2]
    sizes = [table.images["test"]["all"] for table in found.tables]
    assert sizes == [30, 15, 28, 14]
    _, _, images, _ = found.tables
    assert [p.table.images["test"]["all"] for p in images.subgroups[0].parts] == [9, 9, 10]


def test_the_real_table_of_isic_2019(
    fake_run: Callable[..., Path], tmp_path: Path, test_data: Path
) -> None:
    from lmdbench.data.dataset import open_dataset
    from lmdbench.data.splits.spec import SplitSpec, make_split

    dataset = open_dataset("isic2019", test_data, tmp_path)
    split = make_split(dataset, SplitSpec(None))
    part = split.parts["test"]
    logits = np.random.default_rng(0).normal(size=(len(part), 8))
    logits[np.arange(len(part)), part.labels] += 2
    record = {
        "classes": list(split.classes),
        "class_counts": {name: split.counts(name).tolist() for name in split.parts},
        "groups": {name: list(members) for name, members in split.groups.items()},
    }
    fake_run(
        "ce",
        test=(part.labels, logits),
        images=part.ids.tolist(),
        dataset="isic2019",
        record=record,
    )
    images, lesions = compared(
        tmp_path, test_data, unit="lesion", by=["sex", "age", "site"], metrics=["recall:MEL"]
    ).tables
    with (test_data / "isic2019" / "ISIC_2019_Training_Metadata.csv").open() as file:
        metadata = {row["image"]: row for row in csv.DictReader(file)}
    sex = np.array([metadata[image]["sex"] for image in part.ids])
    predicted = logits.astype(np.float32).argmax(axis=1)
    by_sex, by_age, by_site = images.subgroups
    for subgroup, value in zip(by_sex.parts, ["male", "female", ""], strict=True):
        of_value = sex == value
        expected = recall_score(
            part.labels[of_value] == 0, predicted[of_value] == 0, zero_division=np.nan
        )
        assert subgroup.table.rows[0].cells["recall:MEL"].mean == pytest.approx(expected)
    assert [s.name for s in by_age.parts] == ["0–39", "40–59", "60+", "not recorded"]
    ages = [metadata[image]["age_approx"] for image in part.ids]
    assert by_age.parts[2].table.images["test"]["all"] == sum(
        bool(age) and float(age) >= 60 for age in ages
    )
    assert by_site.column == "anatom_site_general"
    assert len(by_site.parts) == 9
    known = [metadata[image]["lesion_id"] for image in part.ids]
    assert lesions.images["test"]["all"] == len({*known} - {""}) + known.count("")
    of = [lesion or image for lesion, image in zip(known, part.ids, strict=True)]
    by_lesion = pd.DataFrame(softmax(logits.astype(np.float32), axis=1)).groupby(of).mean()
    labels = pd.Series(part.labels).groupby(of).agg(["min", "max"])
    assert (labels["min"] == labels["max"]).all()
    hits = (by_lesion.to_numpy().argmax(axis=1) == 0)[labels["min"] == 0]
    assert lesions.rows[0].cells["recall:MEL"].mean == pytest.approx(hits.mean())
    with pytest.raises(UserError, match="but a lesion is: --unit lesion"):
        compared(tmp_path, test_data, unit="patient")
