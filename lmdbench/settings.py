"""The names that plug-ins imported from here before the settings moved to ``lmdbench.core``."""

from lmdbench.core.settings import Choice, LogUniform, Times, Uniform, at_least, at_most

__all__ = ["Choice", "LogUniform", "Times", "Uniform", "at_least", "at_most"]
