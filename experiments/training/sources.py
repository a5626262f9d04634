"""Where batches come from: a data set that lies on the device, or one that streams past.

A source has `arrays`, given to the training program; `take(n)`, what the next `n` steps scan over;
`fetch(arrays, x)`, pure, the images and labels of one step; and a JSON `state()` from which
`restore` goes on at the very same image.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.training.placement import place

ORDER = 1  # folded into a run's key for the order of its images; its steps draw from 0


class Resident:
    """A data set in the memory of every device; each run sees it in shuffled epochs of its own."""

    axis = 0  # of what `take` returns: the runs

    def __init__(self, images, labels, *, batch: int, seeds, mesh):
        """Places `uint8[n, height, width, 3]` images and `int32[n]` labels on the devices."""
        self.arrays = place((images, np.asarray(labels, np.int32)), mesh)
        self.batch, self.position = batch, 0
        self._seeds = place(np.asarray(seeds, np.uint32), mesh, "run")
        self._rows = jax.jit(
            functools.partial(_rows, batch=batch, total=len(labels)),
            static_argnames="steps",
            out_shardings=NamedSharding(mesh, PartitionSpec("run", None, "batch")),
        )

    def take(self, steps: int):
        """Returns the rows of the next steps, `int32[runs, steps, batch]`."""
        rows = self._rows(self._seeds, self.position, steps=steps)
        self.position += steps * self.batch
        return rows

    @staticmethod
    def fetch(arrays, rows):
        images, labels = arrays
        return images[rows], labels[rows]

    def state(self) -> dict:
        return {"position": self.position}

    def restore(self, state: dict) -> None:
        if "position" not in state:
            raise ValueError("what was saved is where a stream stood, not where a resident set did")
        self.position = state["position"]


def _rows(seeds, position, *, steps: int, batch: int, total: int):
    """Returns `int32[runs, steps, batch]`: images from `position` on of endless shuffled epochs."""
    count = steps * batch
    epochs = position // total + jnp.arange((count + total - 2) // total + 1)

    def of_run(seed):
        key = jax.random.fold_in(jax.random.key(seed), ORDER)
        shuffled = jax.vmap(
            lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), total)
        )(epochs)
        return jax.lax.dynamic_slice_in_dim(shuffled.reshape(-1), position % total, count)

    return jax.vmap(of_run)(seeds).reshape(-1, steps, batch).astype(jnp.int32)


class Streamed:
    """A data set too large for the device: grain reads ahead."""

    def __init__(
        self, examples, read, *, batch: int, seed: int | Sequence[int], mesh, threads: int = 16
    ):
        """Opens the pipeline; each process reads its own share of every batch.

        Args:
          examples: Random access, `examples[i]` and `len`: a TFDS data source, a list of files.
          read: From an example to `(image uint8[height, width, 3], label)`.
          batch: Images in a step, over all processes.
          seed: Of the order, another in each epoch. One for each run: every run has an order of its
            own, as alone, and each image is read once for every run; a single one: once for all.
          mesh: From `make_mesh`.
          threads: That read ahead.

        Raises:
          ValueError: Several processes, and not all of them share each batch.
        """
        import grain

        if (shards := jax.process_count()) > 1 and mesh.shape["run"] > 1:
            raise ValueError(
                "several processes stream one run at a time, each its share of every batch: got "
                f"{mesh.shape['run']} runs apart; --at-once 1"
            )
        seeds = [seed] if isinstance(seed, int) else list(seed)
        self.axis = None if isinstance(seed, int) else 0
        axes = (None, "batch") if isinstance(seed, int) else ("run", None, "batch")
        self.arrays, self._sharding = (), NamedSharding(mesh, PartitionSpec(*axes))
        threads = max(1, threads // len(seeds))
        ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        self._iterators = []
        for each in seeds:
            images = grain.MapDataset.source(examples).shuffle(seed=each).repeat()
            images = images[jax.process_index() :: shards].map(read).batch(batch // shards)
            self._iterators.append(iter(images.to_iter_dataset(ahead)))

    def take(self, steps: int):
        """Returns images and labels of the next steps: `[runs, steps, batch]`, or without runs."""
        runs = [[next(iterator) for _ in range(steps)] for iterator in self._iterators]
        images, labels = (
            np.stack([np.stack([batch[part] for batch in run]) for run in runs]) for part in (0, 1)
        )
        if self.axis is None:
            images, labels = images[0], labels[0]
        return tuple(
            jax.make_array_from_process_local_data(self._sharding, part)
            for part in (images, labels.astype(np.int32))
        )

    @staticmethod
    def fetch(arrays, batch):
        return batch

    def state(self) -> dict:
        return {"streams": [iterator.get_state() for iterator in self._iterators]}

    def restore(self, state: dict) -> None:
        if len(saved := state.get("streams", ())) != len(self._iterators):
            raise ValueError(
                f"what was saved is where {len(saved) or 'no'} streams stood, not where "
                f"{len(self._iterators)} did"
            )
        for iterator, each in zip(self._iterators, saved, strict=True):
            iterator.set_state(each)
