"""Images in subgroups, by cells as tables have them."""

import pytest

from lmdbench.comparison.columns import Column
from lmdbench.comparison.subgroups import check_bands, divide
from lmdbench.core.errors import UserError


def divided(cells, asked="sex", name=None, bands=()) -> dict[str, str]:
    """Subgroup → the numbers of its cells."""
    values = {str(n): cell for n, cell in enumerate(cells)}
    found = divide(Column(asked, name or asked, values), list(values), bands)
    return {name: "".join(sorted(images)) for name, images in found.images.items()}


def test_values_stand_by_number_of_images_and_what_has_none_last() -> None:
    cells = ["male", "female", "", "female", "unknown", "N/A"]
    assert divided(cells) == {"female": "13", "male": "0", "not recorded": "245"}


def test_words_for_no_value_are_told() -> None:
    column = Column("sex", "sex", {"a": "f", "b": "unknown", "c": "", "d": "unknown"})
    found = divide(column, ["a", "b", "c", "d", "e"])  # e: not in the table
    assert found.note == 'not recorded: 4 images ("unknown": 2)'
    assert not found.banded
    assert divide(column, ["a"]).note == ""


def test_none_is_a_value() -> None:
    assert divided(["none", "chemotherapy", "none"], "treatment") == {
        "none": "02",
        "chemotherapy": "1",
    }


def test_ages_stand_in_bands() -> None:
    cells = ["39", "40.0", "0", "59", "60", "85.0", "", "-1"]
    expected = {"0–39": "02", "40–59": "13", "60+": "45", "not recorded": "67"}
    assert divided(cells, "age", "age_approx") == expected
    assert divided(cells, "age_approx") == expected
    assert divided(["45", "50"], "age") == {"40–59": "01"}  # no empty bands


def test_bands_of_ones_own() -> None:
    assert divided(["17", "18", "64", "65"], "age", bands=(18, 65)) == {
        "0–17": "0",
        "18–64": "12",
        "65+": "3",
    }
    assert divided(["0.4", "0.8", "1", "4.2"], "thickness", bands=(0.8, 4)) == {
        "below 0.8": "0",
        "0.8 to below 4": "12",
        "4 and more": "3",
    }
    assert divided(["-3", "-1", "2"], "score", bands=(0,)) == {"below 0": "01", "0 and more": "2"}
    assert divided(["m", "f"], bands=(40, 60)) == {"f": "1", "m": "0"}  # text has no bands


def test_few_numbers_are_values() -> None:
    assert divided(["1", "0", "1", "-9"], "smoker") == {"1": "02", "0": "1", "not recorded": "3"}


def test_what_makes_no_subgroups_is_refused() -> None:
    with pytest.raises(UserError, match=r"--by age: .* has '45y' for 1, but bands take numbers"):
        divided(["45", "45y"], "age")
    with pytest.raises(UserError, match=r"'mm' of the table has 30 values, .*; say --bands"):
        divided([str(n) for n in range(30)], "mm")
    with pytest.raises(UserError, match="21 values, more than 20 subgroups; choose a column"):
        divided([f"p{n}" for n in range(21)], "patient")
    with pytest.raises(UserError, match="the column 'sex' of the table is empty"):
        divided(["", "NA"])
    with pytest.raises(UserError, match="the column 'sex' of the table has none of these images"):
        divide(Column("sex", "sex", {"a": "m"}), ["b", "c"])


@pytest.mark.parametrize("bands", [(60.0, 40.0), (40.0, 40.0), (float("nan"),), (float("inf"),)])
def test_bands_that_do_not_rise(bands: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="--bands: give numbers that rise"):
        check_bands(bands)
