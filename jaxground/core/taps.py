"""Names for intermediate activations."""

import jax
from jax.ad_checkpoint import checkpoint_name


def tap(x: jax.Array, name: str) -> jax.Array:
    """Returns `x` unchanged, known as `name` to everything that reads the jaxpr."""
    return checkpoint_name(x, name)
