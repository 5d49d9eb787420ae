"""A small network of one's own: the docs' example of a backbone."""

from torch import Tensor, nn

from lmdbench.models.backbones import register_backbone


class NarrowNet(nn.Module):
    """Three convolutions and a mean over the image: images (B, 3, H, W) to features (B, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 16)
        self.middle = block(16, 32)
        self.last = nn.Sequential(block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.middle(self.stem(images)))
        return features

    def stages(self) -> list[nn.Module]:
        """For methods that divide a network, such as ride; a backbone needs none."""
        return [self.stem, self.middle, self.last]


def block(before: int, after: int) -> nn.Module:
    conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


@register_backbone("narrow", title="Three convolutions", recipes={"all": {"lr": 0.05}})
def narrow() -> nn.Module:
    return NarrowNet()
