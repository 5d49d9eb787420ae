"""Words that stand for no lesion or patient, and groups that look wrong."""

import pytest

from lmdbench.data.lesions import alike, known_lesions, merged, outstanding

PAIRS = [f"L{n // 2}" for n in range(200)]


SHORT = (
    "NA na N/A #N/A nan NaN NaT None NULL null <NA> (null) unknown Unknown UNK unk. - -- . ? ?? "
    "n.a. missing Missing k.A. keine unbekannt -1 -1.0 -9 -99 -999 _ [none] undefined nil \\N 0 "
    "0.0 00 999"
)
LONG = ("not available", "Not  Available", "not_known", "keine Angabe", "No ID", "–")


@pytest.mark.parametrize("word", [*SHORT.split(), *LONG])
def test_a_word_for_none_is_no_group(word: str) -> None:
    lesions = known_lesions([*PAIRS, *[word] * 100])
    assert lesions.groups == [*PAIRS, *[""] * 100]
    assert lesions.remarks == (f'lesions: 100 images have none ("{word}": 100)',)


@pytest.mark.parametrize(
    "word",
    ["L1", "12", "12.0", "nana", "Nathan", "Nonesuch", "unknown-7", "p-1", "1", "a", "k"],
)
def test_other_words_are_groups(word: str) -> None:
    assert known_lesions([word, word, "x", "y", "z"]).groups[:2] == [word, word]


def test_empty_cells_and_several_words_are_counted() -> None:
    lesions = known_lesions(["a", "", "NA", "", "nan", "NA", ""])
    assert lesions.groups == ["a"] + [""] * 6
    assert lesions.remarks == ('lesions: 6 images have none (empty: 3, "NA": 2, "nan": 1)',)
    assert known_lesions(["", "b"]).remarks == ("lesions: 1 image has none (empty: 1)",)
    assert known_lesions(["a", "b"]).remarks == ()


def test_zero_is_a_patient_where_the_others_have_as_many_images() -> None:
    patients = [str(n % 7) for n in range(70)]
    assert known_lesions(patients).groups == patients
    filled = [*patients, *["0"] * 10]  # 20, where all others have 10
    assert known_lesions(filled).none == {"0": 20}
    assert known_lesions(["0", "0", "1", "2"]).none == {}


def test_ones_own_words_replace_the_known_ones() -> None:
    cells = ["NA", "NA", "site", "site", "a", ""]
    assert known_lesions(cells, ["site"]).groups == ["NA", "NA", "", "", "a", ""]
    assert known_lesions(cells, []).groups == cells


def test_a_group_that_stands_out_is_named_with_the_way() -> None:
    lesions = known_lesions([*PAIRS, *["elsewhere"] * 100, *["NA"] * 5])
    (line,) = outstanding(lesions, "dataset.toml")
    assert '"elsewhere" has 100 images, where 2 is usual' in line
    assert 'no_group = ["NA", "elsewhere"] in dataset.toml' in line
    assert list(outstanding(known_lesions(PAIRS), "")) == []
    hospitals = [f"site {n % 3}" for n in range(300)]
    assert list(outstanding(known_lesions(hospitals), "")) == []


@pytest.mark.parametrize("pair", [("P01", "p01"), ("P 01", "P01"), ("12", "12.0")])
def test_groups_that_differ_in_spelling_only_are_named(pair: tuple[str, str]) -> None:
    lesions = known_lesions([*pair, "other"])
    (line,) = alike(lesions, "dataset.toml")
    assert all(f'"{name}"' in line for name in pair)
    assert "differ in spelling only" in line
    one, (said,) = merged(lesions)
    assert one.groups == [min(pair)] * 2 + ["other"]
    assert said.endswith("taken for the same")
    assert merged(one) == (one, ())
