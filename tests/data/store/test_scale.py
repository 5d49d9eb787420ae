"""Which values become black and white, for a whole data set."""

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.store.scale import USUAL, Scale, Values, common_scale, of_bits, parse_scale


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(3, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16)],
)
def test_the_fewest_bits_that_hold_all_pictures(largest, bits):
    values = {"a": Values(0, largest), "b": Values(0, 2)}
    assert common_scale(values) == of_bits(bits)
    assert of_bits(16) == USUAL == common_scale({})


def test_values_below_zero_make_it_a_scale_with_a_sign():
    assert common_scale({"a": Values(-1024, 3071)}) == Scale(-8192, 8191)
    assert common_scale({"a": Values(-1, 127)}) == Scale(-128, 127)


def test_what_a_file_states_counts_where_its_values_fit():
    assert common_scale({"dark": Values(0, 900, stated=12)}) == of_bits(12)
    assert common_scale({"scaled up": Values(0, 60000, stated=12)}) == of_bits(16)


@pytest.mark.parametrize(("largest", "white"), [(0.9, 1), (1.0, 1), (1.01, 255), (255.0, 255)])
def test_floats_go_to_one_or_to_255(largest, white):
    assert common_scale({"a": Values(0.1, largest, floats=True)}) == Scale(0, white)


@pytest.mark.parametrize(
    "values",
    [
        {"a": Values(0, 1e5)},
        {"a": Values(-40000, 0)},
        {"a": Values(0, 255.5, floats=True)},
        {"a": Values(-0.1, 0.5, floats=True)},
        {"a": Values(0, 0.5, floats=True), "b": Values(0, 4095)},
    ],
)
def test_other_ranges_are_no_guess(values):
    with pytest.raises(UserError, match=r"^a: .*intensity_range = \[LOW, HIGH\]"):
        common_scale(values)
    asked = Scale(-1, 2, clips=True)
    assert common_scale(values, asked) == asked


def test_a_bit_depth_that_is_too_small_names_the_picture():
    with pytest.raises(UserError, match=r"^large\.png: values beyond the 0 to 1,023 of its bit_"):
        common_scale({"a": Values(0, 1023), "large.png": Values(0, 1024)}, of_bits(10))


def test_a_scale_survives_being_written():
    for scale in (USUAL, of_bits(12), Scale(-1000, 400.5, clips=True), Scale(0, 1)):
        assert parse_scale(scale.text) == scale
    with pytest.raises(ValueError, match="no scale"):
        parse_scale("opaque")


def test_the_ends_are_black_and_white():
    for scale in (USUAL, of_bits(12), of_bits(14, signed=True), Scale(-3, 7.5)):
        ends = np.array([scale.low, scale.high])
        assert scale.grey(ends).tolist() == [0, 255]
