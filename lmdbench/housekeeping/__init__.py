"""Runs after they exist: what there is, and what of it may go."""
