"""Where and how runs are carried out, and who else is at one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.progress import Progress
from lmdbench.data.store.store import Store
from lmdbench.runs.options import RunOptions


@dataclass(frozen=True)
class Workplace:
    """What runs work on, and how."""

    store: Store
    device: torch.device
    progress: Progress
    options: RunOptions


class Busy(UserError):
    """Another living worker has the run, or took it over."""

    def __init__(self, text: str, claim: Claim) -> None:
        super().__init__(text)
        self.claim = claim


def holder_text(claim: Claim) -> str:
    """Who holds a claim, for a sentence."""
    holder = claim.holder() or {}
    return f"by process {holder.get('pid', '?')} on {holder.get('host', '?')}"
