"""What every network has besides its layers."""

import dataclasses
import functools
import importlib.resources

import jax
import jax.numpy as jnp
from flax import nnx

from jaxground.data.moving_scenes import EVENTS
from jaxground.data.sentences import VOCABULARY
from jaxground.models.preprocess import IMAGENET, Preprocess


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a network besides its weights: static, hashable, no array.

    Attributes:
      name: Name in `models.names()`.
      ground_at: Tap at which excitation backprop is best read.
      cam_at: Last convolutional stage, where Grad-CAM is read.
      classes: Name of the list of its classes, see `class_names`.
      preprocess: From a picture to the network's input.
    """

    name: str
    ground_at: str
    cam_at: str
    classes: str | None = "imagenet"
    preprocess: Preprocess = IMAGENET

    @property
    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of the logits, () where unknown."""
        return class_names(self.classes) if self.classes else ()


class Network(nnx.Module):
    """An image classifier: `network(images)` is `[batch, classes]` logits.

    Images are `float32[batch, height, width, 3]`, made by `network.preprocess`. A network is a
    pytree of parameters and statistics, without random state: close over it, pass it to `jax.jit`
    as an argument, or split it with `nnx.split`. It is in inference mode until `network.train()`;
    then pass `rngs=nnx.Rngs(...)`, from which dropout draws.

    With `spatial=True` the final pooling over positions is left out and fully connected layers
    become convolutions, so that the logits are `[batch, height', width', classes]`.
    """

    card: Card
    spatial: bool

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the logits."""
        raise NotImplementedError

    @property
    def preprocess(self) -> Preprocess:
        """Returns what makes the network's input of a picture."""
        return self.card.preprocess


def checked(images: jax.Array) -> jax.Array:
    """Returns the images, having refused what no network reads without silent nonsense.

    Raises:
      TypeError: The images are integers: they have not been preprocessed.
      ValueError: They are not `[batch, height, width, 3]`.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images are {images.dtype} where a network reads normalised floats: "
            "pass network.card.preprocess(images)"
        )
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images are {list(images.shape)} where a network reads [batch, height, width, 3]; "
            "add the batch axis with images[None], or move the channels last"
        )
    return images


@functools.cache
def class_names(vocabulary: str) -> tuple[str, ...]:
    """Returns the names of the classes of a list.

    Args:
      vocabulary: "imagenet", "imagenet_background", "cifar10", "moving_scenes", or
        "moving_scenes_words", whose first is the end of a sentence.

    ImageNet's are the 1000 WordNet 3.0 synsets of ILSVRC 2012 in the order of their ids, each
    with all its lemmas; some networks have a class "background" before them.

    Example:
      >>> class_names("imagenet")[340]
      'zebra'
    """
    if vocabulary == "cifar10":
        return tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    if vocabulary == "moving_scenes":
        return tuple(EVENTS)
    if vocabulary == "moving_scenes_words":
        return ("<end>", *VOCABULARY)
    if vocabulary not in ("imagenet", "imagenet_background"):
        raise ValueError(f"no list of classes is called {vocabulary!r}")
    names = tuple(line.split("\t")[1] for line in _imagenet_lines())
    return names if vocabulary == "imagenet" else ("background", *names)


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet's 1000 classes, such as "n02391049" for zebra."""
    return tuple(line.split("\t")[0] for line in _imagenet_lines())


def _imagenet_lines() -> list[str]:
    file = importlib.resources.files("jaxground.models") / "imagenet_classes.txt"
    return file.read_text("utf-8").splitlines()
