"""A small long-tailed data set that is drawn, not photographed: for demonstrations and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.core.files import check_cache
from lmdbench.data.dataset import PARTS, Dataset, Part, Split, register_dataset
from lmdbench.data.groups import by_rank
from lmdbench.data.splits.divide import check_seed
from lmdbench.data.store.build_once import make_once

SIZE = 48  # pixels
LARGEST_CLASS = 500  # training images
FACTORS = (20.0, 500.0)  # imbalance factors for which images are drawn
HELD_OUT = {"validation": 15, "test": 50}  # images a class: balanced, unlike training
SEED = 20250  # of the drawings


@dataclass(frozen=True)
class Look:
    """How a class is drawn: its kind of lesion and the one thing that sets it apart."""

    base: str  # round, ragged or pink
    mark: str = ""  # dots, streaks or veil


# Class → look, from the largest class to the smallest. Every tail class looks like a larger one but
# for its mark.
CLASSES = {
    "round-plain": Look("round"),
    "ragged-plain": Look("ragged"),
    "pink-plain": Look("pink"),
    "ragged-streaked": Look("ragged", "streaks"),
    "pink-dotted": Look("pink", "dots"),
    "round-dotted": Look("round", "dots"),
    "ragged-veiled": Look("ragged", "veil"),
    "round-streaked": Look("round", "streaks"),
}


def class_sizes(imbalance_factor: float) -> list[int]:
    """Training images of each class: an exponential decline (Cui et al., CVPR 2019)."""
    steps = len(CLASSES) - 1
    return [round(LARGEST_CLASS * imbalance_factor ** (-i / steps)) for i in range(len(CLASSES))]


# Class → images drawn, of which a split takes as many for training as its factor says.
IMAGES = {
    name: most + sum(HELD_OUT.values())
    for name, most in zip(CLASSES, class_sizes(FACTORS[0]), strict=True)
}


@register_dataset("demo")
class Demo(Dataset):
    title = "Drawn lesions"
    source = "drawn by lmdbench itself; shows how methods behave, says nothing about medicine"
    licence = "MIT, as lmdbench"
    synthetic = True
    needs_root = False
    default_imbalance_factor = 100.0

    class_sizes = IMAGES

    image_size = SIZE
    backbone = "small"
    weights = "none"
    recipes = {  # for a thousand small images and a small network, trained from nothing
        "all": {"epochs": 20, "batch_size": 64, "lr": 0.05, "schedule": "cosine"},
        "head": {"batch_size": 64, "lr": 0.1},
    }

    @property
    def image_root(self) -> Path:
        return self.cache / "demo-v1"

    @property
    def makes_images(self) -> bool:
        return True

    def records(self) -> pd.DataFrame:
        rows = [(image, label, _file(image, label), "") for image, label, _ in _pool()]
        table = pd.DataFrame(rows, columns=["image", "label", "file", "group"])
        return table.set_index("image")

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        """Long-tailed training images, chosen by ``seed``; balanced validation and test images."""
        factor = self.default_imbalance_factor if imbalance_factor is None else imbalance_factor
        if not FACTORS[0] <= factor <= FACTORS[1]:
            raise UserError(
                f"demo: imbalance factor {factor:g} is impossible, it has images for "
                f"{FACTORS[0]:g} to {FACTORS[1]:g}"
            )
        rng = np.random.RandomState(check_seed(seed))
        sizes = class_sizes(factor)
        parts = {}
        for part in PARTS:
            images = [
                np.array([image for image, label, where in _pool() if (label, where) == (c, part)])
                for c in CLASSES
            ]
            if part == "train":
                drawn = zip(images, sizes, strict=True)
                images = [np.sort(rng.permutation(of_class)[:size]) for of_class, size in drawn]
            labels = np.repeat(np.arange(len(images)), [len(of_class) for of_class in images])
            parts[part] = Part(np.concatenate(images), labels)
        classes = tuple(CLASSES)
        groups = by_rank(classes, sizes)
        return Split("drawn", classes, parts, groups.members, seed, factor, group_rule=groups.rule)

    def materialise(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Draw all images into the cache, unless they are there. A few seconds.

        One process draws, into a folder that it renames at the end; others wait for it.
        """
        if self._is_complete():
            return
        check_cache(self.cache)
        say("drawing the demo images, once")
        make_once(self.image_root, self._is_complete, _draw_all)

    def _is_complete(self) -> bool:
        return all((self.image_root / _file(image, label)).is_file() for image, label, _ in _pool())


