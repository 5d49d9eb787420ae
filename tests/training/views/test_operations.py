"""Each operation beside Pillow's own, by torchvision's functional transforms where it has it."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional as TF

from lmdbench.training.views import blurs
from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD, VIEWS
from lmdbench.training.views.operations import NONE, Operation, operate

HEIGHT, WIDTH = 42, 32


def factor(share: float) -> float:
    return 0.1 + 1.8 * share


def add_and_solarise(image: Image.Image, share: float) -> Image.Image:
    brighter = np.clip(np.array(image) + 110 * share, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), 128)


# Operation → what the official code makes of an image, at a share of the range
POINTWISE = {
    Operation.FLIP: lambda i, s: TF.vflip(i),
    Operation.MIRROR: lambda i, s: TF.hflip(i),
    Operation.EDGE_ENHANCE: lambda i, s: i.filter(ImageFilter.EDGE_ENHANCE),
    Operation.DETAIL: lambda i, s: i.filter(ImageFilter.DETAIL),
    Operation.SMOOTH: lambda i, s: i.filter(ImageFilter.SMOOTH),
    Operation.AUTOCONTRAST: lambda i, s: TF.autocontrast(i),
    Operation.EQUALISE: lambda i, s: TF.equalize(i),
    Operation.INVERT: lambda i, s: TF.invert(i),
    Operation.POSTERISE: lambda i, s: TF.posterize(i, max(1, int(4 * s))),
    Operation.SOLARISE: lambda i, s: TF.solarize(i, 256 * s),
    Operation.SOLARISE_ADD: add_and_solarise,
    Operation.COLOUR: lambda i, s: TF.adjust_saturation(i, factor(s)),
    Operation.CONTRAST: lambda i, s: TF.adjust_contrast(i, factor(s)),
    Operation.BRIGHTNESS: lambda i, s: TF.adjust_brightness(i, factor(s)),
    Operation.SHARPNESS: lambda i, s: TF.adjust_sharpness(i, factor(s)),
}


def sheared(image: Image.Image, by_y: float, by_x: float) -> Image.Image:
    matrix = (1, by_y, 0, by_x, 1, 0)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


MOVED = {
    Operation.ROTATE: lambda i, s: i.rotate(30 * s, resample=Image.Resampling.BILINEAR),
    Operation.SHEAR_X: lambda i, s: sheared(i, 0.3 * s, 0),
    Operation.SHEAR_Y: lambda i, s: sheared(i, 0, 0.3 * s),
    Operation.ZOOM: lambda i, s: TF.affine(
        i, 0, [0, 0], 1 + 0.5 * s, [0, 0], TF.InterpolationMode.BILINEAR
    ),
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(30, 220, (4, 3, HEIGHT // 2, WIDTH // 2), generator=generator).float()
    return torch.nn.functional.interpolate(noise, size=(HEIGHT, WIDTH), mode="bilinear").round()


def made(images: Tensor, operation: Operation, share: float, sign: float = 1.0) -> Tensor:
    ones = torch.ones(len(images))
    return operate(images, ones.long() * operation.value, ones * share, ones * sign)


def expected(function, images: Tensor, share: float) -> Tensor:
    pictures = (Image.fromarray(i.permute(1, 2, 0).byte().numpy()) for i in images)
    arrays = [np.array(function(picture, share)) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("level", [1, 6, 10, 30])
@pytest.mark.parametrize("operation", POINTWISE, ids=lambda o: o.name)
def test_what_stays_in_place_is_pillows_to_a_level(images, operation, level):
    off = made(images, operation, level / 30) - expected(POINTWISE[operation], images, level / 30)
    assert off.abs().max() <= 1
    assert (off != 0).float().mean() < 0.2


@pytest.mark.parametrize("level", [1, 6, 10])
@pytest.mark.parametrize("operation", MOVED, ids=lambda o: o.name)
def test_what_moves_is_pillows_bilinear_one(images, operation, level):
    """But at the border, where Pillow takes no half pixels."""
    off = made(images, operation, level / 30) - expected(MOVED[operation], images, level / 30)
    assert off.abs().median() <= 1
    assert off.abs()[..., 13:-13, 10:-10].max() <= 3


@pytest.mark.parametrize(
    ("operation", "axis"), [(Operation.TRANSLATE_X, 3), (Operation.TRANSLATE_Y, 2)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_translations_are_in_shares_of_the_side(images, operation, axis, sign):
    """By 10 px of 32 at a share of .1, black where nothing was."""
    square = images[:, :, :WIDTH]
    result = made(square, operation, 0.1, sign).movedim(axis, 0)
    source = square.movedim(axis, 0)
    if sign < 0:
        result, source = result.flip(0), source.flip(0)
    assert torch.equal(result[:22], source[10:])
    assert result[22:].abs().max() == 0


@pytest.mark.parametrize("level", [1, 6, 10])
def test_the_blur_is_a_gaussian(images, level):
    result = made(images, Operation.BLUR, level / 30)
    reference = TF.gaussian_blur(images, [7, 7], [2 * level / 30] * 2)
    assert (result - reference)[..., 3:-3, 3:-3].abs().max() <= 0.51


def test_flat_images_stay_what_they_are_where_contrast_is_stretched():
    flat = torch.full((2, 3, 8, 8), 77.0)
    for operation in (Operation.AUTOCONTRAST, Operation.EQUALISE):
        assert torch.equal(made(flat, operation, 0.1), flat)


def test_each_image_has_its_own_operation(images):
    many = images[:1].expand(len(Operation) + 1, -1, -1, -1)
    operations = torch.tensor([NONE, *(o.value for o in Operation)])
    share, sign = torch.full((len(many),), 0.2), torch.ones(len(many))
    together = operate(many, operations, share, sign)
    assert torch.equal(together[0], images[0])
    for kind in Operation:
        assert torch.equal(together[1 + kind], made(images[:1], kind, 0.2)[0]), kind.name


def test_operations_of_a_gpu_are_those_of_the_cpu(images, monkeypatch):
    """Which makes all of them of every image."""

    def everywhere(chosen, images, function, *arguments):
        return torch.where(chosen[:, None, None, None], function(images, *arguments), images)

    many = images[:1].expand(len(Operation) + 1, -1, -1, -1)
    operations = torch.tensor([NONE, *(o.value for o in Operation)])
    arguments = (many, operations, torch.full((len(many),), 0.2), torch.ones(len(many)))
    picked = operate(*arguments)
    monkeypatch.setattr(blurs, "_apply_where", everywhere)
    assert torch.equal(operate(*arguments), picked)


def test_off_the_cpu_no_shape_depends_on_values():
    """Tensors of the meta device have no values: to look at one is an error."""
    numbers = (torch.empty(4, *shape, device="meta") for shape in ((2,), (20,), ()))
    pixels = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")
    assert VIEWS["levels"].apply(pixels, *numbers).shape == pixels.shape


def test_a_compiled_view_is_the_eager_one():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=generator)
    flips, numbers, levels = VIEWS["levels"].draw(8, generator)
    apply = VIEWS["levels"].apply
    compiled = torch.compile(apply, backend="eager", dynamic=False)
    arguments = (pixels, flips, numbers, levels + torch.arange(8))
    assert torch.equal(compiled(*arguments), apply(*arguments))


def test_the_view_flips_and_makes_as_many_operations_as_the_level_says():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    view = VIEWS["levels"]
    flips, numbers, levels = view.draw(64, generator)
    assert levels.tolist() == [0] * 64
    assert torch.equal(
        view.apply(pixels, flips, numbers, levels), VIEWS["weak"].apply(pixels, flips)
    )
    inverted = torch.full_like(numbers, (Operation.INVERT + 0.5) / len(Operation))
    never = torch.ones_like(flips)
    for level in (1, 2, 3):
        result = view.apply(pixels, never, inverted, levels + level)
        shown = pixels if level % 2 == 0 else 255 - pixels
        torch.testing.assert_close(result, VIEWS["test"].apply(shown))


ONE = VIEWS["operation"]


def told(images: Tensor, operation: Operation, share: float, direction: float = 0.9) -> Tensor:
    """What the view makes of images that it does not flip, as grey levels."""
    n = len(images)
    numbers = torch.tensor([[share, direction]]).expand(n, 2)
    view = ONE.apply(images.byte(), torch.ones(n, 2), numbers, torch.full((n,), operation.value))
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (view * std[:, None, None] + mean[:, None, None]) * 255


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("operation", [Operation.INVERT, Operation.DETAIL, Operation.EQUALISE])
def test_the_one_operation_is_pillows(images, operation, share):
    off = told(images, operation, share) - expected(POINTWISE[operation], images, share)
    assert off.abs().max() <= 1.01


@pytest.mark.parametrize("share", [0.1, 0.4, 0.75, 0.99])
def test_the_one_blur_is_a_gaussian_up_to_its_largest(images, share):
    reference = TF.gaussian_blur(images, [17, 17], [2 * share] * 2)
    assert (told(images, Operation.BLUR, share) - reference)[..., 8:-8, 8:-8].abs().max() <= 0.9
    pillows = expected(lambda i, s: i.filter(ImageFilter.GaussianBlur(2 * s)), images, share)
    assert (told(images, Operation.BLUR, share) - pillows)[..., 8:-8, 8:-8].abs().max() <= 6


@pytest.mark.parametrize("direction", [0.1, 0.9])
def test_the_one_turn_goes_either_way(images, direction):
    sign = 1 if direction > 0.5 else -1
    turned = told(images, Operation.ROTATE, 0.5, direction)
    reference = expected(lambda i, s: i.rotate(sign * 15, Image.Resampling.BILINEAR), images, 0)
    assert (turned - reference).abs().median() <= 1


def test_the_one_operation_comes_after_the_flips_and_may_be_none():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    flips, numbers, none = ONE.draw(64, generator)
    assert none.tolist() == [NONE] * 64
    weak = VIEWS["weak"].apply
    assert torch.equal(ONE.apply(pixels, flips, numbers, none), weak(pixels, flips))
    inverted = ONE.apply(pixels, flips, numbers, none * 0 + Operation.INVERT.value)
    torch.testing.assert_close(inverted, weak(255 - pixels, flips))
    chosen = torch.arange(64) % 12 - 1
    compiled = torch.compile(ONE.apply, backend="eager", dynamic=False)
    arguments = (pixels, flips, numbers, chosen)
    assert torch.equal(compiled(*arguments), ONE.apply(*arguments))
    meta = [x.to("meta") for x in (pixels, flips, numbers, none)]
    assert ONE.apply(*meta).shape == pixels.shape
