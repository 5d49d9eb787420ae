import pytest

from lmdbench.data.folder.spelling import alike, has_controls, spelling


@pytest.mark.parametrize(
    "names",
    [
        (
            "melanoma",
            "Melanoma",
            "MELANOMA",
            " melanoma ",
            "melanoma.",
            "melanoma\u00a0",
            "melanoma\u200b",
        ),
        ("basal cell", "Basal  Cell", "basal_cell", "basal-cell", "basalcell", "basal\u00a0cell"),
        ("Nävus", "Na\u0308vus", "nävus", "navus"),  # composed, not, and left out
        ("Barrett's", "Barrett’s", "barrettʼs", "Barrett´s"),
        ("ＭＥＬ", "MEL", "mel"),
        ("1", "1.0", "01", "001.00"),
        ("Straße", "STRASSE"),
        ("ﬁbroma", "fibroma"),
        ("grade 1-2", "grade 1 2", "Grade_1_2"),
    ],
)
def test_names_that_are_spelt_alike(names: tuple[str, ...]) -> None:
    assert len(set(map(spelling, names))) == 1
    assert alike([*names, "other"]) == [list(names)]


@pytest.mark.parametrize(
    "names",
    [
        ("HER2+", "HER2-", "HER2"),
        ("1", "-1", "+1", "11", "1 1", "1.1", "10"),
        ("grade-0-1", "grade-1", "grade-01", "grade-11"),
        ("<5 mm", ">5 mm"),
        ("T1", "T2", "T1a"),
        ("melanoma", "melanoma?", "melanomas"),
        ("C43.5", "C43.9", "C435"),
        ("a/b", "ab"),
        ("か", "が"),  # a mark that makes another letter
    ],
)
def test_names_that_differ(names: tuple[str, ...]) -> None:
    assert alike(names) == []


def test_control_characters() -> None:
    assert all(map(has_controls, ["a\nb", "a\tb", "\0", "a\x1b[0m", "a\x7f", "a\u2028b", "a\x85"]))
    assert not any(map(has_controls, ["a b", "Nävus", "a/b", "a|b", "$x_1$", "痣", "a\u00a0b"]))
