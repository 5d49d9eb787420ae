"""The methods of the benchmark, one file each. Installed as ``lmdbench.methods``."""
