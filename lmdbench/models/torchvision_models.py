"""The networks of torchvision by name: ``torchvision/NAME``."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from torch import nn

from lmdbench.core.registry import unlisted
from lmdbench.models.backbone import Backbone, Origin, Pretrained
from lmdbench.models.classifier import Encoder
from lmdbench.models.family_recipes import recipes_of
from lmdbench.models.normalisation import renormalise
from lmdbench.models.trial import tried
from lmdbench.models.weights import State, cached, read_state
from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD

PREFIX = "torchvision/"
HEADS = ("fc", "classifier", "heads", "head")  # what a network may call its classifier
# Networks that are made for one size → the argument that says which
SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
# As their published weights want them; without the classifiers beside
GOOGLE = {"aux_logits": False, "transform_input": True, "init_weights": True}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"inception_v3": GOOGLE, "googlenet": GOOGLE}
OWN_SIZE = 224  # pixels, of networks whose weights say none


def names() -> list[str]:
    """All of torchvision's that classify images."""
    import torchvision.models

    return [PREFIX + name for name in torchvision.models.list_models(torchvision.models)]


def backbone(name: str, image_size: int | None) -> Backbone:
    """The backbone ``torchvision/name`` for images of a size; None: of its own.

    Raises UserError for a name that there is not, and for a size that it can't take.
    """
    known = [one.removeprefix(PREFIX) for one in names()]
    if name not in known:
        listing = 'lmdbench list backbones --match "torchvision/*"'
        raise unlisted("model of torchvision", name, known, listing)
    return _backbone(name, image_size or _origin(name).size or OWN_SIZE)


@functools.lru_cache(maxsize=256)
def _backbone(name: str, size: int) -> Backbone:
    own = _origin(name).size or OWN_SIZE
    tried_network, width = tried(
        PREFIX + name, lambda size: _without_classifier(name, size)[0], size, own, lambda *_: ""
    )
    network, heads = _without_classifier(name, size)
    return Backbone(
        name=PREFIX + name,
        title=f"{type(network).__name__} {name} of torchvision",
        construct=lambda: Encoder(_without_classifier(name, size)[0], width),
        recipes=recipes_of(tried_network),
        published=_published(name),
        origin=_origin(name),
        configuration=json.dumps(["torchvision", metadata.version("torchvision"), name]),
        code=(__name__, renormalise.__module__),
        convert=functools.partial(_of_size, size),
        heads=heads,
    )


def _without_classifier(name: str, size: int) -> tuple[nn.Module, tuple[str, ...]]:
    """A network whose last linear layer, with the dropout before it, is left out, and that layer's
    name: its features are what the classifier is given. SqueezeNet's are the mean over the image.
    """
    import torchvision.models

    given = dict(ARGUMENTS.get(name, {}))
    for start, argument in SIZED.items():
        if name.startswith(start):
            given[argument] = size if argument == "image_size" else (size, size)
    network = torchvision.models.get_model(name, weights=None, **given)
    top = next(one for one in HEADS if hasattr(network, one))
    linear = [
        path
        for path, m in network.named_modules()
        if _below(path, top) and isinstance(m, nn.Linear)
    ]
    if not linear:
        network.set_submodule(top, nn.AdaptiveAvgPool2d(1))
        return _normalised(network, name), (f"{top}.1",)
    network.set_submodule(linear[-1], nn.Identity())
    around, _, place = linear[-1].rpartition(".")
    before = f"{around}.{int(place) - 1}" if place.isdigit() and place != "0" else "dropout"
    if isinstance(_submodule(network, before), nn.Dropout):
        network.set_submodule(before, nn.Identity())
    return _normalised(network, name), (linear[-1],)


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}.")


def _submodule(network: nn.Module, path: str) -> nn.Module | None:
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None


def _normalised(network: nn.Module, name: str) -> nn.Module:
    origin = _origin(name)
    renormalise(network, origin.mean, origin.std)
    return network


def _of_size(size: int, state: State, network: nn.Module) -> State:
    """A state with a vision transformer's position embeddings resampled to another grid."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(network, VisionTransformer):
        return state
    resampled: State = interpolate_embeddings(size, network.patch_size, dict(state))
    return resampled


@functools.cache
def _origin(name: str) -> Origin:
    weights = _weights(name)
    crop = getattr(weights, "transforms", None) and weights.transforms()
    return Origin(
        library=f"torchvision {metadata.version('torchvision')}",
        architecture=name,
        size=crop.crop_size[0] if crop else None,
        fixed=name.startswith(tuple(SIZED)),
        mean=tuple(crop.mean) if crop else IMAGENET_MEAN,
        std=tuple(crop.std) if crop else IMAGENET_STD,
        interpolation=crop.interpolation.value if crop else None,
        license=None,
    )


def _weights(name: str) -> Any:
    """torchvision's default weights of a network."""
    import torchvision.models

    return getattr(torchvision.models.get_model_weights(name), "DEFAULT", None)


def _published(name: str) -> Pretrained | None:
    weights = _weights(name)
    if weights is None:
        return None
    get = functools.partial(cached, weights.url)
    return Pretrained(weights.name, lambda: read_state(get()), get)
