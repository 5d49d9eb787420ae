"""Every operation against OpenCV, SciPy or NumPy, one image at a time, with the same parameters."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from lmdbench.core.errors import UserError
from lmdbench.training.views import augmentation, blurs, warps
from lmdbench.training.views.augmentation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VIEWS,
    Distortion,
    StrongParameters,
    apply_strong,
    register_view,
    strong_parameters,
)
from lmdbench.training.views.blurs import Blur

BORDER = cv2.BORDER_REFLECT_101


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(batch: int, generator: torch.Generator) -> StrongParameters:
    return strong_parameters(*VIEWS["strong"].draw(batch, generator))


def noise_pixels(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    shape = (batch, 3, height, width)
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


def smooth_images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Images without edges, also where reflected, so that they hardly change when sampled twice."""
    noise = np.random.default_rng(seed).random((batch, 3, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 0, height / 16, width / 16), mode="mirror")
    low, high = smooth.min((2, 3), keepdims=True), smooth.max((2, 3), keepdims=True)
    return torch.from_numpy((smooth - low) / (high - low)).float()


def to_numpy(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).contiguous().numpy()


def identity(batch: int) -> StrongParameters:
    """Nothing is chosen; what an operation would use if it were is random."""
    no = torch.zeros(batch, dtype=torch.bool)
    none = torch.zeros(batch, dtype=torch.int64)
    return replace(
        drawn(batch, seeded(99)),
        flip_horizontal=no,
        flip_vertical=no,
        blur=none,
        moved=no,
        distortion=none,
        rgb_shift=torch.zeros(batch, 3),
        contrast=torch.ones(batch),
        brightness=torch.zeros(batch),
        grid_dropout=no,
    )


def blurred(images: torch.Tensor, p: StrongParameters) -> torch.Tensor:
    return blurs.blur(images, p.blur, blurs.taps_of(p.blur, p.motion_line))


def row(parameters: StrongParameters, i: int) -> StrongParameters:
    return StrongParameters(
        **{f.name: getattr(parameters, f.name)[i : i + 1] for f in fields(parameters)}
    )


# References: one image (H, W, 3) float32, one row of the parameters


def reference_blur(image: np.ndarray, p: StrongParameters, i: int) -> np.ndarray:
    kind = int(p.blur[i])
    if kind == Blur.MOTION:
        kernel = np.zeros((7, 7), np.uint8)
        x1, y1, x2, y2 = (int(v) + 3 for v in p.motion_line[i])
        cv2.line(kernel, (x1, y1), (x2, y2), 1, thickness=1)
        return cv2.filter2D(image, -1, kernel.astype(np.float32) / kernel.sum())
    if kind == Blur.MEDIAN:
        return cv2.medianBlur(image, 3)
    return cv2.blur(image, (3, 3)) if kind == Blur.BOX else image


