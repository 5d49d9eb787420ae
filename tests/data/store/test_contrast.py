"""Prepared images that show next to nothing."""

import numpy as np

from lmdbench.data.store.contrast import LEVELS, nearly_constant

RANDOM = np.random.default_rng(0)


def test_blank_and_faint_pictures_are_found_and_others_are_not():
    ramp = np.linspace(0, 255, 80 * 80).astype(np.uint8).reshape(80, 80)
    one_colour = np.stack([np.full((80, 80), level, np.uint8) for level in (200, 90, 10)])
    marked = one_colour.copy()
    marked[:, :4, :4] = 255  # a burned-in mark is a quarter of a per cent
    half = np.tile(np.repeat([0, 255], 40).astype(np.uint8), (3, 80, 1))
    faint = RANDOM.integers(0, LEVELS - 1, (3, 80, 80), dtype=np.uint8)
    only_red = np.stack([ramp, ramp * 0, ramp * 0])
    pixels = np.stack([one_colour, np.stack([ramp] * 3), marked, half, faint, only_red])
    assert nearly_constant(pixels, range(6)) == [0, 2, 4]
    assert nearly_constant(pixels, [1, 4]) == [4]
