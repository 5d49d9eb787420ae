"""Images of one part of a split, and batches of them on the device."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from lmdbench.core.gpu_memory import GIB, room
from lmdbench.core.randomness import Streams
from lmdbench.training.engine import Execution, Mode
from lmdbench.training.prefetch import stream
from lmdbench.training.samplers import SAMPLERS, Sampler, SamplerChoice
from lmdbench.training.scaling import LossScaler
from lmdbench.training.views.augmentation import VIEWS

logger = logging.getLogger("lmdbench")

SMALL_SHARE = 0.1  # of a GPU's free memory: images that take no more lie there from the start
LEFT_SHARE = 0.5  # of what training leaves, that images may take
AT_ONCE = 2**26  # bytes of images that are copied at a time


@dataclass(frozen=True)
class Batch:
    """Images with labels. ``views``: one (B, 3, H, W) float tensor a view, ImageNet-normalised."""

    views: tuple[Tensor, ...]
    labels: Tensor  # (B,) int64
    positions: Tensor  # (B,) int64, the images' places in their part

    @property
    def images(self) -> Tensor:
        """The first view, (B, 3, H, W) float."""
        return self.views[0]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Raw:
    """A batch before its views are made: what they are made of, all drawn and on the device."""

    pixels: Tensor  # (B, 3, H, W) uint8; or features (B, D) float, of which a view is themselves
    labels: Tensor  # (B,) int64
    positions: Tensor  # (B,) int64, the images' places in their part
    numbers: tuple[tuple[Tensor, ...], ...]  # of each view, what its ``draw`` gave

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, views: Sequence[str], execution: Execution | None = None) -> Batch:
        """The named views of it, compiled where an execution is given that compiles."""
        if self.pixels.ndim == 2:
            return Batch((self.pixels,) * len(views), self.labels, self.positions)
        made = []
        for view, numbers in zip(views, self.numbers, strict=True):
            apply = VIEWS[view].apply
            made.append((execution.compile(apply) if execution else apply)(self.pixels, *numbers))
        return Batch(tuple(made), self.labels, self.positions)

    def tensors(self) -> list[Tensor]:
        """All of it as a flat list, from which ``with_tensors`` makes the like."""
        return [self.pixels, self.labels, self.positions, *chain.from_iterable(self.numbers)]

    def with_tensors(self, tensors: Iterator[Tensor]) -> Raw:
        """One of the same form out of the next tensors."""
        return Raw(
            next(tensors),
            next(tensors),
            next(tensors),
            tuple(tuple(next(tensors) for _ in numbers) for numbers in self.numbers),
        )


class Images:
    """One part of a split, with labels (N,) int64.

    ``pixels``: the store's images (M, 3, H, W) uint8, or in their place the features (M, D) float
    of a frozen encoder; ``rows`` (N,) says which are this part's, or (1 + K, N) where there are
    features of K drawn views beside those of the test view. They are streamed to a GPU batch
    by batch, unless they are few or were moved there; the batches are the same. ``stays``: they are
    never moved.
    """

    def __init__(
        self,
        pixels: Tensor,
        rows: Tensor,
        labels: Tensor,
        device: torch.device,
        *,
        stays: bool = False,
    ) -> None:
        self.device = device
        self.host_labels = labels.cpu()
        self.labels = labels.to(device)
        self.drawn_views = len(rows) - 1 if rows.ndim == 2 else 0
        self._pixels, self._rows, self._stays = pixels, rows.flatten(), stays
        self.nbytes = len(self._rows) * pixels[0].nbytes if len(self._rows) else 0
        if device.type == "cuda":
            self.move(int(SMALL_SHARE * room(device)))

    def move(self, most: int) -> bool:
        """Put them on the GPU, unless they are there, stay, or take more than so many bytes."""
        if self._stays or not self.streamed or self.nbytes > most:
            return False
        there = torch.empty(
            (len(self._rows), *self._pixels.shape[1:]),
            dtype=self._pixels.dtype,
            device=self.device,
        )
        at_once = max(1, AT_ONCE * len(there) // max(1, self.nbytes))
        for to, rows in zip(there.split(at_once), self._rows.split(at_once), strict=True):
            to.copy_(self._pixels[rows])
        self._pixels = there
        self._rows = torch.arange(len(there), device=self.device)
        return True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def streamed(self) -> bool:
        """Whether the images are not on the device."""
        return self._pixels.device.type != self.device.type

    def batch(self, positions: Tensor, views: Sequence[str], generator: torch.Generator) -> Batch:
        """The images at these positions (B,) in each of the named views."""
        ((_, (pixels,)),) = self.fetch(iter([[positions]]))
        return self.raw(positions, pixels, views, generator).batch(views)

    def raw(
        self, positions: Tensor, pixels: Tensor, views: Sequence[str], generator: torch.Generator
    ) -> Raw:
        """A batch whose views can be made without drawing anything more."""
        places = positions.to(self.device, non_blocking=True)
        if self.drawn_views:
            places = places % len(self)
        numbers: tuple[tuple[Tensor, ...], ...] = ((),) * len(views)
        if pixels.ndim > 2:
            numbers = tuple(VIEWS[view].draw(len(positions), generator) for view in views)
        return Raw(pixels, self.labels[places], places, numbers)

    def in_drawn_views(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """The positions (B,) where each image's features of one of its drawn views lie, chosen at
        random; the positions themselves where there are none."""
        if not self.drawn_views:
            return positions
        views = torch.randint(1, 1 + self.drawn_views, positions.shape, generator=generator)
        return positions + len(self) * views

    def fetch(
        self, groups: Iterator[Sequence[Tensor]]
    ) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """Each group of positions with the pixels at them, on the device."""
        if not self.streamed:
            for group in groups:
                # Not waiting for the copies: the host would wait for all steps before, too.
                places = [p.to(self._rows.device, non_blocking=True) for p in group]
                yield group, [self._pixels[self._rows[wanted]] for wanted in places]
            return
        begun: deque[Sequence[Tensor]] = deque()

        def rows() -> Iterator[Tensor]:
            for group in groups:
                begun.append(group)
                yield self._rows[torch.cat(list(group)).to(self._rows.device)]

        for pixels in stream(self._pixels, rows(), self.device):
            group = begun.popleft()
            yield group, pixels.split([len(positions) for positions in group])


def batch_sizes(images: int, batch_size: int, *, drop_last: bool = False) -> list[int]:
    """Sizes of an epoch's batches. A last image left alone joins the batch before it: batch norm
    can't train on one."""
    whole, rest = divmod(images, batch_size)
    if drop_last or rest == 0:
        return [batch_size] * whole
    if rest == 1 and whole > 0:
        return [batch_size] * (whole - 1) + [batch_size + 1]
    return [batch_size] * whole + [rest]


