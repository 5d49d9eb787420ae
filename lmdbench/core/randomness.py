"""Separate streams of random numbers, each seeded by (seed, name, epoch)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch


def derived_seed(seed: int, name: str, epoch: int) -> int:
    """A 63-bit seed that depends on all three and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The generators of a run: one a name, started anew at each epoch.

    As nothing carries over between epochs, a resumed run draws what an uninterrupted one draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self.blocked: Callable[[], bool] = lambda: False
        self._generators: dict[tuple[str, str], torch.Generator] = {}
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Restart every stream, and the global generators (dropout draws from those)."""
        self._epoch = epoch
        for key, generator in list(self._generators.items()):
            name, kind = key
            if kind == "cpu":
                del self._generators[key]
            else:  # graphs may draw from it
                generator.manual_seed(derived_seed(self.seed, name, epoch))
        torch.manual_seed(derived_seed(self.seed, "model", epoch))

    @property
    def epoch(self) -> int:
        """The epoch that is drawn for. Raises RuntimeError within a step that is replayed: it would
        be the same each time."""
        if self.blocked():
            raise RuntimeError("its step reads the epoch of its streams")
        return self._epoch

    def on_device(self) -> list[torch.Generator]:
        """The generators of a GPU so far, which a step that is replayed may draw from."""
        return [g for (_, kind), g in self._generators.items() if kind != "cpu"]

    def get(self, name: str, *, on_device: bool = False) -> torch.Generator:
        """The stream of that name, on the CPU or on the run's device.

        Raises RuntimeError within a step that is replayed, unless it is on a GPU, where a replay
        draws anew: it would draw the same each time.
        """
        if self.blocked() and not (on_device and self.device.type == "cuda"):
            raise RuntimeError(f"its step draws random numbers itself ({name})")
        device = self.device if on_device else torch.device("cpu")
        key = (name, device.type)
        if key not in self._generators:
            generator = torch.Generator(device)
            generator.manual_seed(derived_seed(self.seed, name, self._epoch))
            self._generators[key] = generator
        return self._generators[key]
