"""The method of a run: built, trained for an epoch, loaded again, asked for its logits."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.randomness import derived_seed
from lmdbench.models.backbones import Weights, build_encoder, get_backbone
from lmdbench.models.classifier import FrozenEncoder
from lmdbench.models.tuning import parse_tuning, tune
from lmdbench.runs.checkpoint import OUT_OF_MEMORY
from lmdbench.runs.kept import saved_weights
from lmdbench.runs.plan import PlannedRun, RunSpec
from lmdbench.runs.record import read_record
from lmdbench.runs.state import require_weights, train_anew
from lmdbench.runs.whole import (
    suspect,
)
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

logger = logging.getLogger("lmdbench")

RANDOM = Weights("none", "none")  # of an encoder that gets its weights elsewhere


def resolved_precision(spec: RunSpec, device: torch.device) -> torch.dtype | None:
    """What autocast works in on this device; None for float32 throughout."""
    return autocast_type(spec.precision, device)


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The same for a precision that was asked for."""
    if precision != "mixed" or device.type != "cuda":
        return None
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def new_method(run: PlannedRun, task: Task) -> Method:
    """An untrained method on the run's device; its random parameters follow from the seed."""
    weights = run.context.weights
    if run.spec.ancestor is not None:
        weights = RANDOM  # the ancestor brings its own
    return _untrained(run.method, run.spec, weights, task)


def _untrained(kind: type[Method], spec: RunSpec, weights: Weights, task: Task) -> Method:
    torch.manual_seed(derived_seed(spec.seed, "init", 0))
    encoder = build_encoder(get_backbone(spec.backbone, spec.image_size), weights, logger.info)
    tune(encoder, parse_tuning(spec.tuning), trained=kind.trains == "all")
    method = kind(task, kind.Settings(**{**spec.settings, **spec.chosen}), encoder)
    if isinstance(encoder, FrozenEncoder) and method.model.encoder is not encoder:
        raise UserError(
            f"{spec.method} builds an encoder of its own, and that of {spec.backbone} is frozen: "
            "choose a --backbone without frozen/"
        )
    return method.to(task.device).to(memory_format=torch.channels_last)


def trained_parameters(method: Method) -> tuple[int, int]:
    """Of the parameters that are saved, how many numbers the optimisers train, and all."""
    saved = {
        parameter
        for name, parameter in method.named_parameters()
        if name.partition(".")[0] not in method.scaffolding
    }
    fixed = {p for p in method.model.encoder.parameters() if not p.requires_grad}
    groups = (g for o in method.running_optimizers.values() for g in o.param_groups)
    trained = {p for group in groups for p in group["params"]} & saved - fixed
    return sum(p.numel() for p in trained), sum(p.numel() for p in saved)


def train_epoch(method: Method, task: Task, number: int) -> dict[str, float]:
    """Epoch ``number``, counted from 0, on random streams of its own. Returns what it logs."""
    task.streams.start_epoch(number + 1)
    method.progress = number / method.epochs
    method.train()
    logs = method.epoch(number)
    task.settle()
    return logs


def fit_last(method: Method, task: Task) -> None:
    """What a method does after its last epoch."""
    task.streams.start_epoch(method.epochs + 1)
    method.progress = 1.0
    method.eval()
    method.finish()


def load_finished(directory: Path, spec: RunSpec, task: Task) -> Method:
    """The method of a finished run with its trained weights, in evaluation mode.

    Raises Damaged where they are not those whose SHA-256 the run recorded.
    """
    require_weights(directory, spec.method, spec.seed)
    method = _untrained(METHODS.get(spec.method), spec, RANDOM, task)
    path, anew = directory / "model.safetensors", train_anew(spec.method, spec.seed)
    if path.exists() and not os.access(path, os.R_OK):
        raise UserError(f"{path} can't be read: no permission; ask its owner to allow it")
    try:
        # load_file maps it, which a mount may lack; and what is checked is what is loaded
        record = read_record(directory)
        content = load(saved_weights(directory, record, anew))
        weights = {name: tensor.to(task.device) for name, tensor in content.items()}
    except (UserError, *OUT_OF_MEMORY):
        raise
    except Exception as error:
        suspect(directory, error)
        raise Damaged(f"{path}: damaged ({type(error).__name__}); {anew}") from error
    missing, unexpected = method.load_state_dict(weights, strict=False)
    missing = [name for name in missing if name.partition(".")[0] not in method.scaffolding]
    if missing or unexpected:
        raise UserError(f"{path} does not fit {spec.method}: {(missing + unexpected)[0]}")
    return method.eval()


@torch.inference_mode()
def logits_of(
    method: Method, task: Task, images: Images, batch_size: int | None = None
) -> np.ndarray:
    """Logits (N, C) float32 of a part's images in their order."""
    method.eval()
    if batch_size is None:
        batch_size = method.evaluation_batch_size
    rows = [torch.empty(0, task.num_classes, device=task.device)]
    task.execution.note("evaluation", "plain")
    with task.execution.eagerly():
        for batch in task.in_order(images, batch_size):
            with task.autocast():
                logits = method.predict(batch.images)
            rows.append(logits.float())
        return torch.cat(rows).cpu().numpy()