def affine_matrix(p: StrongParameters, i: int, height: int, width: int) -> np.ndarray:
    """Forward: to the centre, scale, rotate, shift, and back."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    angle = float(p.angle[i])
    to_centre = np.array([[1, 0, -cx], [0, 1, -cy], [0, 0, 1]])
    scaling = np.diag([float(p.scale[i, 0]), float(p.scale[i, 1]), 1])
    rotation = np.array(
        [
            [math.cos(angle), -math.sin(angle), 0],
            [math.sin(angle), math.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    shift = np.array(
        [[1, 0, float(p.shift[i, 0]) * width], [0, 1, float(p.shift[i, 1]) * height], [0, 0, 1]]
    )
    return np.linalg.inv(to_centre) @ shift @ rotation @ scaling @ to_centre


def reference_move(image: np.ndarray, p: StrongParameters, i: int) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = affine_matrix(p, i, height, width)[:2]
    return cv2.warpAffine(image, matrix, (width, height), borderMode=BORDER)


def reference_grid_axis(steps: list[float], size: int) -> np.ndarray:
    cell = size // 5
    source = np.zeros(size, np.float32)
    begin = 0.0
    for k in range(5):
        end = begin + cell * steps[k]
        source[k * cell : (k + 1) * cell] = np.linspace(begin, end, cell)
        begin = end
    source[5 * cell :] = np.linspace(begin, size, size - 5 * cell)
    return source


def reference_distortion(image: np.ndarray, p: StrongParameters, i: int) -> np.ndarray:
    height, width = image.shape[:2]
    kind = int(p.distortion[i])
    if kind == Distortion.NONE:
        return image
    if kind == Distortion.GRID:
        x, y = np.meshgrid(
            reference_grid_axis(p.grid_steps[i, 0].tolist(), width),
            reference_grid_axis(p.grid_steps[i, 1].tolist(), height),
        )
    elif kind == Distortion.OPTICAL:
        k = float(p.optical_k[i])
        camera = np.array([[width, 0, width / 2], [0, height, height / 2], [0, 0, 1]])
        lens = np.array([k, k, 0, 0, 0])
        x, y = cv2.initUndistortRectifyMap(camera, lens, None, None, (width, height), cv2.CV_32F)
    else:
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        dx, dy = reference_elastic(p.elastic_noise[i].numpy())
        x = x + cv2.resize(dx, (width, height), interpolation=cv2.INTER_AREA) * width / 224
        y = y + cv2.resize(dy, (width, height), interpolation=cv2.INTER_AREA) * height / 224
    return cv2.remap(
        image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=BORDER
    )


def reference_elastic(noise: np.ndarray) -> np.ndarray:
    """Offsets (2, 224, 224): per-pixel noise with the lattice's means, smoothed pixel by pixel."""
    pixels = np.kron(noise, np.ones((14, 14))) / math.sqrt(3) / 14
    return 3.0 * ndimage.gaussian_filter(pixels, (0, 50, 50), mode="reflect")


