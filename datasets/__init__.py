"""The data sets of the benchmark, one file each. Installed as ``lmdbench.datasets``."""
