"""Recurrent cells against step-by-step walks in NumPy, and what all of them have in common."""

import jax
import jax.numpy as jnp
import lstm_oracle
import numpy as np
import oracle
import pytest
from flax import nnx
from jax import lax

from jaxground.core import ground
from jaxground.core.transform import rebuilt
from jaxground.models import LSTM
from jaxground.spatiotemporal.cells import cell_rules

pytestmark = pytest.mark.usefixtures("float64")

TIME, WIDTH, UNITS, CLASSES, STATIC = 4, 5, 3, 2, 2
GENERATOR = np.random.default_rng(3)
FEATURES = GENERATOR.uniform(size=(2, TIME, WIDTH))
FIXED = GENERATOR.uniform(size=(2, STATIC))
CLASSIFIER = GENERATOR.normal(size=(UNITS, CLASSES))
PRIORS = np.zeros((2, 2, TIME, CLASSES))  # [k, batch, steps, classes]
PRIORS[0, 0, -1, 0] = PRIORS[0, 1, -1, 1] = 1  # one class at the last step
PRIORS[1, :, 1] = [[0.75, 0.25], [0, 1]]  # another at the second, or both


def lstm(activation="relu", static=0):
    layer = LSTM(
        WIDTH, UNITS, static=static, activation=activation, dtype=np.float64, rngs=nnx.Rngs(0)
    )
    layer.bias[...] = np.random.default_rng(0).normal(size=4 * UNITS)
    layer.bias[3 * UNITS :] = 0.5  # few units are dead
    return layer


def masses(rnn, *inputs, cell="paper"):
    """Returns the mass at each input, `[k, batch, ...]`, compiled."""
    network = rebuilt(rnn)

    @jax.jit
    def pulled(inputs):
        rules = cell_rules(cell, network, inputs)
        outputs, _, pull = ground(lambda inputs: network(*inputs), inputs, rules=rules)
        return jax.vmap(pull)(jnp.asarray(PRIORS, outputs.dtype))

    return pulled(tuple(map(jnp.asarray, inputs)))


def walked(walk, layer, *inputs):
    """Returns the same, by the walk of the oracle."""
    kernels = [np.asarray(layer.kernel[...])]
    if len(inputs) > 1:
        kernels.append(np.asarray(layer.static_kernel[...]))
    recurrent, bias = np.asarray(layer.recurrent_kernel[...]), np.asarray(layer.bias[...])
    found = [np.zeros((len(PRIORS), *np.shape(x))) for x in inputs]
    for k, b in np.ndindex(PRIORS.shape[:2]):
        rows = [np.broadcast_to(x[b], (TIME, x.shape[-1])) for x in inputs]
        run = lstm_oracle.forward(rows, kernels, recurrent, bias)
        shares = map(lstm_oracle.share, PRIORS[k, b], run.h[:, None], [[CLASSIFIER]] * TIME)
        at_hidden = np.concatenate(list(shares))
        for all_masses, mass in zip(
            found, walk(run, rows, kernels, recurrent, at_hidden), strict=True
        ):
            all_masses[k, b] = mass if all_masses.ndim == 4 else mass.sum(0)
    return found


@pytest.mark.parametrize("cell", ["paper", "caffe"])
def test_the_relu_lstm_does_what_the_formulas_say(cell):
    """With an input that is the same at all steps, too: in `caffe` each takes all of the mass."""
    walk = getattr(lstm_oracle, cell)
    for inputs in ((FEATURES,), (FEATURES, FIXED)):
        layer = lstm(static=STATIC * (len(inputs) - 1))
        found = masses(lambda *x, layer=layer: layer(*x) @ CLASSIFIER, *inputs, cell=cell)
        expected = walked(walk, layer, *inputs)
        for mass, of_walk in zip(found, expected, strict=True):
            assert of_walk.sum() > 0.5
            np.testing.assert_allclose(mass, of_walk, rtol=1e-9, atol=1e-15)