def reference_dropout(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    height, width = image.shape[:2]
    unit_y, unit_x = height // 10, width // 10
    for top, left in itertools.product(range(0, height, unit_y), range(0, width, unit_x)):
        image[top : top + unit_y // 2, left : left + unit_x // 2] = 0
    return image


def reference_strong(image: np.ndarray, p: StrongParameters, i: int) -> np.ndarray:
    image = image[:, ::-1] if p.flip_horizontal[i] else image
    image = image[::-1] if p.flip_vertical[i] else image
    image = reference_blur(np.ascontiguousarray(image), p, i)
    image = reference_move(image, p, i) if p.moved[i] else image
    image = reference_distortion(image, p, i)
    image = np.clip(image + p.rgb_shift[i].numpy(), 0, 1)
    image = np.clip(image * float(p.contrast[i]) + float(p.brightness[i]), 0, 1)
    return reference_dropout(image) if p.grid_dropout[i] else image


def largest_difference(
    images: torch.Tensor, p: StrongParameters, reference, result: torch.Tensor
) -> float:
    return max(
        float(np.abs(reference(to_numpy(image), p, i) - to_numpy(result[i])).max())
        for i, image in enumerate(images)
    )


# Blurs


def test_motion_kernels_are_opencv_lines() -> None:
    lines, expected = [], []
    for size in (3, 5, 7):
        radius = size // 2
        for x1, y1, x2, y2 in itertools.product(range(size), repeat=4):
            if (x1, y1) == (x2, y2):
                continue
            kernel = np.zeros((size, size), np.uint8)
            cv2.line(kernel, (x1, y1), (x2, y2), 1, thickness=1)
            lines.append([x1 - radius, y1 - radius, x2 - radius, y2 - radius])
            expected.append(np.pad(kernel / kernel.sum(), 3 - radius))
    kind = torch.full((len(lines),), Blur.MOTION)
    kernels = blurs.kernels_of(blurs.taps_of(kind, torch.tensor(lines)))
    np.testing.assert_allclose(kernels.numpy(), np.stack(expected), atol=1e-7)


def test_motion_lines_have_two_different_ends_within_a_kernel_of_each_size_equally_often() -> None:
    numbers = torch.rand(30_000, 5, generator=seeded(1))
    line = blurs.motion_line_of(numbers)
    radius = (numbers[:, 0] * 3).long() + 1
    x1, y1, x2, y2 = line.unbind(1)
    assert ((x1 != x2) | (y1 != y2)).all()
    assert (line.abs() <= radius[:, None]).all()
    for r in (1, 2, 3):
        of_size = line[radius == r]
        for column in of_size.unbind(1):
            counts = torch.bincount(column + r, minlength=2 * r + 1)
            assert stats.chisquare(counts.numpy()).pvalue > 1e-4
        same_column = (of_size[:, 0] == of_size[:, 2]).float().mean()
        assert abs(float(same_column) - 1 / (2 * r + 1)) < 0.02


@pytest.mark.parametrize("kind", list(Blur))
def test_blurs(kind: Blur) -> None:
    images = noise_pixels(6, 20, 31).float() / 255
    p = replace(identity(6), blur=torch.full((6,), kind))
    result = blurred(images, p)
    assert largest_difference(images, p, reference_blur, result) < 1e-6


def test_blurs_of_a_mixed_batch_leave_the_others_untouched() -> None:
    images = noise_pixels(8, 16, 16).float() / 255
    p = replace(identity(8), blur=torch.tensor([0, 1, 2, 3] * 2))
    result = blurred(images, p)
    assert largest_difference(images, p, reference_blur, result) < 1e-6
    assert torch.equal(result[p.blur == Blur.NONE], images[p.blur == Blur.NONE])


# Warps


def test_flips() -> None:
    images = noise_pixels(4, 5, 6)
    result = augmentation.flip(
        images, torch.tensor([False, True, False, True]), torch.tensor([False, False, True, True])
    )
    for image, flipped, code in zip(images[1:], result[1:], (1, 0, -1), strict=True):
        np.testing.assert_array_equal(to_numpy(flipped), cv2.flip(to_numpy(image), code))
    assert torch.equal(result[0], images[0])


def test_shift_scale_rotate() -> None:
    images = smooth_images(8, 64, 48)
    p = replace(identity(8), moved=torch.ones(8, dtype=torch.bool))
    result = augmentation.warp(images, p)
    assert largest_difference(images, p, reference_move, result) < 0.01  # OpenCV: 1/32 px steps


def test_shift_scale_rotate_of_a_busy_image_is_exact() -> None:
    images = noise_pixels(4, 40, 33).float() / 255
    p = replace(identity(4), moved=torch.ones(4, dtype=torch.bool))
    result = augmentation.warp(images, p)
    for i, image in enumerate(images):
        backwards = np.linalg.inv(affine_matrix(p, i, 40, 33))
        y, x = np.mgrid[:40, :33]
        source = backwards @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        for c in range(3):
            expected = ndimage.map_coordinates(
                image[c].numpy(), source[1::-1], order=1, mode="mirror"
            )
            np.testing.assert_allclose(result[i, c].numpy().ravel(), expected, atol=1e-4)


def test_positive_shifts_and_angles_go_right_down_and_clockwise() -> None:
    images = torch.zeros(1, 3, 65, 65)
    images[0, :, 32, 48] = 1  # right of the centre
    p = replace(
        identity(1),
        moved=torch.ones(1, dtype=torch.bool),
        shift=torch.tensor([[4 / 65, 8 / 65]]),
        scale=torch.ones(1, 2),
        angle=torch.tensor([math.pi / 2]),
    )
    brightest = int(augmentation.warp(images, p)[0, 0].argmax())
    assert divmod(brightest, 65) == (32 + 16 + 8, 32 + 4)


@pytest.mark.parametrize("kind", [Distortion.GRID, Distortion.ELASTIC, Distortion.OPTICAL])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (60, 83)])
def test_distortions(kind: Distortion, height: int, width: int) -> None:
    images = smooth_images(4, height, width)
    p = replace(identity(4), distortion=torch.full((4,), kind))
    result = augmentation.warp(images, p)
    assert largest_difference(images, p, reference_distortion, result) < 0.01


@pytest.mark.parametrize("size", [20, 32, 60, 64, 224])
def test_grid_distortion_follows_the_cells(size: int) -> None:
    steps = 1 + 0.6 * (torch.rand(5, 5, generator=seeded(2)) - 0.5)
    result = warps.grid_distortion_map(steps, size)
    for row_steps, source in zip(steps.tolist(), result.numpy(), strict=True):
        np.testing.assert_allclose(source, reference_grid_axis(row_steps, size), atol=1e-4)


