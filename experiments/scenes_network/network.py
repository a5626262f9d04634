"""The small network that names the shapes in drawn scenes."""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from jaxground import tap
from jaxground.data.scenes import Scenes
from jaxground.models import Card, Network, Preprocess
from jaxground.models.layers import Layers, global_average_pool, max_pool
from jaxground.weights import read

# Two or three shapes of eight, any colour and texture, with blobs of the same colours and
# textures that are nothing: only the shape tells.
SCENES = Scenes(side=64, objects=(2, 3), distractors=(1, 2), diameter=(0.3, 0.5))
WEIGHTS = Path(__file__).with_name("scenes_network.safetensors")
STAGES = ((24,), (32, 48), (64, 80))  # channels of the convolutions of each stage
CARD = Card(
    name="scenes_network",
    ground_at="conv3_2",
    cam_at="conv3_2",
    classes=None,
    preprocess=Preprocess(size=64, crop=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)


class ScenesNetwork(Network):
    """A 5x5 and four 3x3 convolutions in three stages, the mean over positions, a linear map.

    Taps: conv1_1 (stride 2), pool1, conv2_1, conv2_2, pool2, conv3_1, conv3_2 (convolutions after
    the ReLU) and pool.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        """Makes the layers."""
        make = Layers(rngs)
        self.spatial, self.card = False, CARD
        inputs = 3
        for stage, widths in enumerate(STAGES, 1):
            for i, width in enumerate(widths, 1):
                size, strides = (5, 2) if inputs == 3 else (3, 1)
                convolution = make.convolution(
                    inputs, width, size, strides=strides, padding=size // 2
                )
                setattr(self, f"conv{stage}_{i}", convolution)
                inputs = width
        self.head = make.classifier(inputs, len(SCENES.categories))

    def features(self, images: jax.Array) -> jax.Array:
        """Returns the last feature map, `[batch, 8, 8, 80]` of `[batch, 64, 64, 3]` images."""
        x = images
        for stage, widths in enumerate(STAGES, 1):
            if stage > 1:
                x = tap(max_pool(x, 2, 2), f"pool{stage - 1}")
            for i, _ in enumerate(widths, 1):
                name = f"conv{stage}_{i}"
                x = tap(nnx.relu(getattr(self, name)(x)), name)
        return x

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns `[batch, 8]` logits."""
        return self.head(tap(global_average_pool(self.features(images)), "pool"))


def load() -> ScenesNetwork:
    """Returns the trained network."""
    arrays = read(WEIGHTS)
    model = ScenesNetwork(rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    filled = [
        (path, each.replace(jnp.asarray(arrays[".".join(map(str, path))])))
        for path, each in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))
