"""Explainers, one method family per module, one signature."""