def test_optical_distortion_offsets_are_opencvs() -> None:
    k = torch.tensor([-0.05, 0.02, 0.05])
    x, y = warps.optical_distortion_offsets(k, 50, 70)
    for i in range(3):
        camera = np.array([[70, 0, 35], [0, 50, 25], [0, 0, 1.0]])
        lens = np.array([float(k[i]), float(k[i]), 0, 0, 0])
        map_x, map_y = cv2.initUndistortRectifyMap(camera, lens, None, None, (70, 50), cv2.CV_32F)
        np.testing.assert_allclose(x[i].numpy() + np.arange(70) + 0.5, map_x, atol=1e-4)
        np.testing.assert_allclose(y[i].numpy() + np.arange(50)[:, None] + 0.5, map_y, atol=1e-4)


def test_elastic_offsets_are_smoothed_noise() -> None:
    noise = torch.randn(2, 2, 16, 16, generator=seeded(3))
    result = torch.stack(warps.elastic_offsets(noise, 224, 224), dim=1).numpy()
    expected = np.stack([reference_elastic(one) for one in noise.numpy()])
    assert np.abs(result - expected).max() < 0.02 * expected.std()


def test_elastic_offsets_have_the_covariance_of_noise_smoothed_at_full_resolution() -> None:
    # Smoothing is linear and separable, so the covariance follows from one axis: W Wᵀ.
    full = ndimage.gaussian_filter1d(np.eye(224), 50, axis=0, mode="mirror")
    expected = full @ full.T
    coarse = warps._gaussian_weights(224, torch.device("cpu")).numpy()
    np.testing.assert_allclose(coarse @ coarse.T / 14, expected, rtol=0, atol=0.01 * expected.max())
    centre = expected[112, 112]
    assert 3 * math.sqrt(1 / 3) * centre == pytest.approx(0.0098, rel=0.05)  # px: near identity


@pytest.mark.parametrize("size", [32, 64])
def test_elastic_offsets_shrink_with_the_image(size: int) -> None:
    noise = torch.randn(1, 2, 16, 16, generator=seeded(4))
    large = warps.elastic_offsets(noise, 224, 224)[0]
    small = warps.elastic_offsets(noise, size, size)[0]
    averaged = cv2.resize(large[0].numpy(), (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(small[0].numpy(), averaged * size / 224, rtol=0, atol=1e-4)


@given(st.floats(-1, 2), st.integers(2, 224))
@settings(max_examples=100, deadline=None)
def test_reflection_is_numpys(share: float, size: int) -> None:
    coordinate = share * (size - 1)
    folded = float(warps.reflect(torch.tensor(coordinate, dtype=torch.float64), size))
    padded = np.pad(np.arange(size), size, mode="reflect")
    expected = np.interp(coordinate, np.arange(-size, 2 * size), padded)
    assert folded == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_image_stays_constant_under_blurs_and_warps(value: float) -> None:
    images = torch.full((64, 3, 40, 40), value)
    p = drawn(64, seeded(5))
    result = augmentation.warp(blurred(images, p), p)
    torch.testing.assert_close(result, images, rtol=0, atol=1e-6)


# Colour and dropout


def test_brightness_and_contrast_clip() -> None:
    images = noise_pixels(3, 4, 4).float() / 255
    contrast, brightness = torch.tensor([1.2, 0.8, 1.0]), torch.tensor([0.1, -0.2, 0.0])
    result = augmentation.adjust(images, contrast, brightness)
    for i in range(3):
        expected = np.clip(images[i].numpy() * float(contrast[i]) + float(brightness[i]), 0, 1)
        np.testing.assert_allclose(result[i].numpy(), expected, atol=1e-6)
    assert torch.equal(result[2], images[2])


@pytest.mark.parametrize(
    ("size", "unit", "hole"), [(224, 22, 11), (64, 6, 3), (32, 3, 1), (16, 2, 1)]
)
def test_grid_dropout(size: int, unit: int, hole: int) -> None:
    result = augmentation.drop_grid(torch.ones(2, 3, size, size), torch.tensor([True, False]))
    y, x = np.mgrid[:size, :size]
    expected = ~((y % unit < hole) & (x % unit < hole))
    np.testing.assert_array_equal(result[0].numpy(), np.stack([expected] * 3))
    assert (result[1] == 1).all()


# The whole view


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 80)])
def test_strong_view_is_its_operations_in_order(height: int, width: int) -> None:
    images = smooth_images(24, height, width)
    p = drawn(24, seeded(6))
    result = apply_strong(images, p)
    for i, image in enumerate(images):
        difference = np.abs(reference_strong(to_numpy(image), p, i) - to_numpy(result[i]))
        # The reference interpolates twice, in steps of 1/32 px.
        assert difference.mean() < 0.002
        assert difference.max() < 0.025


