"""The names that plug-ins imported from here before they moved to ``lmdbench.training.task``."""

from lmdbench.training.task import Batch, Images, Raw, Task

__all__ = ["Batch", "Images", "Raw", "Task"]
