"""Recurrent layers, and the network that reads a video frame by frame."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from jaxground.core import split
from jaxground.models.layers import Layers

Activation = Literal["relu", "tanh"]
Carry = tuple[Array, Array]


@jax.jit
def recurrent_map(hidden: Array, kernel: Array) -> Array:
    """Returns `hidden @ kernel`, under a name by which tables know the path through time.

    Example:
      >>> recurrent_map(jnp.ones(2), jnp.eye(2))
      Array([1., 1.], dtype=float32)
    """
    return hidden @ kernel


def uniform(bound: float) -> nnx.Initializer:
    """Returns an initialiser that draws from `-bound ... bound`, as Caffe's uniform filler."""

    def initialise(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class LSTM(nnx.Module):
    """One layer of long short-term memory, with ReLU or tanh, from `[batch, time, inputs]`.

    Gates are sigmoids, in the order input, forget, output, new, as in Caffe, without peepholes.
    With ReLU the state is never negative, as Excitation Backprop wants it (thesis, section 7.1).

    References:
      Donahue et al., "Long-term recurrent convolutional networks", CVPR 2015; Bargal et al.,
      "Excitation Backprop for RNNs", CVPR 2018.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        static: int = 0,
        activation: Activation = "relu",
        kernel_init: nnx.Initializer | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the kernels.

        Args:
          inputs: Size of the input of a step.
          units: Size of the hidden state.
          static: Size of an input that is the same at all steps; 0 for none.
          activation: Of the new value and of the cell state.
          kernel_init: Of all kernels; by default orthogonal per gate for the recurrent one, and
            Glorot's uniform for the others.
          dtype: Type of the arithmetic.
          rngs: Where the weights are drawn from.
        """
        if activation not in ("relu", "tanh"):
            raise ValueError(f"an LSTM's activation is 'relu' or 'tanh', not {activation!r}")
        self.units = units
        self.activation = activation
        self.dtype = dtype
        stored = jnp.promote_types(dtype, jnp.float32)
        glorot = kernel_init or nnx.initializers.glorot_uniform()
        recurrent = kernel_init or _orthogonal_per_gate
        self.kernel = nnx.Param(glorot(rngs.params(), (inputs, 4 * units), stored))
        self.recurrent_kernel = nnx.Param(recurrent(rngs.params(), (units, 4 * units), stored))
        self.bias = nnx.Param(jnp.zeros(4 * units, stored))
        if static:
            self.static_kernel = nnx.Param(glorot(rngs.params(), (static, 4 * units), stored))

    def start(self, batch: int) -> Carry:
        """Returns the state before the first step: cell and hidden, zeros."""
        zeros = jnp.zeros((batch, self.units), self.dtype)
        return zeros, zeros

    def step(
        self, carry: Carry, x: Array, static: Array | None = None, extra: Array | None = None
    ) -> Carry:
        """Returns the next state, whose second part is the output.

        Args:
          carry: Cell and hidden state, `[batch, units]` each.
          x: `[batch, inputs]`.
          static: `[batch, static]`, if the layer was made for one.
          extra: What else is added before the gates, `[4 * units]`: a weight, no signal.
        """
        activate = jax.nn.relu if self.activation == "relu" else jnp.tanh
        cell, hidden = carry
        total = recurrent_map(hidden, self._cast(self.recurrent_kernel))
        total += x.astype(self.dtype) @ self._cast(self.kernel)
        if static is not None:
            total += static.astype(self.dtype) @ self._cast(self.static_kernel)
        total += self._cast(self.bias)
        if extra is not None:
            total += extra
        take, keep, show, new = jnp.split(total, 4, axis=-1)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(take) * activate(new)
        return cell, jax.nn.sigmoid(show) * activate(cell)

    def run(
        self,
        carry: Carry,
        xs: Array,
        static: Array | None = None,
        *,
        inside: Array | None = None,
    ) -> tuple[Carry, Array]:
        """Returns the state after the last step, and the outputs of all, `[batch, time, units]`.

        Args:
          carry: The state before the first step.
          xs: `[batch, time, inputs]`.
          static: `[batch, static]`, the same at all steps.
          inside: `bool[batch, time]`: at other steps (padding) the state stays what it was.
        """

        def turn(carry, row):
            x, inside = row
            new = self.step(carry, x, static)
            if inside is not None:
                new = jax.tree.map(lambda n, c: jnp.where(inside[:, None], n, c), new, carry)
            return new, new[1]

        rows = xs.swapaxes(0, 1), None if inside is None else inside.swapaxes(0, 1)
        carry, outputs = lax.scan(turn, carry, rows)
        return carry, outputs.swapaxes(0, 1)

    def __call__(
        self, xs: Array, static: Array | None = None, *, inside: Array | None = None
    ) -> Array:
        """Returns the outputs of all steps, `[batch, time, units]`; see `run`."""
        return self.run(self.start(len(xs)), xs, static, inside=inside)[1]

    def _cast(self, kernel: nnx.Param) -> Array:
        return kernel[...].astype(self.dtype)


def _orthogonal_per_gate(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    make = nnx.initializers.orthogonal()
    gates = [make(k, (shape[0], shape[0]), dtype) for k in jax.random.split(key, 4)]
    return jnp.concatenate(gates, axis=1)


class FrameReader(nnx.Module):
    """What networks for videos have in common: a CNN that reads each frame.

    The CNN stays in inference mode, whatever the mode of the rest.
    """

    def __init__(self, cnn: Callable[[Array], Array], at: str):
        """Keeps the CNN, to be read at a tap.

        Args:
          cnn: A network.
          at: A tap, `[n, width]`, or `[n, h, w, width]`, of which the mean over positions is taken.
        """
        self.cnn = cnn
        self.at = at

    @property
    def width(self) -> int:
        """Returns how many features a frame has."""
        return jax.eval_shape(self.features, jnp.zeros((1, 64, 64, 3))).shape[-1]

    def features(self, frames: Array) -> Array:
        """Returns `[n, width]` features of `[n, height, width, 3]` frames."""
        hidden = split(self.cnn, frames, at=self.at).hidden
        return hidden.mean((1, 2)) if hidden.ndim == 4 else hidden

    def video_features(self, video: Array) -> Array:
        """Returns `[batch, time, width]` features of `[batch, time, height, width, 3]` videos."""
        features = self.features(video.reshape(-1, *video.shape[2:]))
        return features.reshape(*video.shape[:2], -1)


class LRCN(FrameReader):
    """A CNN that reads each frame, an LSTM that reads its features, a classifier at each step.

    `model(video)` is logits `[batch, time, classes]`; the recognition score of a clip is the mean
    of their softmax over time. The two halves are `features`, of frames, and `classify`, of
    features, as `spatiotemporal_grounding` takes them. Dropout lies on the features and on the
    hidden states, and draws from the `rngs` of the call.

    References:
      Donahue et al., "Long-term recurrent convolutional networks", CVPR 2015, section 4; with ReLU
      cells Bargal et al., "Excitation Backprop for RNNs", CVPR 2018.
    """

    def __init__(
        self,
        cnn: Callable[[Array], Array],
        at: str,
        classes: int,
        *,
        units: int = 256,
        activation: Activation = "relu",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Makes the LSTM and the classifier.

        Args:
          cnn: See `FrameReader`.
          at: See `FrameReader`.
          classes: How many.
          units: Size of the LSTM.
          activation: Of the LSTM.
          dtype: Type of the LSTM's arithmetic.
          rngs: Where the weights are drawn from.
        """
        super().__init__(cnn, at)
        make = Layers(rngs, dtype)
        self.lstm = LSTM(self.width, units, activation=activation, dtype=dtype, rngs=rngs)
        self.classifier = make.classifier(units, classes)
        self.dropout = make.dropout()

    def classify(
        self, features: Array, *, inside: Array | None = None, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Returns `[batch, time, classes]` logits of `[batch, time, width]` features."""
        hidden = self.lstm(self.dropout(features, rngs=rngs), inside=inside)
        return self.classifier(self.dropout(hidden, rngs=rngs))

    def __call__(self, video: Array, *, rngs: nnx.Rngs | None = None) -> Array:
        """Returns `[batch, time, classes]` logits of `[batch, time, height, width, 3]` videos."""
        return self.classify(self.video_features(video), rngs=rngs)