YES = torch.ones(4, dtype=torch.bool)
ALONE = {
    "flip": {"flip_horizontal": YES, "flip_vertical": torch.tensor([True, False] * 2)},
    **{f"{kind.name.lower()} blur": {"blur": torch.full((4,), kind)} for kind in list(Blur)[1:]},
    "flipped motion blur": {"blur": torch.full((4,), Blur.MOTION), "flip_horizontal": YES},
    "shift, scale, rotate": {"moved": YES},
    **{
        f"{kind.name.lower()} distortion": {"distortion": torch.full((4,), kind)}
        for kind in list(Distortion)[1:]
    },
    "RGB shift": {"rgb_shift": torch.tensor([[0.05, -0.05, 0.02], [-0.05, 0.01, 0.05]] * 2)},
    "contrast": {"contrast": torch.tensor([0.8, 0.9, 1.1, 1.2])},
    "brightness": {"brightness": torch.tensor([-0.2, -0.1, 0.1, 0.2])},
    "grid dropout": {"grid_dropout": YES},
}


@pytest.mark.parametrize("operation", ALONE)
def test_each_operation_alone(operation: str) -> None:
    images = smooth_images(4, 64, 64)
    p = replace(identity(4), **ALONE[operation])
    result = apply_strong(images, p)
    assert largest_difference(images, p, reference_strong, result) < 0.01  # OpenCV: 1/32 px steps
    near_identity = operation == "elastic distortion"
    assert near_identity or float((result - images).abs().amax((1, 2, 3)).min()) > 0.01


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_and_batches(size: int, batch: int) -> None:
    pixels = noise_pixels(batch, size, size)
    for view in VIEWS.all().values():
        result = view(pixels, seeded(7))
        assert result.shape == pixels.shape
        assert result.dtype == torch.float32
        assert result.isfinite().all()
    assert pixels.equal(noise_pixels(batch, size, size)), "the store's pixels were written to"


def test_nothing_chosen_gives_the_normalised_image() -> None:
    pixels = noise_pixels(5, 32, 48)
    result = augmentation.normalise(apply_strong(pixels.float() / 255, identity(5)))
    torch.testing.assert_close(result, VIEWS["test"](pixels, seeded(0)), rtol=0, atol=5e-5)


def test_values_stay_in_range() -> None:
    images = noise_pixels(128, 32, 32).float() / 255
    result = apply_strong(images, drawn(128, seeded(8)))
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


def test_images_of_a_batch_get_different_parameters() -> None:
    pixels = noise_pixels(1, 32, 32).expand(64, -1, -1, -1)
    views = VIEWS["strong"](pixels, seeded(9)).flatten(1)
    distinct = len(views.unique(dim=0))
    assert distinct >= 60  # a few may have nothing chosen but flips
    two = [VIEWS["strong"](pixels, seeded(9)) for _ in range(2)]
    assert torch.equal(*two)
    assert not torch.equal(two[0], VIEWS["strong"](pixels, seeded(10)))


def test_an_image_does_not_depend_on_its_batch() -> None:
    images = noise_pixels(12, 32, 32).float() / 255
    p = drawn(12, seeded(11))
    result = apply_strong(images, p)
    for i in range(12):
        alone = apply_strong(images[i : i + 1], row(p, i))
        torch.testing.assert_close(result[i : i + 1], alone, rtol=0, atol=1e-5)


def test_only_the_given_generator_is_used() -> None:
    pixels = noise_pixels(8, 32, 32)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = VIEWS["strong"](pixels, seeded(12))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, VIEWS["strong"](pixels, seeded(12)))


def test_weak_view_is_flips_only() -> None:
    pixels = noise_pixels(64, 8, 8)
    plain = VIEWS["test"](pixels, seeded(0))
    weak = VIEWS["weak"](pixels, seeded(13))
    seen = set()
    for image, view in zip(plain, weak, strict=True):
        matches = [dims for dims in ((), (1,), (2,), (1, 2)) if torch.equal(view, image.flip(dims))]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 4


