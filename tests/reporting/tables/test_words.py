"""Numbers as people read them."""

import math

import pytest

from lmdbench.reporting.tables.words import is_share, number, p_text, signed


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.7126, True, "71.3"),
        (0.7126, False, "0.713"),
        (-0.05, True, "−5.0"),
        (-0.0001, True, "0.0"),
        (None, True, "–"),
        (math.nan, False, "–"),
    ],
)
def test_number(value: float | None, percent: bool, text: str) -> None:
    assert number(value, percent) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "+5.0"), (-0.05, "−5.0"), (0.0001, "0.0"), (-0.0001, "0.0"), (None, "–")],
)
def test_differences_have_a_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0123, ".012"), (0.0004, "<.001"), (1.0, "1.000"), (None, "–")]
)
def test_p(p: float | None, text: str) -> None:
    assert p_text(p) == text


def test_only_shares_are_percent() -> None:
    assert is_share("ece_balanced")
    assert not is_share("nll")
    assert not is_share("brier_balanced")
