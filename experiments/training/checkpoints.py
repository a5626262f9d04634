"""Training state on disk, by Orbax: all of it, or none of it."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp


def open_checkpoints(folder: Path, keep: int = 1) -> ocp.CheckpointManager:
    """Returns Orbax's manager of the checkpoints in a folder: the newest `keep` stay.

    It writes beside and renames, so that a kill leaves the last whole checkpoint; it does not
    write in the background, since the training program donates the arrays of its state.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state, source: dict) -> None:
    """Writes the state of training and that of the source of its images."""
    parts = {"state": ocp.args.StandardSave(state), "source": ocp.args.JsonSave(source)}
    manager.save(step, args=ocp.args.Composite(**parts))


def restore(manager: ocp.CheckpointManager, like) -> tuple | None:
    """Returns the newest `(step, state, source)`, with arrays placed as in `like`, or `None`."""
    if (step := manager.latest_step()) is None:
        return None
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
    )
    parts = {"state": ocp.args.StandardRestore(abstract), "source": ocp.args.JsonRestore()}
    found = manager.restore(step, args=ocp.args.Composite(**parts))
    return step, found["state"], found["source"]
