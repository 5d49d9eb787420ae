"""Where things lie, unless somebody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """Where files may be made: $LMDBENCH_CACHE or ~/.cache/lmdbench."""
    return Path(os.environ.get("LMDBENCH_CACHE") or "~/.cache/lmdbench").expanduser()


def default_results() -> Path:
    """Where runs lie: $LMDBENCH_RESULTS or ./results."""
    return Path(os.environ.get("LMDBENCH_RESULTS") or "results").expanduser()
