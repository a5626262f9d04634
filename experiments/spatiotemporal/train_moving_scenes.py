"""Trains the network for videos that ships with the package, in minutes of one core.

    python -m experiments.spatiotemporal.train_moving_scenes --output runs/compact_lrcn
    python -m experiments.spatiotemporal.train_moving_scenes --smoke --output /tmp/smoke

Clips of seed 1 are drawn once, and turned into 96 others each time that they are seen: mirrored,
transposed, played backwards, colours exchanged, the label with them. The loss is cross-entropy of
the label at every step from the second frame of the event on: a clip says what happens in it,
and when that is first to be seen; no loss knows of masks. Held out is seed 0, from which all
evaluations draw. Stopped at any moment, the same command goes on from its last checkpoint;
another one is refused its folder.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import load_file, save_file

from experiments.training import loop
from experiments.training.placement import gather, make_mesh
from experiments.training.records import claim
from experiments.training.sources import Resident
from jaxground.data.moving_scenes import EVENTS, MovingScenes, draw_clips
from jaxground.models.compact_lrcn import SIDE, CompactLRCN
from jaxground.weights import sha256

SCENES = MovingScenes()
MEAN, STD = 0.5, 0.25
SEED, HELD_OUT_SEED = 1, 0
BATCH, PEAK = 32, 3e-3
# Rows and columns of a position, size and presence: what an event becomes in a mirror.
CHANGES = np.array(list(EVENTS.values()))
COLOURS = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `uint8[count, time, 32, 32, 3]` frames, and `int32[count, 3]` labels and times."""
    frames, labels = [], []
    for start in range(0, count, 200):
        clips = draw_clips(SCENES, range(start, min(start + 200, count)), seed=seed)
        n, time, side = clips.frames.shape[:3]
        parts = clips.frames.reshape(n, time, SIDE, side // SIDE, SIDE, side // SIDE, 3)
        frames.append(parts.mean((3, 5)).round().astype(np.uint8))
        labels.append(np.concatenate([clips.labels[:, None], clips.times], 1))
    return np.concatenate(frames), np.concatenate(labels).astype(np.int32)


def change(key, frames, labels):
    """Returns each clip mirrored, transposed, backwards, in other colours, and its labels."""
    time = frames.shape[1]
    rows, columns, swap, back, colours = jax.random.randint(key, (5, len(frames)), 0, 6)

    def of_clip(frames, label, rows, columns, swap, back, colours):
        change = jnp.asarray(CHANGES)[label[0]]
        frames = jnp.where(rows % 2, frames[:, ::-1], frames)
        frames = jnp.where(columns % 2, frames[:, :, ::-1], frames)
        frames = jnp.where(swap % 2, frames.swapaxes(1, 2), frames)
        frames = jnp.where(back % 2, frames[::-1], frames)
        moved = change[:2] * jnp.stack([1 - 2 * (rows % 2), 1 - 2 * (columns % 2)])
        moved = jnp.where(swap % 2, moved[::-1], moved)
        change = jnp.concatenate([moved, change[2:]]) * (1 - 2 * (back % 2))
        event = (jnp.asarray(CHANGES) == change).all(1).argmax()
        times = jnp.where(back % 2, time + 1 - label[:0:-1], label[1:])
        return frames[..., jnp.asarray(COLOURS)[colours]], jnp.stack([event, *times])

    return jax.vmap(of_clip)(frames, labels, rows, columns, swap, back, colours)


def cut(key, frames, labels):
    """Returns each clip with still frames of two others in place of some around its event.

    One frame before the event is always there. Without cuts, what the network compares is the last
    frame with the first, and that is what it is explained by.
    """
    time = frames.shape[1]
    start, end = labels[:, 1:].T
    since, until = jax.random.uniform(key, (2, len(frames)))
    since = jnp.floor(since * start)  # 0 for no cut, to start - 1
    until = end + jnp.floor(until * (time - end + 1))  # the end of the clip for no cut
    now = jnp.arange(time)
    earlier, later = now < since[:, None], now >= until[:, None]
    before, after = jnp.roll(frames[:, :1], 1, 0), jnp.roll(frames[:, -1:], 2, 0)
    frames = jnp.where(earlier[..., None, None, None], before, frames)
    return jnp.where(later[..., None, None, None], after, frames)


def normalise(frames):
    """Returns what the network reads."""
    return (frames / 255.0 - MEAN) / STD


def unpack(state) -> dict:
    """Returns the weights of a network as a plain dictionary, by their names in files."""
    return {".".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(state)}


def make_network(weights) -> CompactLRCN:
    """Returns the network with weights by name."""
    graph, state = nnx.split(nnx.eval_shape(lambda: CompactLRCN(len(EVENTS), rngs=nnx.Rngs(0))))
    filled = [
        (path, each.replace(weights[".".join(map(str, path))]))
        for path, each in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def make_step(optimiser, cutting: bool):
    """Returns the training step for `loop.make_program`."""

    def step(state, frames, labels):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        changes, cuts = jax.random.split(key)
        frames, labels = change(changes, frames, labels)
        if cutting:
            frames = cut(cuts, frames, labels)

        def measure(weights):
            logits = make_network(weights)(normalise(frames))
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.broadcast_to(labels[:, :1], logits.shape[:2])
            )
            known = jnp.arange(logits.shape[1]) > labels[:, 1:2]
            hits = (logits[:, -1].argmax(-1) == labels[:, 0]).mean()
            return jnp.where(known, losses, 0).sum() / known.sum(), hits

        (loss, hits), gradient = jax.value_and_grad(measure, has_aux=True)(state.weights)
        return loop.updated(state, optimiser, gradient), {"loss": loss, "accuracy": hits}

    return step


def make_measure(frames, labels):
    """Returns a function from weights to held-out accuracies in percent.

    Of whole clips; of their frames in random order, and of one frame repeated: what a network
    that does not see time could have learned.
    """
    rng = np.random.default_rng(0)
    shuffled = np.stack([clip[rng.permutation(len(clip))] for clip in frames])
    pieces = np.concatenate(
        [np.asarray(cut(jax.random.key(0), frames[i : i + 100], labels[i : i + 100]))
         for i in range(0, len(frames), 100)]
    )  # fmt: skip
    middle = [clip[[(start + end) // 2] * len(clip)]
              for clip, (_, start, end) in zip(frames, labels, strict=True)]  # fmt: skip
    answer = jax.jit(
        lambda weights, frames: make_network(weights)(normalise(frames))[:, -1].argmax(-1)
    )

    def measure(weights) -> dict[str, float]:
        def accuracy(frames):
            found = [answer(weights, frames[i : i + 100]) for i in range(0, len(frames), 100)]
            return 100 * float((np.concatenate(found) == labels[:, 0]).mean())

        return {
            "clips": accuracy(frames),
            "cut": accuracy(pieces),
            "shuffled": accuracy(shuffled),
            "one_frame": accuracy(np.stack(middle)),
        }

    return measure


def main() -> None:
    """Parses the command line, trains, and writes the weights in float16."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--cut", action="store_true", help="frames of other clips around the event")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--smoke", action="store_true", help="4 steps on 100 clips")
    options = parser.parse_args()
    count, steps, every = (100, 4, 2) if options.smoke else (options.clips, options.steps, 100)
    begun = options.start and sha256(options.start)
    try:
        claim(options.output, {"clips": count, "steps": steps, "cut": options.cut, "start": begun})
    except ValueError as error:
        parser.error(str(error))

    weights = unpack(nnx.state(CompactLRCN(len(EVENTS), rngs=nnx.Rngs(0))))
    if options.start:
        weights = {name: jnp.float32(value) for name, value in load_file(options.start).items()}
    rate = optax.cosine_onecycle_schedule(steps, PEAK, pct_start=0.1)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    mesh = make_mesh(1, BATCH)
    held_out = draw(200, HELD_OUT_SEED)
    measure = make_measure(*held_out)
    source = Resident(*draw(count, SEED), batch=BATCH, seeds=[SEED], mesh=mesh)

    def evaluate(state):
        found = measure(jax.tree.map(lambda x: x[0], gather(state.weights, mesh)))
        print(int(state.step[0]), found, flush=True)
        return {name: np.array([value]) for name, value in found.items()}

    state = loop.train(
        loop.make_program(make_step(optimiser, options.cut), source, mesh),
        loop.start([jax.device_get(weights)], optimiser, [SEED], [np.float32(0)], mesh),
        source,
        options.output,
        steps=steps,
        dispatch=1,  # on a CPU steps are unrolled, and longer to compile
        every=every,
        names=["compact_lrcn"],
        evaluate=evaluate,
    )
    trained = jax.tree.map(lambda x: x[0], gather(state.weights, mesh))
    halves = {name: np.asarray(value, np.float16) for name, value in trained.items()}
    save_file(halves, options.output / "compact_lrcn.safetensors")
    rounded = {name: np.float32(value) for name, value in halves.items()}
    final = make_measure(*draw(100 if options.smoke else 1000, HELD_OUT_SEED))(rounded)
    print(json.dumps(final))


if __name__ == "__main__":
    main()
