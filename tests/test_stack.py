"""The stack's packages work together, without TensorFlow, in the versions that are installed.

CI runs this on the oldest supported versions, so that a lower bound that is too low fails.
"""

import io

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from PIL import Image


def loss(model: nnx.Module, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels).mean()


def test_training_resumes_from_a_checkpoint(tmp_path):
    """Flax, Optax, Orbax: an interrupted training ends where an uninterrupted one does."""
    inputs = jax.random.normal(jax.random.key(0), (8, 4))
    labels = jnp.arange(8) % 3
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)
    optimizer = nnx.Optimizer(model, optax.adamw(schedule), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model, inputs, labels))

    def train(steps: int) -> float:
        for _ in range(steps):
            step(model, optimizer)
        return float(loss(model, inputs, labels))

    start = train(3)
    with orbax.checkpoint.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=orbax.checkpoint.args.StandardSave(nnx.state((model, optimizer))))
        manager.wait_until_finished()
        end = train(4)
        assert end < start
        abstract = jax.eval_shape(lambda: nnx.state((model, optimizer)))
        saved = manager.restore(3, args=orbax.checkpoint.args.StandardRestore(abstract))
    nnx.update((model, optimizer), saved)
    assert float(loss(model, inputs, labels)) == start
    assert train(4) == end


def test_dataset_without_tensorflow(tmp_path):
    """TFDS: a data set of PNG files, prepared and read at random access."""

    def png(value: int) -> io.BytesIO:
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, "PNG")
        file.seek(0)
        return file

    class Greys(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(shape=(4, 4, 3)), "value": np.int64}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for value in (0, 100, 200):
                yield value, {"image": png(value), "value": value}

    builder = Greys(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(split="train")
    assert sorted(int(example["value"]) for example in source) == [0, 100, 200]
    example = source[1]
    np.testing.assert_array_equal(example["image"], np.full((4, 4, 3), example["value"]))


def test_chex():
    @chex.dataclass(frozen=True)
    class Point:
        x: jax.Array

    point = jax.jit(lambda point: point.replace(x=2 * point.x))(Point(x=jnp.ones(2)))
    chex.assert_trees_all_equal(point, Point(x=np.full(2, 2.0, np.float32)))
    with pytest.raises(AssertionError, match="shape"):
        chex.assert_shape(point.x, (3,))
