"""Recipes of families: which network is of which, and that every method can take them."""

import pytest

from lmdbench.models.backbones import get_backbone
from lmdbench.models.family_recipes import OF_LAYER_NORM
from lmdbench.training.method import built_in_methods
from lmdbench.training.recipes import recipes_for


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("timm/test_vit.r160_in1k", True),
        ("timm/test_convnext.r160_in1k", True),
        ("timm/test_resnet.r160_in1k", False),
        ("timm/test_efficientnet.r160_in1k", False),
        ("torchvision/resnet18", False),
        ("torchvision/swin_t", True),
    ],
)
def test_networks_with_layer_norm_learn_by_adamw(name: str, has: bool) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="lmdbench[timm] missing")
    assert get_backbone(name, 32).recipes == (OF_LAYER_NORM if has else {})


def test_they_are_recipes_of_every_method() -> None:
    for method in built_in_methods():
        acting = recipes_for(method, "a family", OF_LAYER_NORM)
        assert bool(acting) == (method.trains == "all"), method.name