def test_the_paper_cell_conserves_mass_at_every_step_and_over_time():
    layer = lstm(static=STATIC)
    for kernel in (layer.kernel, layer.recurrent_kernel, layer.static_kernel):
        kernel[...] = jnp.abs(kernel[...])  # every unit has an excitatory child
    of_x, of_static = masses(lambda *x: layer(*x) @ abs(CLASSIFIER), FEATURES, FIXED)
    total = of_x.sum((2, 3)) + of_static.sum(2)
    np.testing.assert_allclose(total, 1, rtol=1e-12)

    def step(state):
        (cell, hidden), x, static = state
        return layer.step((cell, hidden), x, static)

    cell, hidden, at_cell, at_hidden = np.random.default_rng(1).uniform(size=(4, 2, UNITS))
    state = jax.tree.map(jnp.asarray, ((cell, hidden), FEATURES[:, 0], FIXED))
    below = jax.jit(lambda s: ground(step, s).pull((at_cell, at_hidden)))(state)
    found = sum(np.asarray(m.sum(1)) for m in jax.tree.leaves(below))
    np.testing.assert_allclose(found, (at_cell + at_hidden).sum(1), rtol=1e-12)


def test_a_loop_is_what_it_is_unrolled():
    layer = lstm()

    def unrolled(xs):
        carry, outputs = layer.start(len(xs)), []
        for t in range(TIME):
            carry = layer.step(carry, xs[:, t])
            outputs.append(carry[1])
        return jnp.stack(outputs, 1) @ CLASSIFIER

    for cell in ("paper", "caffe"):  # the loop is what the walk says, see above
        (of_walk,) = walked(getattr(lstm_oracle, cell), layer, FEATURES)
        (found,) = masses(unrolled, FEATURES, cell=cell)
        np.testing.assert_allclose(found, of_walk, rtol=1e-9, atol=1e-15)


def flax_lstm(layer, activation):
    """Returns Flax's cell with the weights of ours; its last two gates are the other way."""
    inputs = layer.kernel[...].shape[0]
    cell = nnx.OptimizedLSTMCell(
        inputs, UNITS, activation_fn=activation, param_dtype=np.float64, rngs=nnx.Rngs(0)
    )
    i, f, o, g = np.split(np.arange(4 * UNITS), 4)
    order = np.concatenate([i, f, g, o])
    cell.dense_i.kernel[...] = layer.kernel[...][:, order]
    cell.dense_h.kernel[...] = layer.recurrent_kernel[...][:, order]
    cell.dense_h.bias[...] = layer.bias[...][order]
    return nnx.RNN(cell)


def test_stacked_layers_of_flax_are_cells_written_by_hand():
    activation = "tanh"
    layers = (
        lstm(activation),
        LSTM(UNITS, UNITS, activation=activation, dtype=np.float64, rngs=nnx.Rngs(1)),
    )
    for kernel in (layers[0].kernel, layers[1].kernel):  # some mass arrives with tanh, too
        kernel[...] = jnp.abs(kernel[...])
    theirs = nnx.Sequential(*(flax_lstm(x, getattr(nnx, activation)) for x in layers))

    def ours(xs):
        def turn(carries, x):
            new = []
            for layer, carry in zip(layers, carries, strict=True):
                new.append(layer.step(carry, x))
                x = new[-1][1]
            return new, x

        carries = [layer.start(len(xs)) for layer in layers]
        return lax.scan(turn, carries, xs.swapaxes(0, 1))[1].swapaxes(0, 1)

    (of_theirs,) = masses(nnx.Sequential(theirs, lambda h: h @ CLASSIFIER), FEATURES)
    (of_ours,) = masses(lambda x: ours(x) @ CLASSIFIER, FEATURES)
    assert of_ours.sum() > 0.5
    np.testing.assert_allclose(of_theirs, of_ours, rtol=1e-9, atol=1e-15)


