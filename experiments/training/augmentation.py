"""What is done to images inside the training step."""

import jax
import jax.numpy as jnp


def augment(key, images, *, side: int, padding: int = 0, mirror: bool = True):
    """Returns a random square of each image, some of them mirrored.

    Args:
      key: Of the random choices.
      images: `[batch, height, width, channels]`.
      side: Of the square.
      padding: Zeros around the images first, so that they shift.
      mirror: Whether every second image is mirrored, on average.
    """
    if padding:
        images = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    batch, height, width, channels = images.shape
    corner, flip = jax.random.split(key)
    if (height, width) != (side, side):
        room = jnp.array([height - side + 1, width - side + 1])
        corners = jax.random.randint(corner, (batch, 2), 0, room)
        images = jax.vmap(
            lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), (side, side, channels))
        )(images, corners)
    if mirror:
        flipped = jax.random.bernoulli(flip, shape=(batch, 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    return images


def central(images, side: int):
    """Returns the central square of each image."""
    top, left = ((n - side) // 2 for n in images.shape[1:3])
    return images[:, top : top + side, left : left + side]
