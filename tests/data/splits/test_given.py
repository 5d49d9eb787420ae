"""Folds that a table gives: taken as they are by ``--split kfold``, never ignored in silence."""

from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, Split
from lmdbench.data.splits.given import fold_number, folds_of, number_of_folds
from lmdbench.data.splits.spec import SplitSpec, make_split

FIVE = [str(n // 2 % 5) for n in range(60)]


def clinic(root: Path, folds: list[str], column: str = "fold", **more: list[str]) -> Dataset:
    columns = {column: folds, **more}
    rows = [
        ",".join((f"{n:02}.png", "ab"[n % 2], *(values[n] for values in columns.values())))
        for n in range(len(folds))
    ]
    (root / "labels.csv").write_text("\n".join([",".join(("image", "label", *columns)), *rows]))
    return DATASETS.get("folder")(root, root)


def in_test(split: Split) -> list[str]:
    return sorted(split.parts["test"].ids.tolist())


def refused(dataset: Dataset, choice: SplitSpec, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        make_split(dataset, choice)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("form", ["{}", "{}.0", "fold{}", "Fold {}", "cv_{}", "0{}"])
def test_given_folds_are_taken_however_they_are_written(tmp_path: Path, form: str) -> None:
    dataset = clinic(tmp_path, [form.format(fold) for fold in FIVE])
    for fold in range(5):
        split = make_split(dataset, SplitSpec("kfold", fold=fold))
        assert in_test(split) == [f"{n:02}.png" for n in range(60) if n // 2 % 5 == fold]
        assert split.label == f"kfold5-fold{fold}"
        assert split.notes[0].startswith("folds: column 'fold' of labels.csv, 5 folds")
        assert [len(part) for part in split.parts.values()] == [42, 6, 12]


def test_other_numbers_and_names_count_from_0_in_their_order(tmp_path: Path) -> None:
    dataset = clinic(tmp_path, [str(10 * (n % 3) + 1) for n in range(60)], "KFold")
    split = make_split(dataset, SplitSpec("kfold", fold=2))
    assert in_test(split) == [f"{n:02}.png" for n in range(60) if n % 3 == 2]
    assert split.notes[0].startswith("folds: column 'KFold' of labels.csv, 3 folds (1, 11, 21); ")
    assert number_of_folds("folder", tmp_path, tmp_path) == 3
    assert number_of_folds("demo", None, tmp_path) == number_of_folds("none", None, tmp_path) == 5


def test_the_column_may_be_named(tmp_path: Path) -> None:
    clinic(tmp_path, FIVE, "my partition")
    described = tmp_path / "dataset.toml"
    described.write_text('table = "labels.csv"\n[columns]\nfold = "My Partition"\n')
    dataset = DATASETS.get("folder")(tmp_path, tmp_path)
    assert len(in_test(make_split(dataset, SplitSpec("kfold", fold=4)))) == 12


def test_the_seed_draws_validation_alone(tmp_path: Path) -> None:
    dataset = clinic(tmp_path, FIVE)
    one, other = (make_split(dataset, SplitSpec("kfold", fold=1, seed=seed)) for seed in (1, 2))
    assert in_test(one) == in_test(other)
    assert one.parts["validation"].fingerprint != other.parts["validation"].fingerprint
    assert one.notes[0].endswith("; the seed draws validation alone")
    assert one.details["division"] == other.details["division"]


@pytest.mark.parametrize("name", [None, "random", "balanced-test"])
def test_a_split_that_does_not_take_them_says_so(tmp_path: Path, name: str | None) -> None:
    dataset = clinic(tmp_path, FIVE)
    note = "column 'fold' of labels.csv is not used here; --split kfold takes it as folds"
    split = make_split(dataset, SplitSpec(name))
    assert split.notes[-1] == note
    bare = DATASETS.get("folder")(tmp_path, tmp_path)
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("fold", "x"))
    assert make_split(bare, SplitSpec(name)).fingerprint == split.fingerprint


def test_what_contradicts_is_refused(tmp_path: Path) -> None:
    dataset = clinic(tmp_path, FIVE)
    refused(dataset, SplitSpec("kfold", folds=10, fold=0), "--folds 10: column .* gives 5 folds")
    refused(dataset, SplitSpec("kfold", fold=5), "--fold 5: with 5 folds give one from 0 to 4")
    refused(dataset, SplitSpec("kfold"), "say which fold with --fold, from 0 to 4")
    assert make_split(dataset, SplitSpec("kfold", folds=5, fold=0)).label == "kfold5-fold0"
    dataset = clinic(tmp_path, ["axillary", "1"] * 10)
    refused(dataset, SplitSpec("kfold", fold=0), "'axillary' .image 00.png.*names no fold; give")
    assert make_split(dataset, SplitSpec()).notes[-1].startswith("column 'fold' of labels.csv is")
    dataset = clinic(tmp_path, ["train", "Test"] * 10)
    refused(dataset, SplitSpec("kfold", fold=0), "names a part, no fold; call the column split")
    dataset = clinic(tmp_path, ["3"] * 20)
    refused(dataset, SplitSpec("kfold", fold=0), "1 fold; a k-fold split has 2 to 100")


def test_lesions_in_two_folds_are_named(tmp_path: Path) -> None:
    groups = [f"p{n // 4}" for n in range(60)]
    dataset = clinic(tmp_path, FIVE, group=groups)
    refused(
        dataset,
        SplitSpec("kfold", fold=0),
        r"column 'fold' of labels.csv: 15 lesions or patients in more than one fold: p0 \(0, 1\); ",
    )
    assert make_split(dataset, SplitSpec("lesion")).name == "lesion"


def test_images_without_a_fold_are_left_out_and_counted(tmp_path: Path) -> None:
    folds = ["" if n < 5 else "NA" if n < 10 else "-1" if n < 12 else FIVE[n] for n in range(60)]
    split = make_split(clinic(tmp_path, folds), SplitSpec("kfold", fold=0))
    assert sum(map(len, split.parts.values())) == 48
    assert "12 images without a fold left out" in split.notes


def test_numbers_in_a_column_split(tmp_path: Path) -> None:
    dataset = clinic(tmp_path, FIVE, "split")
    assert len(in_test(make_split(dataset, SplitSpec("kfold", fold=0)))) == 12
    split = make_split(dataset, SplitSpec())
    assert split.name == "random"
    assert split.notes[0].startswith("column 'split' of labels.csv is not used here; --split kfold")
    dataset = clinic(tmp_path, ["0", "1", "2"] * 20, "split")
    refused(dataset, SplitSpec(), "the column 'split' has 0, 1, 2; write train, validation")
    described = tmp_path / "dataset.toml"
    described.write_text('table = "labels.csv"\n[columns]\nfold = "split"\n')
    dataset = DATASETS.get("folder")(tmp_path, tmp_path)
    assert len(in_test(make_split(dataset, SplitSpec("kfold", fold=0)))) == 20


def test_folds_beside_parts(tmp_path: Path) -> None:
    parts = ["test" if n >= 40 else "train" for n in range(60)]
    folds = [FIVE[n] if n < 40 else "" for n in range(60)]
    dataset = clinic(tmp_path, folds, split=parts)
    assert make_split(dataset, SplitSpec()).name == "given"
    split = make_split(dataset, SplitSpec("kfold", fold=0))
    assert sum(map(len, split.parts.values())) == 40


def test_words_that_name_a_fold() -> None:
    assert [fold_number(word) for word in ("3", "03", "3.0", "fold3", "Fold_3", "f3")] == [3] * 6
    assert not any(map(fold_number, ["", "3.5", "three", "train", "3a", "-3"]))


def test_a_data_set_without_folds_has_none() -> None:
    assert folds_of(DATASETS.get("demo")(None, Path())) is None
