"""A benchmark harness for long-tailed medical image classification."""

from lmdbench.version import __version__

__all__ = ["__version__"]
