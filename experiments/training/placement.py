"""Where arrays lie: several runs and the images of a batch over the devices of all processes."""

import math

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def make_mesh(runs: int, batch: int, devices=None) -> Mesh:
    """Returns a mesh with axes `run` and `batch` over all devices.

    As many devices share the runs as divide them evenly; the others share each batch.

    Raises:
      ValueError: The batch cannot be shared evenly.
    """
    devices = np.asarray(jax.devices() if devices is None else devices)
    apart = math.gcd(runs, devices.size)
    together = devices.size // apart
    if batch % together:
        raise ValueError(
            f"{devices.size} devices train {runs} runs, {together} to a run: a batch of {batch} "
            f"images is no multiple of {together}"
        )
    return Mesh(devices.reshape(apart, together), ("run", "batch"))


def place(tree, mesh: Mesh, *axes: str | None):
    """Returns host arrays, the same in every process, on the mesh with leading axes so named."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))

    def put(array):
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def gather(tree, mesh: Mesh):
    """Returns arrays on the mesh as host arrays, in every process."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.device_get(jax.jit(lambda tree: tree, out_shardings=whole)(tree))


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the processes of one program; on TPU pods and SLURM, `"auto"` finds them."""
    if coordinator == "auto":
        jax.distributed.initialize()
    elif coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process)