def _draw_all(folder: Path) -> None:
    for label in CLASSES:
        (folder / label).mkdir()
    for image, label, _ in _pool():
        drawn = Image.fromarray(draw(image, CLASSES[label]))
        drawn.save(folder / _file(image, label), compress_level=1)


def _file(image: str, label: str) -> str:
    return f"{label}/{image}.png"


def _pool() -> Iterator[tuple[str, str, str]]:
    """Id, class and part of every image that is ever drawn."""
    for label, most in zip(CLASSES, class_sizes(FACTORS[0]), strict=True):
        for part in PARTS:
            for i in range(HELD_OUT.get(part, most)):
                yield f"{label}-{part}-{i:03}", label, part


# Drawing. RandomState and float64, because their results do not depend on numpy's version or the
# processor, so that the same pixels come out everywhere.

AXIS = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1  # -1 … 1
GRID = np.stack(np.meshgrid(AXIS, AXIS))  # x, y
CIRCLE = np.linspace(-np.pi, np.pi, 181)  # angles
SKIN = np.array([[240, 208, 186], [228, 184, 152], [205, 155, 120], [176, 124, 92]], float)
PIGMENT = {
    "round": np.array([[146, 98, 66], [122, 80, 52], [166, 116, 80]], float),
    "ragged": np.array([[86, 56, 44], [66, 44, 38], [108, 70, 54]], float),
    "pink": np.array([[214, 122, 116], [200, 104, 104], [222, 140, 124]], float),
}
RAGGEDNESS = {"round": 0.012, "ragged": 0.07, "pink": 0.035}  # of the border, of its radius
VEIL = np.array([96.0, 112, 142])
HAIR = np.array([52.0, 38, 30])


def draw(image: str, look: Look) -> np.ndarray:
    """An image (SIZE, SIZE, 3) uint8 of that look; its id alone decides the rest."""
    rng = np.random.RandomState(np.frombuffer(f"{SEED} {image}".encode(), np.uint8))
    skin, pigment = _mix(SKIN, rng), _mix(PIGMENT[look.base], rng)

    x, y = GRID - rng.uniform(-0.16, 0.16, (2, 1, 1))
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.2)
    u = (x * np.cos(turn) + y * np.sin(turn)) * stretch
    v = (y * np.cos(turn) - x * np.sin(turn)) / stretch
    radius, angle = np.hypot(u, v), np.arctan2(v, u)

    size = rng.uniform(0.42, 0.64)
    waves = np.arange(2, 9)[:, None]
    phases = rng.uniform(0, 2 * np.pi, waves.shape)
    heights = rng.normal(0, 1, waves.shape) * RAGGEDNESS[look.base] * rng.uniform(0.7, 1.3)
    border = (np.cos(waves * CIRCLE + phases) * heights).sum(axis=0)
    depth = size * (1 + np.interp(angle, CIRCLE, border)) - radius  # above 0 inside the lesion

    softness = rng.uniform(0.06, 0.18) * (1.8 if look.base == "pink" else 1.0)
    mottle = 1 + rng.uniform(0.03, 0.10) * _clouds(rng)
    canvas = skin * (1 + 0.02 * _clouds(rng))[..., None]
    inside = rng.uniform(0.65, 0.95) * _ramp(depth, softness)
    canvas = _blend(canvas, pigment * mottle[..., None], inside)

    dark = pigment * 0.5
    canvas = _blend(canvas, dark, _dots(rng, depth, look.mark == "dots"))
    canvas = _blend(canvas, dark, _streaks(rng, depth, angle, look.mark == "streaks"))
    canvas = _blend(canvas, VEIL, _veil(rng, depth, size, look.mark == "veil"))
    canvas = _blend(canvas, HAIR, _hairs(rng))

    light = rng.uniform(-0.14, 0.14, (2, 1, 1))
    canvas = canvas * (rng.uniform(0.88, 1.1) + (light * GRID).sum(axis=0))[..., None]
    canvas = canvas + rng.normal(0, rng.uniform(3, 7), canvas.shape)
    return canvas.round().clip(0, 255).astype(np.uint8)


