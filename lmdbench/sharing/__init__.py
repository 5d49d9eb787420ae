"""Finished runs without their weights: out to others, in from others, and in from other code."""
