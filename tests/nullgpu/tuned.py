"""Trains a tuned encoder with each setting of the optimiser on the null GPU, and prints what
happened."""

from __future__ import annotations

import torch
from answer import answer
from workload import GPU, SHORT, make_task, told

from lmdbench.models.backbones import get_backbone
from lmdbench.models.tuning import parse_tuning, tune
from lmdbench.runs.model import train_epoch
from lmdbench.training.method import METHODS

COMMON = {"optimizer": "adamw", "warmup": 0.5, "clip_norm": 1.0, "layer_decay": 0.8}
CASES = {
    "lora": ("lora:rank=2", COMMON),
    "norm": ("norm", COMMON),
    "last-blocks": ("last-blocks=1", COMMON),
    "sgd": ("full", {"clip_norm": 1.0, "layer_decay": 0.8}),
    "accumulate": ("lora:rank=2", {**COMMON, "accumulate": 2}),
    "grad_checkpointing": ("full", {**COMMON, "grad_checkpointing": True}),
}


def looked_at(tuning: str, settings: dict[str, object]) -> dict[str, object]:
    told.lines.clear()
    cls, task = METHODS.get("ce"), make_task("compiled")
    encoder = get_backbone("small").construct()
    tune(encoder, parse_tuning(tuning))
    few = {"epochs": SHORT["epochs"], "batch_size": 16, "schedule": "cosine"}
    method = cls(task, cls.Settings(**few, **settings), encoder)
    method.to(GPU).to(memory_format=torch.channels_last)
    method.start_training()
    for number in range(method.epochs):
        train_epoch(method, task, number)
    captured = [replay.captured for replay in method.stepper.replays.values()]
    return {"captured": captured, "told": list(told.lines)}


answer({name: looked_at(*case) for name, case in CASES.items()})