def _mix(colours: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """A random colour (3,) among the given ones (K, 3)."""
    shares = rng.dirichlet(np.ones(len(colours)))
    return shares @ colours + rng.normal(0, 4, 3)


def _ramp(values: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 over a band of that width around 0."""
    return (values / width + 0.5).clip(0, 1)


def _blend(canvas: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Paint a colour (3,) or (SIZE, SIZE, 3) over, as opaque as ``share`` (SIZE, SIZE) says."""
    return canvas + (colour - canvas) * share[..., None]


def _clouds(rng: np.random.RandomState) -> np.ndarray:
    """Smooth noise (SIZE, SIZE) of unit variance: a few random waves."""
    waves, phases = rng.normal(0, 5, (2, 4, 1)), rng.uniform(0, 2 * np.pi, (4, 1))
    a, b = waves[0] * AXIS + phases, waves[1] * AXIS
    # cos(a + b), by rows and columns
    parts = np.cos(a)[:, None] * np.cos(b)[..., None] - np.sin(a)[:, None] * np.sin(b)[..., None]
    return parts.sum(axis=0) / np.sqrt(2)


# Marks. Each gives an opacity (SIZE, SIZE). Images without the mark have a little of it, too.


def _dots(rng: np.random.RandomState, depth: np.ndarray, marked: bool) -> np.ndarray:
    """Dark dots inside the lesion: many, or at most two."""
    number = rng.randint(9, 16) if marked else rng.randint(0, 3)
    contrast = rng.uniform(0.65, 0.95)
    if number == 0:
        return np.zeros_like(depth)
    spots = np.argwhere(depth > 0.08)
    x, y = GRID[:, *spots[rng.randint(0, len(spots), number)].T][:, :, None, None]
    sizes = rng.uniform(0.055, 0.09, (number, 1, 1))
    dots = _ramp(sizes - np.hypot(GRID[0] - x, GRID[1] - y), 0.05)
    return contrast * dots.max(axis=0)


def _streaks(
    rng: np.random.RandomState, depth: np.ndarray, angle: np.ndarray, marked: bool
) -> np.ndarray:
    """Dark rays along the border: on all of it, or on a small part."""
    number = rng.randint(9, 14)
    phase, where = rng.uniform(0, 2 * np.pi, 2)
    contrast, reach = rng.uniform(0.65, 0.95), rng.uniform(0.16, 0.26)
    rays = _ramp(np.cos(number * angle + phase) - 0.3, 0.8)
    ring = _ramp(reach - depth, 0.12) * _ramp(depth + 0.09, 0.08)
    part = 1.0 if marked else _ramp(np.cos(angle - where) - 0.94, 0.06)
    return contrast * rays * ring * part


def _veil(rng: np.random.RandomState, depth: np.ndarray, size: float, marked: bool) -> np.ndarray:
    """A blue-grey patch inside the lesion: plain to see, or a trace."""
    x, y = rng.uniform(-0.35, 0.35, 2) * size
    patch = _ramp(size * rng.uniform(0.5, 0.75) - np.hypot(GRID[0] - x, GRID[1] - y), 0.3)
    opacity = rng.uniform(0.5, 0.8) if marked else rng.uniform(0, 0.12)
    return opacity * patch * _ramp(depth, 0.15)


def _hairs(rng: np.random.RandomState) -> np.ndarray:
    hairs = np.zeros((SIZE, SIZE))
    for _ in range(rng.poisson(0.7)):
        turn, offset, bend = rng.uniform(0, 2 * np.pi), *rng.uniform(-0.9, 0.9, 2)
        along = GRID[0] * np.cos(turn) + GRID[1] * np.sin(turn)
        across = GRID[1] * np.cos(turn) - GRID[0] * np.sin(turn)
        distance = np.abs(across - offset - 0.3 * bend * along**2)
        hair = rng.uniform(0.3, 0.7) * _ramp(rng.uniform(0.012, 0.025) - distance, 0.04)
        hairs = np.maximum(hairs, hair)
    return hairs