def convolved_lstm(kernel, recurrent, bias):
    """Returns a loop over a convolutional LSTM: states and features are grids."""

    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def rnn(xs):
        def turn(carry, x):
            cell, hidden = carry
            total = convolve(x, kernel) + convolve(hidden, recurrent) + bias
            i, f, o, g = jnp.split(total, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jax.nn.relu(g)
            hidden = jax.nn.sigmoid(o) * jax.nn.relu(cell)
            return (cell, hidden), hidden

        zeros = jnp.zeros((*xs.shape[:1], *xs.shape[2:4], recurrent.shape[2]))
        hidden = lax.scan(turn, (zeros, zeros), xs.swapaxes(0, 1))[1].swapaxes(0, 1)
        return hidden.reshape(*xs.shape[:2], -1)

    return rnn


def test_a_convolutional_lstm_is_a_large_dense_one():
    """Written by hand as a scan; the walk takes its convolutions as matrices."""
    side, inputs, units = 3, 2, 1
    generator = np.random.default_rng(4)
    kernel, recurrent = (generator.normal(size=(3, 3, n, 4 * units)) for n in (inputs, units))
    bias = np.array([0.0, 0.1, 0.2, 0.5])
    xs = generator.uniform(size=(2, TIME, side, side, inputs))
    classifier = generator.normal(size=(side * side * units, CLASSES))
    rnn = convolved_lstm(kernel, recurrent, bias)
    (found,) = masses(lambda x: rnn(x) @ classifier, xs)

    def dense(kernel):
        """The gates come last in a convolution's outputs and first in the walk's."""
        pad = oracle.same_padding((side, side), (3, 3), 1)
        grid = (side, side, kernel.shape[2])
        matrix = oracle.matrix(lambda x: oracle.convolve(x, kernel, 1, pad), grid)
        return matrix.reshape(-1, 4, units, matrix.shape[1]).swapaxes(0, 1).reshape(matrix.shape).T

    kernels, flat = [dense(kernel)], xs.reshape(2, TIME, -1)
    wide_bias = np.repeat(bias, side * side * units)
    for k, b in np.ndindex(PRIORS.shape[:2]):
        run = lstm_oracle.forward([flat[b]], kernels, dense(recurrent), wide_bias)
        shares = map(lstm_oracle.share, PRIORS[k, b], run.h[:, None], [[classifier]] * TIME)
        at_hidden = np.concatenate(list(shares))
        (expected,) = lstm_oracle.paper(run, [flat[b]], kernels, dense(recurrent), at_hidden)
        np.testing.assert_allclose(found[k, b].reshape(TIME, -1), expected, rtol=1e-9, atol=1e-15)


CELLS = {
    "GRU": lambda rngs: nnx.RNN(nnx.GRUCell(WIDTH, 8, rngs=rngs)),
    "bidirectional": lambda rngs: nnx.Bidirectional(
        nnx.RNN(nnx.LSTMCell(WIDTH, 4, rngs=rngs)), nnx.RNN(nnx.GRUCell(WIDTH, 4, rngs=rngs))
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_other_cells_ground_unmodified(name):
    """Sub-probabilities, nothing from the future; what tanh units below zero lose is measured.

    A method of a model is rebuilt like the model.
    """
    rngs = nnx.Rngs(1)
    rnn = nnx.Sequential(CELLS[name](rngs), nnx.Linear(8, CLASSES, rngs=rngs))
    (found,) = masses(rnn.__call__ if name == "GRU" else rnn, FEATURES.astype(np.float32))
    total = np.asarray(found.sum((2, 3)))
    assert (np.asarray(found) >= 0).all()
    assert (total <= 1 + 1e-6).all()
    assert total.max() > 0.5
    past = found[1, :, 2:].sum()  # the second prior starts at the second step
    assert (past > 0.01) if name == "bidirectional" else (past == 0)


def test_what_is_no_cell_is_refused():
    with pytest.raises(ValueError, match="cell must be 'paper' or 'caffe' or a table, got 'torch'"):
        cell_rules("torch", lambda x: x, (FEATURES,))
    with pytest.raises(ValueError, match="found none: compute it by jaxground"):
        cell_rules("caffe", lambda x: lax.cumsum(x @ x.mT), (FEATURES,))
    with pytest.raises(ValueError, match="activation is 'relu' or 'tanh', not 'gelu'"):
        lstm("gelu")
