"""A method for ``lmdbench run`` that is ce and tells when its first step is done: the plug-in that
``startup.py`` gives to the process it times."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from startup import ANSWER

from lmdbench.bench.timing import synchronise
from lmdbench.training.method import METHODS, register_method


@register_method("bench-start")
class FirstStep(METHODS.get("ce")):  # type: ignore[misc]
    """Cross-entropy that tells when its first step is done."""

    def epoch(self, number: int) -> dict[str, float]:
        told = self.task.tick

        def tick(done: int, total: int) -> None:  # called after each step
            if done == 1:
                synchronise(self.task.device)
                answer = {
                    "first_step": time.time(),
                    "preparing_seconds": self.task.execution.preparing_seconds,
                }
                Path(os.environ[ANSWER]).write_text(json.dumps(answer))
            told(done, total)

        self.task.tick = tick
        return super().epoch(number)
