"""One compiled function from photographs to everything that is recorded of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxground import MissingRuleError, prepare
from jaxground import maps as array_maps
from jaxground.cli.errors import UserError
from jaxground.cli.photographs import Photograph, batches
from jaxground.evaluation.explainers import plain
from jaxground.methods import METHODS, is_smoothed
from jaxground.models import Network

if TYPE_CHECKING:
    from jaxground.cli.setup import Setup


class Explanation(NamedTuple):
    """What the network says of a batch, and where it stands: JAX arrays, or NumPy's outside.

    Attributes:
      probabilities: `float32[batch, classes]`.
      targets: `int32[batch, k]`, the classes explained.
      maps: `float32[batch, k, h, w]`, raw.
      shown: The same, smoothed where the method is read smoothed.
      peaks: `int32[batch, k, 2]`, row and column in `shown`.
      boxes: `int32[batch, k, 4]`, in pixels of the network's input.
    """

    probabilities: Any
    targets: Any
    maps: Any
    shown: Any
    peaks: Any
    boxes: Any


def prepare_explanation(
    model: Network, name: str, at: str | None
) -> Callable[[jax.Array, jax.Array], Explanation]:
    """Returns a compiled function from images and masks of classes to an `Explanation`.

    Its masks are `bool[k, classes]`: target k of an image is the most probable of the classes
    that mask k leaves. One forward pass serves the probabilities and the maps.

    Args:
      model: The network.
      name: One of `METHODS`.
      at: The tap, or `None` for the image.
    """
    explainer = plain(name, at)
    threshold, smoothed = METHODS[name].threshold, is_smoothed(name, at)

    def explain(f: Callable[..., Any], images: jax.Array, masks: jax.Array) -> Explanation:
        logits = f(images).astype(jnp.float32)
        allowed = jnp.where(masks[None], logits[:, None], -jnp.inf)  # [batch, k, classes]
        targets = jnp.argmax(allowed, axis=-1).astype(jnp.int32)
        keys = jax.random.split(jax.random.key(0), 1).repeat(len(images))  # the same for each
        maps = explainer(f, images, targets, keys)
        shown = array_maps.smooth(maps) if smoothed else maps
        boxes = array_maps.boxes(shown, threshold, size=np.array(images.shape[1:3]))
        probabilities = jax.nn.softmax(logits)
        return Explanation(probabilities, targets, maps, shown, array_maps.peak(shown), boxes)

    return prepare(explain, model)


def explained(
    setup: "Setup", failed: Callable[[Path, Exception], None]
) -> Iterator[tuple[Photograph, Explanation]]:
    """Yields the photographs of a plan with their explanations, NumPy arrays without batch axis.

    Args:
      setup: What is to be done.
      failed: Told of each photograph that cannot be read or explained.

    Raises:
      UserError: The method does not run on this network, tap or size.
    """
    explain = prepare_explanation(setup.model, setup.method, setup.at)
    masks = np.stack([target.mask(setup.count) for target in setup.targets])
    for length, batch in batches(
        tuple(setup.plan.todo),
        setup.model.preprocess,
        short=setup.short,
        batch_size=setup.batch_size,
        failed=failed,
    ):
        images = np.stack(
            [photo.input for photo in batch] + [batch[0].input] * (length - len(batch))
        )
        try:
            found = jax.device_get(explain(jnp.asarray(images), jnp.asarray(masks)))
        except (MissingRuleError, ValueError, TypeError) as error:
            raise UserError(f"{setup.method} on {setup.model.card.name}: {error}") from error
        for i, photo in enumerate(batch):
            result = jax.tree.map(lambda array, i=i: array[i], found)
            if np.isfinite(result.maps).all() and np.isfinite(result.probabilities).all():
                yield photo, result
            else:
                failed(photo.path, ValueError("the network's output is not finite"))
