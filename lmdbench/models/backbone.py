"""What a backbone is: a network without its classifier, and the weights it may start from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from lmdbench.models.classifier import Encoder
from lmdbench.models.weights import Convert, State

FROZEN = "frozen/"  # before a backbone's name: the same network, not trained
# The same with K drawn views of each training image, as in frozen+8/resnet18
MOST_VIEWS = 999
FROZEN_NAME = re.compile(r"frozen(?:\+(?P<views>[1-9]\d{0,2}))?/")

# What a file of features is by: an encoder that does not run here, and the numbers an image
FEATURES = "features/"
FEATURES_NAME = re.compile(r"features/(?P<name>[\w.+-]+)@(?P<width>[1-9]\d{0,6})", re.ASCII)


def frozen_prefix(views: int = 0) -> str:
    """What stands before the name of a backbone that isn't trained, with so many drawn views."""
    return f"frozen+{views}/" if views else FROZEN


def split_name(name: str) -> tuple[str, str]:
    """A backbone's name as what says that it isn't trained, or nothing, and the network's own."""
    match = FROZEN_NAME.match(name)
    end = match.end() if match else 0
    return name[:end], name[end:]


@dataclass(frozen=True)
class Pretrained:
    """Published weights: what identifies them, and how to get them (may download).

    ``file``: the same as the file they are in. ``changes``: what has that name may become another
    file, whose SHA-256 then is a part of what identifies it.
    """

    identity: str
    load: Callable[[], State]
    file: Callable[[], Path] | None = None
    changes: bool = False


@dataclass(frozen=True)
class Origin:
    """What a library says of one of its networks.

    ``size`` is the side in pixels of the images that its published weights saw, ``fixed`` whether
    the network is made for one size, ``mean`` and ``std`` those that its images are normalised by.
    """

    library: str  # with its version
    architecture: str
    size: int | None
    fixed: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str | None
    license: str | None

    @property
    def record(self) -> dict[str, Any]:
        """As ``run.json`` has it."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @property
    def line(self) -> str:
        """The same in a line, for people."""
        mean, std = (" ".join(f"{x:.3g}" for x in values) for values in (self.mean, self.std))
        words = [self.library]
        if self.size is not None:
            words.append(f"weights of {self.size} px images")
        words += [f"mean {mean}", f"std {std}"]
        words += [self.interpolation] if self.interpolation else []
        return f"{', '.join(words)}; licence of the weights: {self.license or 'not stated'}"


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier.

    ``construct`` makes the encoder with random weights, drawn from torch's global generator.
    ``recipes``: settings that suit it better than a method's own defaults. Keys: a method's name,
    or what it trains ("all", "head") for every such method. ``convert`` brings a state of
    ``network``, as others write it, into the form that it has here.
    """

    name: str
    title: str
    construct: Callable[[], Encoder]
    imagenet: Pretrained | None = None
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    code: tuple[str, ...] = ()  # modules of ours that define the network
    network: Callable[[], nn.Module] | None = None  # what makes it, of a registered one
    frozen: bool = False  # not trained: its features are computed once (see lmdbench.runs.frozen)
    drawn_views: int = 0  # of a frozen one: strong views of each image whose features are kept
    published: Pretrained | None = None  # of a library's: the weights it has under that name
    origin: Origin | None = None  # of a library's: what that says of it
    configuration: str = ""  # of a library's: all that makes it what it is, with the version
    convert: Convert | None = None
    heads: tuple[str, ...] = ()  # modules of the whole network that are left out here

    @property
    def architecture(self) -> str:
        """The name without ``frozen/``."""
        return split_name(self.name)[1]

    @property
    def slug(self) -> str:
        """The architecture as a part of a file's name."""
        return re.sub(r"[^\w.@-]", "-", self.architecture, flags=re.ASCII)

    @property
    def pretrained(self) -> Pretrained | None:
        """What ``--weights pretrained`` are."""
        return self.published or self.imagenet


@dataclass(frozen=True)
class Weights:
    """What an encoder starts from. ``identity`` is part of a run's identity; ``partial``: tensors
    that a file lacks, or has in another shape, stay random."""

    source: Literal["none", "imagenet", "pretrained", "file"]
    identity: str
    path: Path | None = None
    partial: bool = False
