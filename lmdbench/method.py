"""What plug-ins imported from here before ``from lmdbench import Method`` could be said."""

from lmdbench.training.method import METHODS, Method, Start, built_in_methods, register_method

__all__ = ["METHODS", "Method", "Start", "built_in_methods", "register_method"]