def test_test_view_is_imagenet_normalisation() -> None:
    pixels = noise_pixels(2, 4, 4)
    result = VIEWS["test"](pixels, seeded(0)).numpy()
    for c in range(3):
        expected = (pixels[:, c].numpy() / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        np.testing.assert_allclose(result[:, c], expected, atol=1e-6)


# What is drawn

DRAWS = 20_000


@pytest.fixture(scope="module")
def many() -> StrongParameters:
    return drawn(DRAWS, seeded(14))


def assert_frequency(chosen: torch.Tensor, probability: float) -> None:
    result = stats.binomtest(int(chosen.sum()), DRAWS, probability)
    assert result.pvalue > 1e-4, f"{float(chosen.float().mean()):.4f}, not {probability}"


def test_frequencies(many: StrongParameters) -> None:
    assert_frequency(many.flip_horizontal, 0.5)
    assert_frequency(many.flip_vertical, 0.5)
    for kind, probability in zip(Blur, (0.5, 0.25, 0.125, 0.125), strict=True):
        assert_frequency(many.blur == kind, probability)
    assert_frequency(many.moved, 0.5)
    for distortion in Distortion:
        probability = 0.3 if distortion == Distortion.NONE else 0.7 / 3
        assert_frequency(many.distortion == distortion, probability)
    assert_frequency((many.rgb_shift != 0).all(1), 0.5)
    assert_frequency(many.contrast != 1, 0.5)
    assert_frequency(many.grid_dropout, 0.2)


def test_choices_are_independent(many: StrongParameters) -> None:
    chosen = {
        "horizontal": many.flip_horizontal,
        "vertical": many.flip_vertical,
        "blur": many.blur > 0,
        "moved": many.moved,
        "distortion": many.distortion > 0,
        "shifted": (many.rgb_shift != 0).any(1),
        "adjusted": many.contrast != 1,
        "dropout": many.grid_dropout,
    }
    correlation = np.corrcoef(np.stack([c.numpy() for c in chosen.values()]))
    assert np.abs(correlation - np.eye(len(chosen))).max() < 4.5 / math.sqrt(DRAWS)


def test_ranges(many: StrongParameters) -> None:
    shifted, adjusted = many.rgb_shift[:, 0] != 0, many.contrast != 1
    assert torch.equal(adjusted, many.brightness != 0)
    for values, centre, limit in [
        (many.shift, 0, 0.0625),
        (many.scale, 1, 0.2),
        (many.angle, 0, math.pi / 4),
        (many.grid_steps, 1, 0.3),
        (many.optical_k, 0, 0.05),
        (many.rgb_shift[shifted], 0, 15 / 255),
        (many.contrast[adjusted], 1, 0.2),
        (many.brightness[adjusted], 0, 0.2),
    ]:
        scaled = (values.double().flatten().numpy() - centre) / limit
        assert np.abs(scaled).max() <= 1 + 1e-6
        assert stats.kstest(scaled, "uniform", args=(-1, 2)).pvalue > 1e-4
    assert many.elastic_noise[:500].std() == pytest.approx(1, abs=0.01)


# Compiled

COMPILED = ("strong", "weak", "test")  # as a whole


def everything(view: str, seed: int) -> tuple[torch.Tensor, ...]:
    """What a view's ``apply`` takes: of enough images for every blur and distortion to occur."""
    return noise_pixels(48, 14, 18, seed), *VIEWS[view].draw(48, seeded(seed))


def assert_nearly_equal(result: torch.Tensor, expected: torch.Tensor) -> None:
    # Places are rounded to about 1e-6 of the image's side, and these images are noise.
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


def traced(function, *arguments: torch.Tensor) -> tuple[torch.Tensor, set[str]]:
    """The result of the function's graph, and what in it would make the CPU wait for a GPU: shapes
    that depend on values, copies from one device to another, constants made on the CPU."""
    waits = set()

    def look(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]):
        for node in graph.graph.nodes:
            name = str(node.target)
            if node.op == "get_attr" or "lift_fresh" in name:
                waits.add("constant")
            if "_to_copy" in name and node.kwargs.get("device") is not None:
                waits.add("copy")
            if any(word in name for word in ("nonzero", "local_scalar", "masked_select", "unique")):
                waits.add("value")
            if "index" in name and any(i.meta["val"].dtype == torch.bool for i in node.args[1]):
                waits.add("mask")
        return make_boxed_func(graph.forward)

    compiled = torch.compile(function, backend=aot_autograd(fw_compiler=look), fullgraph=True)
    return compiled(*arguments), waits


