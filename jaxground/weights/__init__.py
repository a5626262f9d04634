"""Readers of weight files, none of which executes code, and name maps."""