@dataclass
class Task:
    """What a method is given: training images, a validation set, and no test data.

    ``class_counts``: training images of each class, (C,) float on the device.
    """

    classes: tuple[str, ...]
    train: Images
    validation: Images
    streams: Streams
    device: torch.device
    precision: torch.dtype | None = None  # of autocast; None for float32 throughout
    mode: Mode = "plain"  # of execution
    tick: Callable[[int, int], None] = lambda _done, _total: None  # progress within an epoch
    alive: Callable[[], None] = lambda: None  # called where images are only looked at

    def __post_init__(self) -> None:
        counts = torch.bincount(self.train.labels, minlength=len(self.classes))
        self.class_counts = counts.to(self.device, torch.float32)
        self.execution = Execution(self.device, self.mode)
        self.scaler = LossScaler(self.device, self.precision)
        self._settled = False
        self.streams.blocked = lambda: self.execution.replaying

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def autocast(self) -> torch.autocast:
        """Mixed precision where the run asked for it and the device has it."""
        return torch.autocast(
            self.device.type,
            dtype=self.precision or torch.bfloat16,
            enabled=self.precision is not None,
            cache_enabled=False,  # a step uses a weight once, and graphs must not share casts
        )

    def settle(self) -> None:
        """After an epoch, by which is known what training takes: put images on the GPU that fit
        beside it. Once, and only where there is a GPU."""
        if self._settled or self.device.type != "cuda":
            return
        self._settled = True
        for name, images in (("training", self.train), ("validation", self.validation)):
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(self.device)
            held = torch.cuda.memory_reserved(self.device)
            left = free + held - torch.cuda.max_memory_reserved(self.device)
            if images.move(int(LEFT_SHARE * left)):
                logger.info("%s images moved to the GPU: %.1f GiB", name, images.nbytes / GIB)

    @property
    def holds_images(self) -> bool:
        """Whether any images lie on the GPU."""
        parts = (self.train, self.validation)
        return self.device.type == "cuda" and any(len(p) and not p.streamed for p in parts)

    def sampler(self, sampler: SamplerChoice) -> Sampler:
        """A new sampler of the training images, by name or by a function of their labels (N,).

        An object with ``draw`` is passed through: it must not keep anything from epoch to epoch.
        """
        if isinstance(sampler, str):
            sampler = SAMPLERS[sampler]
        return sampler(self.train.host_labels) if callable(sampler) else sampler

    def draws(
        self,
        samplers: Sequence[SamplerChoice],
        views: Sequence[str],
        batch_size: int,
        *,
        drop_last: bool = False,
        images: int | None = None,
    ) -> Iterator[tuple[Raw, ...]]:
        """One epoch, of so many ``images`` (default: as the training set has): a batch of each
        sampler at a time, all of the size of the first one's. Positions may be drawn some batches
        ahead."""
        first, *others = (self.sampler(sampler) for sampler in samplers)
        images = len(self.train) if images is None else images
        sizes = batch_sizes(images, batch_size, drop_last=drop_last)
        order = self.streams.get("order")
        augmentation = self.streams.get("augmentation", on_device=True)
        choice = self.streams.get("feature-views")

        def positions() -> Iterator[list[Tensor]]:
            for size in sizes:
                drawn = first.draw(size, order)
                group = [drawn, *(other.draw(len(drawn), order) for other in others)]
                yield [self.train.in_drawn_views(places, choice) for places in group]

        for done, (group, pixels) in enumerate(self.train.fetch(positions()), start=1):
            yield tuple(
                self.train.raw(places, fetched, views, augmentation)
                for places, fetched in zip(group, pixels, strict=True)
            )
            self.tick(done, len(sizes))

    def batches(
        self,
        sampler: SamplerChoice,
        views: Sequence[str],
        batch_size: int,
        *,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """One epoch of one sampler, with its views made."""
        for (raw,) in self.draws((sampler,), views, batch_size, drop_last=drop_last):
            yield raw.batch(views)

    def in_order(self, images: Images, batch_size: int = 256) -> Iterator[Batch]:
        """All images of a part in their own order, in the test view."""
        unused = self.streams.get("unused", on_device=True)
        parts = torch.arange(len(images)).split(batch_size) if len(images) else ()
        for (positions,), (pixels,) in images.fetch(iter([part] for part in parts)):
            yield images.raw(positions, pixels, ("test",), unused).batch(("test",))
            self.alive()
