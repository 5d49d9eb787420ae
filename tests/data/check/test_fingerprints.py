"""Perceptual hashes: the library's bits, turns, windows, and where registration begins."""

import imagehash
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lmdbench.data.check import fingerprints
from lmdbench.data.check.fingerprints import (
    CUTS,
    ORIENTATIONS,
    SIDE,
    WINDOWS,
    best_fit,
    hash_bits,
    likeness,
    turned,
    turned_bits,
)
from lmdbench.data.check.registration import agreement, orient


def pictures(number: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, (N, 64, 64) from 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, 1, 9, 9, generator=generator) * 255
    size = (SIDE, SIDE)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic")[:, 0].clamp(0, 255)


@given(st.integers(0, 10**6))
def test_bits_are_those_of_the_imagehash_library(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    theirs = imagehash.phash(Image.fromarray(picture)).hash.flatten()
    assert hash_bits(picture[None].astype(float))[0].tolist() == theirs.tolist()


def test_fingerprints_of_turned_pictures_are_the_turned_fingerprints() -> None:
    some = pictures(3)
    prints = fingerprints.fingerprints(some)
    for orientation, one in enumerate(turned(prints)):
        directly = fingerprints.fingerprints(orient(some, torch.full((3,), orientation)))
        assert torch.allclose(one[:, 0], directly[:, 0], atol=1e-4)


def test_eight_orientations_are_all_turns_and_mirror_images() -> None:
    picture = torch.arange(9.0).view(1, 3, 3)
    turns = [orient(picture, torch.tensor([o]))[0].numpy() for o in range(ORIENTATIONS)]
    expected = [
        np.rot90(one, k) for one in (picture[0].numpy(), picture[0].numpy().T) for k in range(4)
    ]
    assert {t.tobytes() for t in turns} == {np.ascontiguousarray(e).tobytes() for e in expected}


def test_a_window_of_one_picture_is_the_whole_of_its_cut() -> None:
    (some,) = pictures(1)
    window = WINDOWS.index((CUTS[2], CUTS[2]))  # a tenth off at each end: 51.2 pixels are left
    margin = round(0.1 * SIDE)
    inner = some[margin:-margin, margin:-margin][None, None]
    enlarged = torch.nn.functional.interpolate(inner, (SIDE, SIDE), mode="bilinear")[:, 0]
    cut = fingerprints.fingerprints(enlarged)[0, 0]
    assert float(fingerprints.fingerprints(some[None])[0, window] @ cut) > 0.99


def test_likeness_is_the_best_over_turns_and_windows() -> None:
    first = fingerprints.fingerprints(pictures(4))
    second = fingerprints.fingerprints(pictures(5, seed=1))
    best = torch.full((4, 5), -1.0)
    for one in turned(second):
        for a in range(4):
            for b in range(5):
                inside = max(
                    float((first[a] @ one[b, 0]).max()), float((one[b] @ first[a, 0]).max())
                )
                best[a, b] = max(best[a, b], inside)
    assert torch.allclose(likeness(first, second), best, atol=1e-6)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
@pytest.mark.parametrize("cut_first", [True, False])
def test_registration_begins_where_the_pictures_fit(orientation: int, cut_first: bool) -> None:
    """One picture is another turned, and one of the two is cut at the top and the left."""
    (whole,) = pictures(1, seed=3)
    other = orient(whole[None], torch.tensor([orientation]))[0]
    whole, other = (part(whole, cut_first), part(other, not cut_first))
    prints = fingerprints.fingerprints(torch.stack([whole, other]))
    found, placement = best_fit(prints[:1], prints[1:])
    fitted = agreement(whole[None], orient(other[None], found), placement)
    untouched = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert float(fitted) > 0.6
    assert float(fitted) > float(agreement(whole[None], orient(other[None], found), untouched))


def part(picture: torch.Tensor, cut: bool) -> torch.Tensor:
    if not cut:
        return picture
    margin = round(0.07 * SIDE)
    inner = picture[margin:, margin:][None, None]
    return torch.nn.functional.interpolate(inner, (SIDE, SIDE), mode="bilinear")[0, 0]


def test_bits_of_all_turns() -> None:
    some = pictures(2)
    bits = turned_bits(some)
    assert bits.shape == (8, 2, 64)
    flipped = turned_bits(some.flip(-1))
    assert (bits[1] == flipped[0]).all()
