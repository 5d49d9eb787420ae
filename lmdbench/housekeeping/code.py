"""Which runs were made by other code than is here now."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from lmdbench.core.errors import UserError
from lmdbench.housekeeping.inventory import KeptRun
from lmdbench.models.backbones import get_backbone
from lmdbench.runs.code_digest import changed_part, code_digests
from lmdbench.runs.plan import code_in_words
from lmdbench.training.method import METHODS


def changed_code(run: KeptRun) -> str:
    """What of the code that made a run is other now, in words; empty where nothing is, or where
    that can't be told: of a method that is not known here, or of imported predictions."""
    if run.run is None or run.run.method not in METHODS:
        return ""
    spec = run.run.spec
    digests = _digests(spec.method, spec.backbone)
    part = digests and changed_part(run.run.record.digests, digests)
    return f"the code of {code_in_words(part, spec)} has changed since" if part else ""


@functools.cache
def _digests(method: str, backbone: str) -> Mapping[str, str] | None:
    try:
        return code_digests(METHODS.get(method), get_backbone(backbone))
    except UserError:
        return None
