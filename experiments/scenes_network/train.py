"""Trains the network that names the shapes in drawn scenes, in seven minutes of one core.

    python -m experiments.scenes_network.train           # writes scenes_network.safetensors
    python -m experiments.scenes_network.train --smoke   # 4 steps, writes nothing

Scenes are drawn inside the training step: scene `i` of seed 1 is seen once. Two losses are summed,
as in `compact_vgg`: cross-entropy of the features averaged over each object (what is here? over
what is no object the answer is "any of the eight"), and of the features averaged over the picture
(what is in it? each of its shapes alike). Held out is seed 0, from which all evaluations draw. The
shipped weights are those after 1,968 of 3,000 steps, where the run was stopped: good enough.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import save_file

from experiments.scenes_network.network import CARD, SCENES, WEIGHTS, ScenesNetwork
from jaxground.data.scenes import draw_scenes

BATCH, PEAK, REPORT = 64, 2e-3, 100  # scenes a step, learning rate, steps a report
CLASSES = len(SCENES.categories)
HELD_OUT, HELD_OUT_SEED = 1000, 0


def draw(indices, seed: int):
    """Returns input images, masks at the last feature map, and labels."""
    drawn = draw_scenes(SCENES, indices, seed=seed)
    mean, std = (jnp.array(each) for each in (CARD.preprocess.mean, CARD.preprocess.std))
    masks = drawn.masks.astype(jnp.float32)
    masks = masks.reshape(*masks.shape[:2], 8, 8, 8, 8).mean((3, 5))
    return (drawn.images / 255.0 - mean) / std, masks, drawn.labels


def measure_loss(model: ScenesNetwork, images, masks, labels):
    """Returns the sum of the two losses."""
    features = model.features(images)
    there = (labels >= 0).astype(jnp.float32)
    rest = 1 - masks.sum(1, keepdims=True)
    regions = jnp.concatenate([masks * there[:, :, None, None], rest], 1)
    area = regions.sum((2, 3))
    means = jnp.einsum("bryx,byxc->brc", regions, features) / jnp.maximum(area, 1e-3)[..., None]
    mine = jax.nn.one_hot(labels, CLASSES)  # nothing for -1
    anything = jnp.full((len(images), 1, CLASSES), 1 / CLASSES)
    weight = jnp.concatenate([there, jnp.ones((len(images), 1))], 1)
    answers = optax.softmax_cross_entropy(model.head(means), jnp.concatenate([mine, anything], 1))
    shown = mine.max(1)
    mixture = shown / jnp.maximum(shown.sum(1, keepdims=True), 1)
    canvas = optax.softmax_cross_entropy(model.head(features.mean((1, 2))), mixture)
    return (weight * answers).sum() / weight.sum() + canvas.mean()


def measure_accuracy(model: ScenesNetwork) -> dict[str, float]:
    """Returns how well held-out scenes are named, in percent."""
    answer = jax.jit(lambda model, x: model(x))
    drawing = jax.jit(draw, static_argnums=1)
    pairs, scenes, first = [], [], []
    for start in range(0, HELD_OUT, 100):
        images, _, labels = drawing(np.arange(start, start + 100), HELD_OUT_SEED)
        logits = np.asarray(answer(model, images))
        for row, label in zip(logits, np.asarray(labels), strict=True):
            shown = np.unique(label[label >= 0])
            top = np.argsort(-row)[: len(shown)]
            hits = np.isin(shown, top)
            pairs += hits.tolist()
            scenes.append(hits.all())
            first.append(top[0] in shown)
    return {
        "shapes among the first as many as are shown": 100 * float(np.mean(pairs)),
        "scenes with all of them there": 100 * float(np.mean(scenes)),
        "first answer is shown": 100 * float(np.mean(first)),
    }


def train(steps: int, stop: int) -> ScenesNetwork:
    """Returns the network after `stop` steps of a schedule of `steps`; prints as it goes."""
    graph, state = nnx.split(ScenesNetwork(rngs=nnx.Rngs(0)))
    optimiser = optax.adam(optax.cosine_onecycle_schedule(steps, PEAK, pct_start=0.15))

    @jax.jit  # not a scan over steps: in a loop, the CPU took ten times as long
    def step(state, moments, images, masks, labels):
        def lose(state):
            return measure_loss(nnx.merge(graph, state), images, masks, labels)

        loss, gradient = jax.value_and_grad(lose)(state)
        updates, moments = optimiser.update(gradient, moments, state)
        return optax.apply_updates(state, updates), moments, loss

    drawing = jax.jit(draw, static_argnums=1)
    moments, losses, started = optimiser.init(state), [], time.time()
    for number in range(stop):
        scenes = drawing(number * BATCH + np.arange(BATCH), 1)
        state, moments, loss = step(state, moments, *scenes)
        losses.append(loss)
        if (number + 1) % REPORT == 0:
            mean = np.mean(losses[-REPORT:])
            print(number + 1, f"{mean:.3f}", f"{time.time() - started:.0f} s", flush=True)
    return nnx.merge(graph, state)


def main() -> None:
    """Parses the command line, trains, and writes the weights in float16."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=3000, help="of the schedule")
    parser.add_argument("--stop", type=int, default=1968, help="steps taken of these")
    parser.add_argument("--smoke", action="store_true", help="4 steps, writes nothing")
    options = parser.parse_args()
    model = train(options.steps, 4 if options.smoke else options.stop)
    print(json.dumps(measure_accuracy(model)))
    if not options.smoke:
        flat = nnx.to_flat_state(nnx.state(model))
        save_file(
            {
                ".".join(map(str, path)): np.asarray(each.get_value(), np.float16)
                for path, each in flat
            },
            WEIGHTS,
        )


if __name__ == "__main__":
    main()
