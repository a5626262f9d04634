"""Readers of weight files, none of which executes code, and name maps."""

from jaxground.weights.errors import WeightsError
from jaxground.weights.files import read, sha256
from jaxground.weights.hub import download

__all__ = ["WeightsError", "download", "read", "sha256"]
