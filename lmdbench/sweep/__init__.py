"""Sweeps: many runs planned from one file and carried out on local devices or on SLURM."""
