"""The networks of timm by name: ``timm/NAME``, ``timm/NAME.TAG`` and ``timm/hf-hub:owner/name``.

timm (Wightman, PyTorch Image Models) is optional: ``lmdbench[timm]``.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unlisted
from lmdbench.models.backbone import Backbone, Origin, Pretrained
from lmdbench.models.classifier import Encoder
from lmdbench.models.family_recipes import recipes_of
from lmdbench.models.hub import REPOSITORY, HubFile
from lmdbench.models.normalisation import renormalise
from lmdbench.models.timm_stages import timm_stages
from lmdbench.models.trial import tried
from lmdbench.models.weights import State, cached, read_state

PREFIX = "timm/"
HUB = "hf-hub:"
FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, the first there is
CONFIGURATION = "config.json"
SOURCES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")  # of weights
TRIED = 224  # pixels, where neither the run nor the network says a size


@dataclass(frozen=True, eq=False)
class Model:
    """One of timm's networks. ``known``: timm's name of it, with the tag of its weights, or that of
    its repository. ``arguments``: of the repository's own."""

    known: str
    architecture: str
    configuration: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return PREFIX + self.known

    @property
    def size(self) -> int:
        """The side of the images that its weights saw."""
        return int(self.configuration.get("input_size", (3, TRIED, TRIED))[-1])

    @property
    def fixed(self) -> bool:
        """Whether it is made for images of one size."""
        return bool(self.configuration.get("fixed_input_size"))

    def network(self, image_size: int | None) -> nn.Module:
        """Without its classifier, for images of a size, with random weights."""
        import timm

        sized = {"img_size": image_size} if self.fixed and image_size is not None else {}
        given = {**self.arguments, **sized, "num_classes": 0, "pretrained_cfg": self.made_by}
        network: nn.Module = timm.create_model(self.architecture, **given)
        renormalise(network, self.configuration["mean"], self.configuration["std"])
        return network

    @property
    def made_by(self) -> dict[str, Any]:
        """The configuration without what its weights are fetched by."""
        return {key: v for key, v in self.configuration.items() if key not in SOURCES}


def backbone(name: str, image_size: int | None) -> Backbone:
    """The backbone ``timm/name`` for images of a size; None: of its own.

    Raises UserError where timm lacks, knows no such name, or the network can't take that size.
    """
    _need()
    model = _of_hub(name) if name.startswith(HUB) else _of_timm(name)
    return _backbone(model, model.size if image_size is None else image_size)


@functools.lru_cache(maxsize=256)
def _backbone(model: Model, image_size: int) -> Backbone:
    network, width = tried(model.name, model.network, image_size, model.size, _rim)
    return Backbone(
        name=model.name,
        title=f"{model.architecture} of timm",
        construct=lambda: Encoder(model.network(image_size), width),
        recipes=recipes_of(network),
        published=_published(model),
        origin=_origin(model),
        configuration=_canonical(model),
        code=(__name__, renormalise.__module__, timm_stages.__module__),
        convert=functools.partial(_in_its_form, model.architecture),
        heads=_names(model.configuration.get("classifier")),
    )


def names() -> list[str]:
    """All of timm's, with the tags of their weights; of those without any, their own."""
    _need()
    import timm

    return [PREFIX + name for name in timm.list_models(include_tags=True)]


def _need() -> None:
    if util.find_spec("timm") is None:
        raise UserError('backbones of timm need timm: pip install "lmdbench[timm]"')


@functools.lru_cache(maxsize=256)
def _of_timm(name: str) -> Model:
    import timm
    from timm.models import (
        get_deprecated_models,
        get_pretrained_cfg,
        is_model,
        split_model_name_tag,
    )

    architecture, tag = split_model_name_tag(name)
    if (now := get_deprecated_models().get(architecture)) is not None:
        raise UserError(f"backbone {PREFIX}{name}: timm calls it {PREFIX}{now} by now")
    listing = f'lmdbench list backbones --match "timm/*{architecture[:8]}*"'
    if not is_model(architecture):
        raise unlisted("model of timm", architecture, timm.list_models(), listing)
    tagged = timm.list_models(architecture, include_tags=True)
    tags = [one.partition(".")[2] for one in tagged if "." in one]
    if tag and tag not in tags:
        raise unlisted(f"weights of timm's {architecture}", tag, tags, listing)
    found = get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    configuration = found.to_dict() if found is not None else {}
    tag = tag or configuration.get("tag") or ""
    known = f"{architecture}.{tag}" if tag else architecture
    return _checked(Model(known, architecture, {**DEFAULTS, **configuration}))


