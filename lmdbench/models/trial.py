"""A network tried on images that are not there: what it makes of them, and what it can't take."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.classifier import Encoder
from lmdbench.models.stages import says_stages, stages_of

Problem = Callable[[nn.Module, int], str]  # a network and an image size → why not; empty: none
LEAST_STAGES = 3  # of a network that says them: `ride` shares the first and copies the last two
STEPS = (14, 16, 32)  # pixels: of patches, and of networks that halve an image five times


def features_of(name: str, construct: Callable[[], nn.Module], image_size: int) -> int:
    """The number of features that a network makes of images of a size, told without computing them
    where it lets itself be tried on torch's meta device.

    Raises UserError for what is no network without a classifier, or takes no such images."""
    tried = (2, 3, image_size, image_size)
    network, features = _features(name, construct, tried)
    _features(name, construct, (1, *tried[1:]))
    body = network.body if isinstance(network, Encoder) else network
    if says_stages(body):
        _check_stages(name, body, features, tried)
    if construct() is network:
        raise UserError(
            f"backbone {name!r} is the same network each time; make a new one, with new weights, "
            "in the function"
        )
    return int(features.shape[1])


def tried(
    name: str, construct: Callable[[int], nn.Module], image_size: int, own: int, problem: Problem
) -> tuple[nn.Module, int]:
    """A library's network as it is constructed for a size, without numbers, and the number of
    features that it makes of images of that size. ``problem`` says why a network that takes them
    had better not; ``own`` is the size that its published weights are for.

    Raises UserError where it does not take them, with sizes next to it that it does.
    """
    try:
        images = (2, 3, image_size, image_size)
        network, features = _features(name, lambda: construct(image_size), images)
        why = "" if image_size == own else problem(network, image_size)
        if why:
            raise UserError(f"backbone {name!r} at {image_size} px: {why}")
    except UserError as error:
        sizes = _sizes_near(construct, image_size, own, problem)
        hint = f"; give --image-size {' or '.join(map(str, sizes))}" if sizes else ""
        raise UserError(f"{error}{hint}") from error
    return network, int(features.shape[1])


def _sizes_near(
    construct: Callable[[int], nn.Module], image_size: int, own: int, problem: Problem
) -> list[int]:
    """The sizes next to one that a network does not take, below and above, that it takes."""
    below, above = (
        [rounded(image_size / step) * step for step in STEPS] for rounded in (floor, ceil)
    )

    def takes(size: int) -> bool:
        try:
            network, _ = _tried(lambda: construct(size), "meta", (2, 3, size, size))
        except Exception:
            return False
        return size == own or not problem(network, size)

    smaller = next(filter(takes, sorted({*below} - {0, image_size}, reverse=True)), None)
    larger = next(
        filter(takes, sorted({size for size in (*above, own) if size > image_size})), None
    )
    return [size for size in (smaller, larger) if size is not None]


def _features(
    name: str, construct: Callable[[], nn.Module], images: tuple[int, ...]
) -> tuple[nn.Module, Tensor]:
    """A network, and the features that it makes of images of that shape. Raises UserError for what
    is no network, or other than features."""
    try:
        network, features = _tried(construct, "meta", images)
    except Exception:  # it looks at numbers, which are not there
        try:
            network, features = _tried(construct, "cpu", images)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"backbone {name!r} can't make features of images {images}: {_reason(error)}"
            ) from error
    shape = tuple(features.shape) if isinstance(features, Tensor) else ()
    if shape[:1] != images[:1] or len(shape) not in (2, 4) or any(n != 1 for n in shape[2:]):
        raise UserError(
            f"backbone {name!r} makes {shape or type(features).__name__} of images {images}; it "
            f"must make features ({images[0]}, D), one row an image: pool them, and leave its "
            "classifier out"
        )
    if features.dtype != torch.float32:
        raise UserError(f"backbone {name!r} makes features of {features.dtype}, not of float32")
    return network, features


def _tried(
    construct: Callable[[], nn.Module], device: str, images: tuple[int, ...]
) -> tuple[nn.Module, Any]:
    """A network, and what it makes of images of that shape."""
    with torch.device(device), torch.random.fork_rng(devices=[]), torch.no_grad():
        network = construct()
        if not isinstance(network, nn.Module):
            raise TypeError(f"the function returned {type(network).__name__}, no nn.Module")
        return network, network.eval()(torch.zeros(images))


def _check_stages(name: str, body: nn.Module, features: Tensor, images: tuple[int, ...]) -> None:
    """Raise UserError unless the network's stages, one after the other, can be the network."""
    where = f"backbone {name!r}: its stages()"
    try:
        stages = stages_of(body)
        if not all(isinstance(stage, nn.Module) for stage in stages) or len(stages) < LEAST_STAGES:
            raise UserError(f"{where} must list {LEAST_STAGES} modules or more, stem first")
        with torch.no_grad():
            made = nn.Sequential(*stages).eval()(torch.zeros(images, device=features.device))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where} can't follow one another: {_reason(error)}") from error
    if made.shape != features.flatten(1).shape:
        raise UserError(
            f"{where} make {tuple(made.shape)} of images {images}, the network itself "
            f"{tuple(features.flatten(1).shape)}; the last one must pool and flatten"
        )
    theirs = {id(p) for stage in stages for p in stage.parameters()}
    if theirs != {id(p) for p in body.parameters()}:
        raise UserError(f"{where} must have the parameters of the network, all of them and no more")


def _reason(error: Exception) -> str:
    first_line = str(error).strip().split("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first_line}"