@pytest.mark.parametrize("view", COMPILED)
def test_a_traced_view_is_the_eager_one_and_never_waits_for_a_gpu(view: str) -> None:
    arguments = everything(view, 17)
    result, waits = traced(VIEWS[view].apply, *arguments)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_nearly_equal(result, VIEWS[view].apply(*arguments))
    assert waits == set()


@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_what_waits_for_a_gpu_is_found() -> None:
    x = torch.rand(4, generator=seeded(0))
    assert traced(lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]), x)[1] == {"constant"}
    assert traced(lambda x: x.to("meta"), x)[1] == {"copy"}
    assert traced(lambda x: x[x > 0.5], x)[1] == {"mask"}
    assert traced(lambda x: x.nonzero(), x)[1] == {"value"}


def test_the_compiled_strong_view_is_the_eager_one_and_serves_the_next_batch_too() -> None:
    # Without vector instructions the C++ compiler needs a third less time.
    options = {"cpp.simdlen": 1}
    view = VIEWS["strong"]
    compiled = torch.compile(view.apply, fullgraph=True, dynamic=False, options=options)
    for seed, stance in ((18, "default"), (19, "fail_on_recompile")):
        arguments = everything("strong", seed)
        with torch.compiler.set_stance(stance):
            result = compiled(*arguments)
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert_nearly_equal(result, view.apply(*arguments))


def test_off_the_cpu_no_shape_depends_on_values() -> None:
    # Tensors of the meta device have no values: to look at one is an error.
    p = drawn(8, seeded(16))
    valueless = StrongParameters(**{f.name: getattr(p, f.name).to("meta") for f in fields(p)})
    result = apply_strong(torch.empty(8, 3, 32, 32, device="meta"), valueless)
    assert augmentation.normalise(result).shape == (8, 3, 32, 32)
    with pytest.raises(RuntimeError):
        valueless.moved.any().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("execution", ["eager", "compiled"])
@pytest.mark.parametrize("view", COMPILED)
def test_gpu_gives_the_same_images_and_never_waits(view: str, execution: str) -> None:
    apply = VIEWS[view].apply
    on_device = torch.compile(apply, fullgraph=True) if execution == "compiled" else apply
    arguments = everything(view, 15)
    device_arguments = [argument.cuda() for argument in arguments]
    generator = torch.Generator("cuda").manual_seed(0)
    on_device(*device_arguments)  # compiling may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        VIEWS[view].draw(48, generator)
        result = on_device(*device_arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Elastic offsets may be multiplied in TF32, convolutions too.
    torch.testing.assert_close(result.cpu(), apply(*arguments), rtol=0, atol=2e-2)


def _nothing(batch: int, generator: torch.Generator) -> tuple[()]:
    return ()


@pytest.mark.parametrize(
    ("draw", "apply", "message"),
    [
        (_nothing, lambda: None, "can't be made of images: TypeError"),
        (lambda n: (), lambda pixels: pixels / 255, "can't be made of images: TypeError"),
        (_nothing, lambda pixels: pixels, "made torch.uint8 (2, 3, 32, 32) of images"),
        (_nothing, lambda pixels: pixels.double(), "it must return float32 of the same shape"),
        (_nothing, lambda pixels: pixels[:, :1].float(), "made torch.float32 (2, 1, 32, 32)"),
        (
            lambda n, generator: torch.rand(n, generator=generator),
            lambda pixels, numbers: pixels.float(),
            "its draw returned Tensor; return a tuple of tensors, as in (numbers,)",
        ),
        (_nothing, lambda pixels: None, "returned no tensor but NoneType"),
    ],
)
def test_what_is_no_view_is_refused_in_one_line(draw, apply, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        register_view("odd", draw)(apply)
    assert "view 'odd'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "odd" not in VIEWS
