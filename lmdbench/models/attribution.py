"""Which places of an image speak for a class: Grad-CAM where a network's last block has a map of
features, the gradient at the pixels elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lmdbench.core.errors import UserError
from lmdbench.models.classifier import Encoder, FrozenEncoder
from lmdbench.models.parts import parts_of

Kind = Literal["Grad-CAM", "gradient"]


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """ReLU(Σ_k α_k A_k) (B, h, w) of activations A (B, K, h, w), with α_k the mean over places of a
    score's gradients (B, K, h, w) there (Selvaraju et al., ICCV 2017)."""
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1).relu()


def pixel_gradient(gradients: Tensor) -> Tensor:
    """The largest absolute value over the channels (B, H, W) of a score's gradients at the pixels
    (B, 3, H, W) (Simonyan et al., ICLR workshop 2014)."""
    return gradients.abs().amax(dim=1)


def class_maps(
    predict: Callable[[Tensor], Tensor], encoder: Encoder, images: Tensor, classes: Tensor
) -> tuple[Tensor, Kind]:
    """Maps (B, H, W) of images (B, 3, H, W) for ``classes`` (B,) int64, the largest value 1 unless
    all are 0, and what they are.

    ``predict``: images, or features that a frozen encoder made of them, to logits (B, C). Raises
    UserError where no gradient leads from the logits to the images.
    """
    images = images.detach().clone().requires_grad_(True)
    block, kept = _last_block(encoder.body), list[Tensor]()
    hook = None if block is None else block.register_forward_hook(lambda *a: kept.append(a[2]))
    try:
        with torch.enable_grad():
            given = images
            if isinstance(encoder, FrozenEncoder):  # its own forward lets no gradient through
                given = Encoder.forward(encoder, images)
            scores = predict(given).gather(1, classes[:, None]).sum()
    finally:
        if hook is not None:
            hook.remove()
    has_map = bool(kept) and kept[0].ndim == 4
    at = kept[0] if has_map else images
    if not scores.requires_grad:
        raise UserError("no gradient leads from its logits to the images, so there are no maps")
    (gradients,) = torch.autograd.grad(scores, at)
    found = grad_cam(at, gradients) if has_map else pixel_gradient(gradients)
    size = images.shape[2:]
    found = interpolate(found.detach()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    highest = found.amax(dim=(1, 2), keepdim=True)
    return found / highest.clamp_min(1e-12), "Grad-CAM" if has_map else "gradient"


def _last_block(body: nn.Module) -> nn.Module | None:
    """The last block of a network whose maps have their channels first; None where none is known
    to have."""
    if any("swin" in type(module).__name__.lower() for module in body.modules()):
        return None  # channels last
    try:
        *_, name = parts_of(body).blocks
    except UserError:
        return None
    return body.get_submodule(name)
