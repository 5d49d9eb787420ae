"""The version that is installed, as the tags of the repository gave it (setuptools-scm)."""

from importlib.metadata import version

__version__ = version("lmdbench")
