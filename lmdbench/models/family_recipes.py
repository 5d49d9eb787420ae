"""Settings that suit a family of networks better than the methods' own, which are a ResNet's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

# LMD's rates and decays, of encoder and head, are its own; the encoder's optimiser is the family's.
CALIBRATED = {"weight_decay": 1e-4, "warmup": 0.0}
# LIFT trains few parameters beside a frozen network, for which its authors' SGD is made.
LIGHT = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.0, "warmup": 0.0}
# Transformers, and what was made in their likeness, don't learn by SGD at a ResNet's rate. AdamW,
# weight decay, the cosine and 5 epochs of warm-up of 100 are those of MAE's fine-tuning (He et al.,
# CVPR 2022; official code facebookresearch/mae, FINETUNE.md). Its rate at batches of 128, 2.5e-4,
# is one with layer_decay=0.65; where all layers have the same one, it is lower here.
OF_LAYER_NORM: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("lmd", "lmd-released", "mrc-vfc"), CALIBRATED),
    "lift": LIGHT,
    "all": {
        "optimizer": "adamw",
        "lr": 1e-4,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 0.05,
    },
}


def recipes_of(network: nn.Module) -> Mapping[str, Mapping[str, Any]]:
    """The recipes of the family that a network is of; none for those of batch norm alone."""
    normalised = any(isinstance(module, nn.LayerNorm) for module in network.modules())
    return OF_LAYER_NORM if normalised else {}
