"""Visual grounding for JAX: which pixels, frames and neurons a decision stands on."""

__version__ = "0.1.0"
