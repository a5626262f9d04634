"""Small programs that run once: compiling them fast matters more than running them fast."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
