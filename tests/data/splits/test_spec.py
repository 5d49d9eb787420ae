"""Splits by name: on the official tables of the real data sets, and on small drawn ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, PARTS, Dataset, Split
from lmdbench.data.splits.spec import SplitSpec, make_split


def official(name: str, root: Path) -> Dataset:
    return DATASETS.get(name)(root, root)


@pytest.fixture(scope="module")
def isic(test_data: Path) -> Dataset:
    return official("isic2019", test_data)


@pytest.fixture
def clinic(tmp_path: Path) -> Dataset:
    """Ninety images of three classes, thirty patients; some images without one."""
    rows = ["image,label,group"]
    for n in range(90):
        label = "often" if n < 60 else "seldom" if n < 80 else "rare"
        rows.append(f"{n:02}.png,{label},{'' if n % 5 == 0 else f'p{n // 3}'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return DATASETS.get("folder")(tmp_path, tmp_path)


def images(split: Split) -> list[str]:
    return sorted(image for part in split.parts.values() for image in part.ids.tolist())


def torn(dataset: Dataset, split: Split) -> set[str]:
    """Lesions in two parts, by an independent join."""
    groups = dataset.records()["group"]
    homes = pd.concat(
        [
            pd.DataFrame({"group": groups[part.ids], "part": name})
            for name, part in split.parts.items()
        ]
    )
    parts = homes[homes["group"] != ""].groupby("group")["part"].nunique()
    return set(parts.index[parts > 1])


def test_default_is_the_own_split_and_goes_by_its_name(isic: Dataset, clinic: Dataset) -> None:
    own = isic.split(None, 42)
    assert make_split(isic, SplitSpec()).fingerprint == own.fingerprint
    assert make_split(isic, SplitSpec("published")).fingerprint == own.fingerprint
    assert make_split(clinic, SplitSpec("random", seed=3)).label == "random-split3"


@pytest.mark.parametrize(("factor", "seed"), [(None, None), (200, None), (500, 7), (100, 1)])
def test_lesions_are_in_one_part_and_counts_are_the_published_ones(
    isic: Dataset, factor: float | None, seed: int | None
) -> None:
    published = make_split(isic, SplitSpec(None, factor, seed))
    split = make_split(isic, SplitSpec("lesion", factor, seed))
    assert torn(isic, published)
    assert not torn(isic, split)
    assert images(split) == images(published)
    for part in PARTS:
        assert split.counts(part).tolist() == published.counts(part).tolist()
    assert split.label == published.label.replace("published", "lesion")
    assert split.fingerprint != published.fingerprint
    assert split.groups == published.groups


def test_lesion_says_how_many_images_stand_alone(isic: Dataset, test_data: Path) -> None:
    split = make_split(isic, SplitSpec("lesion"))
    table = pd.read_csv(test_data / "isic2019" / "ISIC_2019_Training_Metadata.csv")
    alone = table.loc[table["image"].isin(images(split)), "lesion_id"].isna().sum()
    (note,) = split.notes
    assert note.startswith(f"{alone:,} of 23,104 images without a lesion's id")


def test_lesion_needs_lesions(test_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no lesion or patient of hyper-kvasir's images is known"):
        make_split(official("hyper-kvasir", test_data), SplitSpec("lesion"))
    truth = "ISIC_2019_Training_GroundTruth.csv"
    (tmp_path / truth).symlink_to(test_data / "isic2019" / truth)
    with pytest.raises(UserError, match=r"ISIC_2019_Training_Metadata\.csv would name them"):
        make_split(official("isic2019", tmp_path), SplitSpec("lesion"))


def test_isic_archive_by_lesion(test_data: Path, tmp_path: Path) -> None:
    """With the lesions that the ISIC 2019 metadata name: two thirds of the images."""
    for table in (test_data / "published-splits" / "ISIC_Archive").glob("*.csv"):
        (tmp_path / table.name).symlink_to(table)
    metadata = pd.read_csv(test_data / "isic2019" / "ISIC_2019_Training_Metadata.csv")
    metadata.rename(columns={"image": "isic_id"}).to_csv(tmp_path / "metadata.csv", index=False)
    archive = official("isic-archive", tmp_path)
    published, split = archive.split(None, 42), make_split(archive, SplitSpec("lesion"))
    assert len(torn(archive, published)) > 1000
    assert not torn(archive, split)
    assert images(split) == images(published)
    for part in PARTS:
        off = np.abs(split.counts(part) - published.counts(part))
        assert (off <= np.maximum(2, 0.02 * published.counts(part))).all()
    assert split.seed == 42


@pytest.mark.parametrize(
    ("name", "test", "validation"),
    [("isic2019", 100, 50), ("hyper-kvasir", 2, 1), ("isic-archive", 6, 3)],
)
def test_balanced_test_sets_are_equal_and_leave_the_smallest_a_third(
    test_data: Path, name: str, test: int, validation: int
) -> None:
    dataset = official(name, test_data)
    split = make_split(dataset, SplitSpec("balanced-test"))
    assert set(split.counts("test")) == {test}
    assert set(split.counts("validation")) == {validation}
    assert not torn(dataset, split)
    sizes = np.array([dataset.class_sizes[label] for label in split.classes])
    assert split.counts("train").min() >= sizes.min() / 3
    assert split.label == f"balanced-test{test}" + ("-if100" if name == "isic2019" else "")


@pytest.mark.parametrize("factor", [20, 100, 300])
def test_balanced_test_cuts_to_the_imbalance_asked_for(isic: Dataset, factor: float) -> None:
    split = make_split(isic, SplitSpec("balanced-test", factor, test_per_class=40))
    assert set(split.counts("test")) == {40}
    assert set(split.counts("validation")) == {20}
    assert split.measured_imbalance == pytest.approx(factor, rel=0.03)
    assert len(set(images(split))) == len(images(split))


def test_balanced_test_names_the_classes_that_are_too_small(test_data: Path) -> None:
    kvasir = official("hyper-kvasir", test_data)
    with pytest.raises(UserError, match=r"leave none to train .*ileum \(9\)"):
        make_split(kvasir, SplitSpec("balanced-test", test_per_class=100))


@pytest.mark.parametrize("name", ["isic2019", "hyper-kvasir"])
def test_every_image_is_tested_in_one_fold(test_data: Path, name: str) -> None:
    dataset = official(name, test_data)
    folds = [make_split(dataset, SplitSpec("kfold", fold=k)) for k in range(5)]
    own = dataset.split(None, 42)
    tested = sorted(image for split in folds for image in split.parts["test"].ids.tolist())
    assert tested == images(own)
    everything = sum(own.counts(part) for part in PARTS)
    for split in folds:
        assert images(split) == tested
        assert not torn(dataset, split)
        off = np.abs(split.counts("test") - everything / 5)
        assert (off <= np.maximum(2, 0.02 * everything / 5)).all()
        assert (split.counts("train") > 0).all()
        assert len(split.parts["validation"]) == pytest.approx(0.1 * everything.sum(), rel=0.02)
    assert {split.label for split in folds} == {
        own.label.replace("published", f"kfold5-fold{k}") for k in range(5)
    }
    assert len({split.fingerprint for split in folds}) == 5


def test_folds_follow_their_seed_and_number(clinic: Dataset) -> None:
    one = make_split(clinic, SplitSpec("kfold", folds=3, fold=0, seed=1))
    assert one.label == "kfold3-fold0-split1"
    again = make_split(clinic, SplitSpec("kfold", folds=3, fold=0, seed=1))
    other = make_split(clinic, SplitSpec("kfold", folds=3, fold=0, seed=2))
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_a_class_in_one_lesion_cannot_be_folded(tmp_path: Path) -> None:
    rows = [f"{n}.png,a,\n" for n in range(9)] + [f"b{n}.png,b,one\n" for n in range(5)]
    rows += ["c.png,b,\n"]
    (tmp_path / "labels.csv").write_text("image,label,group\n" + "".join(rows[:-1]))
    folder = DATASETS.get("folder")(tmp_path, tmp_path)
    with pytest.raises(UserError, match="class 'b'"):
        make_split(folder, SplitSpec("kfold", folds=2, fold=0))


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        (SplitSpec("lesions"), "unknown split of folder 'lesions'. Did you mean lesion"),
        (SplitSpec("KFold"), "Did you mean kfold"),
        (SplitSpec("published"), r"unknown split of folder 'published'.* Known: random, lesion"),
        (SplitSpec("balanced-test", test_per_class=0), "give a number from 1 on"),
        (SplitSpec("balanced-test", 0.5), "--imbalance-factor 0.5: give a number from 1 on"),
        (SplitSpec("kfold", folds=-3), "--folds -3: give a number from 2 to 100"),
        (SplitSpec("kfold"), "say which fold with --fold, from 0 to 4"),
        (SplitSpec("kfold", folds=3, fold=3), "--fold 3: with 3 folds give one from 0 to 2"),
        (SplitSpec("kfold", folds=1, fold=0), "--folds 1: give a number from 2 to 100"),
        (SplitSpec("lesion", folds=3), "--folds and --fold are for --split kfold"),
        (SplitSpec(fold=1), "--folds and --fold are for --split kfold"),
        (SplitSpec("lesion", test_per_class=3), "is for --split balanced-test"),
        (SplitSpec("lesion", seed=-1), "split seed -1 is out of range"),
        (SplitSpec(groups="rank:9,9,9"), "these are 27 classes, here are 3"),
        (SplitSpec("no/such.csv"), r"no/such\.csv: cannot be read: No such file"),
        (SplitSpec("x.csv", 10), "leave --imbalance-factor out"),
    ],
)
def test_choices_that_do_not_fit(clinic: Dataset, choice: SplitSpec, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        make_split(clinic, choice)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_the_official_one_has_no_published_split(
    test_data: Path, tmp_path: Path
) -> None:
    truth = "ISIC_2019_Training_GroundTruth.csv"
    lines = (test_data / "isic2019" / truth).read_text().splitlines()
    (tmp_path / truth).write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="no published split: its tables are not the official"):
        make_split(official("isic2019", tmp_path), SplitSpec("published"))


def test_a_balanced_set_never_has_more_than_asked(tmp_path: Path) -> None:
    """Patients of five images each: two a class cannot be had, so five are cut down to two."""
    rows = [f"{c}{n}.png,{c},{c}{n // 5}" for c in "abc" for n in range(40)]
    (tmp_path / "labels.csv").write_text("image,label,group\n" + "\n".join(rows) + "\n")
    folder = DATASETS.get("folder")(tmp_path, tmp_path)
    split = make_split(folder, SplitSpec("balanced-test", test_per_class=2))
    assert set(split.counts("test")) == {2}
    assert set(split.counts("validation")) == {1}
    assert split.details["test_per_class_asked"] == 2
    assert any("left out to make them equal" in note for note in split.notes)


def test_groups_of_all_folds_are_the_same(test_data: Path) -> None:
    kvasir = official("hyper-kvasir", test_data)
    choices = [SplitSpec("kfold", fold=k, groups="count:110,30") for k in range(5)]
    splits = [make_split(kvasir, choice) for choice in choices]
    assert len({str(split.groups) for split in splits}) == 1
    own = make_split(kvasir, SplitSpec("kfold", fold=4))
    assert own.group_rule.startswith("of the split published: by training images, head from 500")


def test_folds_of_one_division_say_so(clinic: Dataset) -> None:
    def division(seed: int, fold: int) -> str:
        choice = SplitSpec("kfold", folds=3, fold=fold, seed=seed)
        return str(make_split(clinic, choice).details["division"])

    assert division(1, 0) == division(1, 2) != division(2, 0)


def test_groups_are_chosen_with_the_split(clinic: Dataset) -> None:
    split = make_split(clinic, SplitSpec(groups="count:30,10"))
    assert split.groups == {"head": ("often",), "medium": ("seldom",), "tail": ("rare",)}
    assert split.group_rule == "by training images, head from 30, tail below 10"
    assert split.fingerprint == make_split(clinic, SplitSpec()).fingerprint


class TestFile:
    """A division from a CSV of the user's own."""

    def write(self, folder: Path, rows: list[str], header: str = "image,split") -> str:
        path = folder / "mine.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return str(path)

    def rows(self, dataset: Dataset) -> list[str]:
        split = make_split(dataset, SplitSpec("random", seed=9))
        return [f"{image},{name}" for name, part in split.parts.items() for image in part.ids]

    def test_it_is_what_it_says(self, clinic: Dataset, tmp_path: Path) -> None:
        drawn = make_split(clinic, SplitSpec("random", seed=9))
        split = make_split(clinic, SplitSpec(self.write(tmp_path, self.rows(clinic))))
        assert split.label == "file-mine"
        assert split.fingerprint == drawn.fingerprint
        assert split.seed is None

    def test_what_it_leaves_out_is_left_out_and_said(self, clinic: Dataset, tmp_path: Path) -> None:
        labels = clinic.records()["label"]
        rows = [row for row in self.rows(clinic) if labels[row.split(",")[0]] != "seldom"]
        split = make_split(clinic, SplitSpec(self.write(tmp_path, rows)))
        assert split.classes == ("often", "rare")
        assert sum(len(part) for part in split.parts.values()) == 70
        assert "20 images of the data set not listed" in split.notes

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ("99.png,train", r"line 92: data set folder has no image '99\.png'"),
            ("00.png,train", r"line 92: image '00\.png' is listed twice, before in line \d+"),
        ],
    )
    def test_images_that_are_not_there_or_twice(
        self, clinic: Dataset, tmp_path: Path, change: str, problem: str
    ) -> None:
        with pytest.raises(UserError, match=problem):
            make_split(clinic, SplitSpec(self.write(tmp_path, [*self.rows(clinic), change])))

    @pytest.mark.parametrize(
        ("header", "rows", "problem"),
        [
            ("image,part", ["00.png,train"], "no column 'split'"),
            ("image,split", ["00.png,holdout"], "line 2: split 'holdout' is none of train"),
            ("image,split,label", ["00.png,train,rare"], "line 2: label 'rare', but in folder"),
            ("image,split", ["00.png,train", "01.png,test"], "only one class, 'often'"),
            ("image,split", ["00.png,train", "61.png,train"], "no test image of often"),
        ],
    )
    def test_files_that_say_nothing_useful(
        self, clinic: Dataset, tmp_path: Path, header: str, rows: list[str], problem: str
    ) -> None:
        with pytest.raises(UserError, match=problem):
            make_split(clinic, SplitSpec(self.write(tmp_path, rows, header)))

    def test_no_seed_draws_it(self, clinic: Dataset, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"--split-seed 3: split file-mine .* no seed draws it"):
            make_split(clinic, SplitSpec(self.write(tmp_path, self.rows(clinic)), seed=3))

    def test_classes_keep_the_order_that_the_data_set_gives_them(
        self, clinic: Dataset, tmp_path: Path
    ) -> None:
        assert clinic.root is not None
        order = 'table = "labels.csv"\nclass_order = ["rare", "seldom", "often"]\n'
        (clinic.root / "dataset.toml").write_text(order)
        ordered = DATASETS.get("folder")(clinic.root, tmp_path)
        split = make_split(ordered, SplitSpec(self.write(tmp_path, self.rows(clinic))))
        assert split.classes == ("rare", "seldom", "often")
