"""Dropout as a function, and as a module that a model is written with once."""

import jax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from jaxground.dropout.keeping import Head, Units, excitation_keep
from jaxground.dropout.schemes import Excitation, Rescale, Scheme, check_rescale, drawn


def excitation_dropout(
    key: Array,
    head: Head,
    hidden: Array,
    labels: ArrayLike | None,
    base: ArrayLike = 0.5,
    *,
    rescale: Rescale = "mean",
    units: Units = "neuron",
) -> Array:
    """Returns activations of which those that carry the evidence are likely to be zero.

    Each image has its own mask; neither mask nor factor takes part in differentiation. What lies
    below the layer is not run again. Cost: `excitation_evidence`, a forward pass of the head, one
    of its normalisers and one backward pass of it, besides the training step.

    Args:
      key: Of the random mask.
      head: The network from the layer on: maps `hidden` to logits `float[batch, classes]`. It
        should be deterministic, without dropout of its own.
      hidden: The activations of the layer, `float[batch, ...]`.
      labels: The true classes `int[batch]`; `None` takes those that the head predicts.
      base: Probability of keeping a neuron where all carry the same evidence, in (0, 1).
      rescale: `"mean"`, `"none"` or `"unit"` (see `Excitation`).
      units: `"neuron"`, or for convolutional layers `"channel"` or `"position"`.

    Raises:
      TypeError: Activations or logits that are not floating point, labels that are no integers.
      ValueError: `base` outside (0, 1), a layer of one unit, NaN activations, labels out of range,
        a head that does not reach the logits or does not use `hidden`.

    Example:
      >>> import jax.numpy as jnp
      >>> head = lambda h: h @ jnp.eye(2)
      >>> excitation_dropout(jax.random.key(0), head, jnp.ones((2, 2)), jnp.array([0, 1]))
      Array([[0., 2.],
             [2., 0.]], dtype=float32)

    References:
      Zunino et al., Excitation Dropout, IJCV 2021; the code of its authors for `rescale`.
    """
    check_rescale(rescale)
    factors = drawn(key, excitation_keep(head, hidden, labels, base, units=units), rescale)
    return _scaled(hidden, factors)


class Dropout(nnx.Module):
    """Dropout of any scheme, so that a model is written once.

    Identity in evaluation (`model.eval()`), but for `Standout`; what a scheme needs is given in the
    call, and the others ignore it:

        hidden = nnx.relu(before := self.fc1(x))
        hidden = self.dropout(
            hidden, head=self.head, labels=labels, step=step, preactivations=before
        )
        return self.head(hidden)

    Several layers may have it; the evidence of each is that of the masked network so far.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxground.dropout import Standard
      >>> layer = Dropout(Standard(0.5), rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((1, 4))).shape, layer(jnp.ones((1, 2)), deterministic=True)
      ((1, 4), Array([[1., 1.]], dtype=float32))
    """

    def __init__(
        self,
        scheme: Scheme | None = None,
        *,
        deterministic: bool = False,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        """Makes the layer.

        Args:
          scheme: `Standard`, `Curriculum`, `Standout` or `Excitation`, the default.
          deterministic: Whether it starts in evaluation.
          rngs: Where its keys come from (stream `dropout`); `None` if every call brings its own.
        """
        self.scheme = Excitation() if scheme is None else scheme
        self.deterministic = deterministic
        stream = rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs
        self.rngs = nnx.data(None if stream is None else stream.fork())

    def __call__(
        self,
        hidden: Array,
        *,
        head: Head | None = None,
        labels: ArrayLike | None = None,
        step: ArrayLike | None = None,
        preactivations: ArrayLike | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
    ) -> Array:
        """Returns the activations, some of them zero.

        Args:
          hidden: Activations `float[batch, ...]`.
          head: For `Excitation`: the network from here on, to the logits.
          labels: For `Excitation`: true classes `int[batch]`; `None` takes the predicted ones.
          step: For `Curriculum`: training steps so far.
          preactivations: For `Standout`: what entered the activation function.
          deterministic: Overrides the module's own.
          rngs: A key, or where one is drawn from, instead of the module's own.

        Raises:
          ValueError: The scheme misses what it needs, or there is no key.
        """
        if self.deterministic if deterministic is None else deterministic:
            expected = self.scheme.expected(preactivations=preactivations)
            return hidden if expected is None else _scaled(hidden, expected)
        factors = self.scheme.factors(
            self._key(rngs),
            hidden,
            head=head,
            labels=labels,
            step=step,
            preactivations=preactivations,
        )
        return _scaled(hidden, factors)

    def set_view(self, deterministic: bool | None = None):
        """Sets what `nnx.view(model, deterministic=...)` asks for."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, rngs) -> Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("dropout draws a mask in training: give rngs= to the module or call")
        if isinstance(source, nnx.Rngs):
            source = source.dropout
        return source() if isinstance(source, nnx.RngStream) else source


def _scaled(hidden: Array, factors: Array) -> Array:
    return hidden * jax.lax.stop_gradient(factors).astype(hidden.dtype)
