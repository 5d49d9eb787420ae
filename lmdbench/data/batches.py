"""Images of one part of a split, and batches of them on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmdbench.data.augmentation import VIEWS
from lmdbench.data.samplers import SAMPLERS, Sampler, SamplerChoice
from lmdbench.randomness import Streams

DEVICE_SHARE = 0.5  # of the free memory of the device that images may take


@dataclass(frozen=True)
class Batch:
    """Images with labels. ``views``: one (B, 3, H, W) float tensor a view, ImageNet-normalised."""

    views: tuple[Tensor, ...]
    labels: Tensor  # (B,) int64
    positions: Tensor  # (B,) int64, the images' places in their part, on the CPU

    @property
    def images(self) -> Tensor:
        """The first view, (B, 3, H, W) float."""
        return self.views[0]

    def __len__(self) -> int:
        return len(self.labels)


class Images:
    """One part of a split, with labels (N,) int64.

    ``pixels``: the store's images (M, 3, H, W) uint8; ``rows`` (N,) says which are this part's.
    They are moved to the device whole where they fit, and gathered batch by batch where they don't.
    """

    def __init__(self, pixels: Tensor, rows: Tensor, labels: Tensor, device: torch.device) -> None:
        self.device = device
        self.host_labels = labels.cpu()
        self.labels = labels.to(device)
        self._pixels, self._rows = pixels, rows
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * pixels[0].numel() <= DEVICE_SHARE * free:
                self._pixels = pixels[rows].to(device)
                self._rows = torch.arange(len(rows), device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Tensor, views: Sequence[str], generator: torch.Generator) -> Batch:
        """The images at these positions (B,) in each of the named views."""
        rows = self._rows[positions.to(self._rows.device)]
        pixels = self._pixels[rows].to(self.device, non_blocking=True)
        return Batch(
            views=tuple(
                VIEWS[view](pixels, generator).contiguous(memory_format=torch.channels_last)
                for view in views
            ),
            labels=self.labels[positions.to(self.device)],
            positions=positions,
        )


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
    tick: Callable[[int, int], None] = lambda _done, _total: None  # progress within an epoch

    def __post_init__(self) -> None:
        counts = torch.bincount(self.train.labels, minlength=len(self.classes))
        self.class_counts = counts.to(self.device, torch.float32)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def autocast(self) -> torch.autocast:
        """Mixed precision where the run asked for it and the device has it."""
        return torch.autocast(
            self.device.type,
            dtype=self.precision or torch.bfloat16,
            enabled=self.precision is not None,
        )

    def sampler(self, sampler: SamplerChoice) -> Sampler:
        """A new sampler of the training images, by name or by a function of their labels (N,).

        An object with ``draw`` is passed through: it must not keep anything from epoch to epoch.
        """
        if isinstance(sampler, str):
            sampler = SAMPLERS[sampler]
        return sampler(self.train.host_labels) if callable(sampler) else sampler

    def draw(self, sampler: Sampler, n: int, views: Sequence[str]) -> Batch:
        """The sampler's next n training images in the named views."""
        positions = sampler.draw(n, self.streams.get("order"))
        return self.train.batch(positions, views, self.streams.get("augmentation", on_device=True))

    def batches(
        self,
        sampler: SamplerChoice,
        views: Sequence[str],
        batch_size: int,
        *,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """One epoch: as many images as the training set has, in batches."""
        source = self.sampler(sampler)
        sizes = batch_sizes(len(self.train), batch_size, drop_last=drop_last)
        for done, size in enumerate(sizes, start=1):
            yield self.draw(source, size, views)
            self.tick(done, len(sizes))

    def in_order(self, images: Images, batch_size: int = 256) -> Iterator[Batch]:
        """All images of a part in their own order, in the test view."""
        unused = self.streams.get("unused", on_device=True)
        for start in range(0, len(images), batch_size):
            positions = torch.arange(start, min(start + batch_size, len(images)))
            yield images.batch(positions, ("test",), unused)
