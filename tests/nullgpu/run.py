"""``lmdbench run`` on the null GPU, whose numbers mean nothing and may be infinite."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import kernels
import numpy as np

from lmdbench.cli.commands import exit_code
from lmdbench.runs import train


class Numbers:
    """numpy, to which every number is finite."""

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def isfinite(self, values: object) -> object:
        return np.ones_like(values, dtype=bool)


kernels.install()
train.np = Numbers()
results = Path(sys.argv[1])
sys.argv[1:] = ["run", "--results", str(results), *sys.argv[2:]]
code = exit_code()
records = [json.loads(path.read_text()) for path in sorted(results.glob("*/*/*/seed*/run.json"))]
print(json.dumps({"code": code, "records": records}))