# Of a model of which timm says nothing
DEFAULTS = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "input_size": (3, 224, 224),
}


def _of_hub(name: str) -> Model:
    """A model of a repository, by the configuration in it."""
    repository = name.removeprefix(HUB)
    if not REPOSITORY.fullmatch(repository):
        raise UserError(
            f"backbone {PREFIX}{name}: write {PREFIX}{HUB}owner/name, as the page of the model is "
            "called on the Hugging Face Hub"
        )
    path = _repository_file(repository, (CONFIGURATION,)).fetch()
    return _of_configuration(name, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _of_configuration(name: str, path: Path, written: int) -> Model:  # noqa: ARG001
    from timm.models import is_model

    try:
        content = json.loads(path.read_bytes())
        architecture = content["architecture"]
        configuration = _known(content.get("pretrained_cfg", content))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no configuration of a timm model (it must name an architecture); choose a "
            f"repository that timm wrote ({PREFIX}{HUB}owner/name)"
        ) from error
    if not is_model(architecture):
        raise UserError(f"{path}: timm {metadata.version('timm')} has no model {architecture!r}")
    arguments = content.get("model_args") or {}
    return _checked(Model(name, architecture, {**DEFAULTS, **configuration}, arguments))


def _known(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration this timm knows."""
    from timm.models import PretrainedCfg

    own = {one.name for one in fields(PretrainedCfg)}
    return {key: value for key, value in configuration.items() if key in own}


def _checked(model: Model) -> Model:
    channels = model.configuration["input_size"][0]
    if channels != 3 or len(model.configuration["mean"]) != 3:
        raise UserError(f"backbone {model.name} takes images of {channels} channels, not of 3")
    return model


def _repository_file(repository: str, names: tuple[str, ...]) -> HubFile:
    owner_and_name, _, revision = repository.partition("@")
    return HubFile(owner_and_name, names, owner_and_name.replace("/", "--"), revision or None)


def _rim(network: nn.Module, image_size: int) -> str:
    """Why a part of an image would not be seen; empty where all of it is."""
    patches = getattr(network, "patch_embed", None)
    size = getattr(patches, "patch_size", None)
    if not isinstance(size, tuple) or getattr(patches, "dynamic_img_pad", False):
        return ""
    left = image_size % size[0]
    return f"its patches of {size[0]} px leave a rim of {left} px out" if left else ""


def _origin(model: Model) -> Origin:
    c = model.configuration
    return Origin(
        library=f"timm {metadata.version('timm')}",
        architecture=model.architecture,
        size=model.size,
        fixed=model.fixed,
        mean=tuple(c["mean"]),
        std=tuple(c["std"]),
        interpolation=c.get("interpolation"),
        license=c.get("license"),
    )


def _canonical(model: Model) -> str:
    """All that a network is made by, with the version of the library."""
    what = [metadata.version("timm"), model.architecture, model.made_by, dict(model.arguments)]
    return json.dumps(what, sort_keys=True, default=str)


# Its weights


def _published(model: Model) -> Pretrained | None:
    """The weights that a model's name stands for, if there are any."""
    configuration, get = model.configuration, None
    if model.known.startswith(HUB):
        get = _repository_file(model.known.removeprefix(HUB), FILES).fetch
    elif repository := configuration.get("hf_hub_id"):
        given = configuration.get("hf_hub_filename")
        get = HubFile(repository, (given,) if given else FILES, model.known).fetch
    elif url := configuration.get("url"):
        get = functools.partial(cached, url)
    if get is None:
        return None
    return Pretrained(
        identity=f"timm {model.known}",
        load=lambda: read_state(get()),
        file=get,
        changes=model.known.startswith(HUB),
    )


def _in_its_form(architecture: str, state: State, network: nn.Module) -> State:
    """A state as timm itself would load it: names of today, position embeddings of this size."""
    converts = _conversion(architecture)
    if converts is None:
        return state
    if len(inspect.signature(converts).parameters) == 1:
        return converts(state)
    return converts(state, network)


@functools.cache
def _conversion(architecture: str) -> Callable[..., State] | None:
    """timm's function for that, which it hands to nobody but its loader."""
    import timm
    from timm.models import _builder

    found: dict[str, Any] = {}
    loader = _builder.load_pretrained
    _builder.load_pretrained = lambda *_, **given: found.update(given)
    try:
        with torch.device("meta"):
            timm.create_model(architecture, pretrained=True, num_classes=0)
    finally:
        _builder.load_pretrained = loader
    return found.get("filter_fn")


def _names(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())
