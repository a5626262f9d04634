"""What all tests share: where the data is, and how programs are compiled."""

import os
from pathlib import Path

# Small programs that run once: compiling them fast matters more than running them fast.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

# Read by XLA at the first computation.
FLAGS = ["--xla_force_host_platform_device_count=4", "--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):  # later ones have neither the flag nor a choice
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # compiled in a quarter of the time
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images and weights, see JAXGROUND_DATA in the README."""
    folder = Path(os.environ.get("JAXGROUND_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}: set JAXGROUND_DATA to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def golden(data) -> Path:
    """The folder of maps computed by an independent implementation, beside the data."""
    folder = data.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden maps at {folder}")
    return folder


@pytest.fixture
def optimised():
    """Compiles a test's programs for speed: those of large networks, above all in float64."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield
