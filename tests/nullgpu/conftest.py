"""The null GPU, built once, and scripts run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def null_gpu(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs a script of this folder where torch sees a null GPU, and gives what its last line of
    output says as JSON: ``null_gpu("every_method.py", "ce", memory=16 * 2**30)``."""
    from .build import build, missing

    if reason := missing():
        pytest.skip(f"no null GPU: {reason}")
    folder = tmp_path_factory.mktemp("nullgpu")
    library = build(folder)

    def run(script: str, *arguments: str, memory: int = 24 * 2**30, **variables: str) -> Any:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "NULLGPU_MEMORY": str(memory),
            "LMDBENCH_CACHE": str(folder / "cache"),
            "TORCHDYNAMO_DISABLE": "1",  # there is no GPU to compile for
            **variables,
        }
        done = subprocess.run(
            [sys.executable, str(HERE / script), *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
