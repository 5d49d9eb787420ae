"""One picture laid over another."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from lmdbench.data.check.registration import agreement, blur, register

UNTOUCHED = torch.tensor([[1.0, 0.0, 1.0, 0.0]])


def textured(seed: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, size, size, generator=generator) * 255
    return blur(noise, 1.5) * 3 - 255


def moved(picture: torch.Tensor, placement: torch.Tensor) -> torch.Tensor:
    """The picture whose place (y, x) holds what the given one has at a·y + b, c·x + d."""
    a, b, c, d = placement[0].tolist()
    theta = torch.tensor([[[c, 0, d], [0, a, b]]])
    grid = F.affine_grid(theta, [1, 1, *picture.shape[1:]], align_corners=False)
    return F.grid_sample(picture[:, None], grid, align_corners=False, padding_mode="border")[:, 0]


def test_blur_is_scipys() -> None:
    picture = textured(0)
    theirs = gaussian_filter(picture[0].numpy(), 2.0, mode="nearest", radius=6)
    assert torch.allclose(blur(picture, 2.0)[0], torch.from_numpy(theirs), atol=1e-3)


@pytest.mark.parametrize(
    "placement", [[1, 0.06, 1, -0.05], [0.9, 0.02, 0.9, 0], [1.1, 0, 0.95, 0.03]]
)
def test_a_moved_picture_is_found_again(placement: list[float]) -> None:
    second, true = textured(1), torch.tensor([placement])
    first = moved(second, true)
    found = register(first, second, UNTOUCHED.clone())
    assert torch.allclose(found, true, atol=0.01)
    assert float(agreement(first, second, found)) > 0.95
    assert float(agreement(first, second, UNTOUCHED)) < 0.6


def test_a_picture_agrees_with_itself_and_with_another_exposure() -> None:
    picture = textured(2)
    assert float(agreement(picture, picture, UNTOUCHED)) == pytest.approx(1)
    assert float(agreement(picture, 0.7 * picture + 30, UNTOUCHED)) > 0.98


def test_other_pictures_do_not_agree_even_with_the_same_blob_in_the_middle() -> None:
    axis = torch.linspace(-1, 1, 64)
    blob = -120 * ((axis[:, None] ** 2 + axis**2) < 0.3).float()[None]
    first, second = (0.3 * textured(seed) + 120 + blur(blob, 3) for seed in (3, 4))
    coarse = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert coarse > 0.9  # to the eye of a plain correlation they are the same
    placement = register(first, second, UNTOUCHED.clone())
    assert float(agreement(first, second, placement)) < 0.5


def test_flat_pictures_give_no_nan() -> None:
    flat = torch.full((1, 64, 64), 7.0)
    placement = register(flat, textured(5), UNTOUCHED.clone())
    assert torch.isfinite(placement).all()
    assert float(agreement(flat, textured(5), placement)) == pytest.approx(0, abs=1e-3)


def test_a_frame_that_all_pictures_share_does_not_count() -> None:
    axis = torch.linspace(-1, 1, 64)
    frame = ((axis[:, None] ** 2 + axis**2) < 0.9).float()
    frame[40:, :20] = 0  # and an inlay
    first, second = ((0.3 * textured(seed) + 120).clamp(40, 255) * frame for seed in (6, 7))
    assert float(agreement(first, second, UNTOUCHED)) < 0.2
    assert float(agreement(first, first, UNTOUCHED)) == pytest.approx(1)


def test_pictures_that_are_nearly_black_are_compared_all_the_same() -> None:
    dark = (textured(8) - 100).clamp(0, 13)
    assert float(agreement(dark, dark, UNTOUCHED)) == pytest.approx(1)
