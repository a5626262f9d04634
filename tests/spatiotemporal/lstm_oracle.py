"""An LSTM and what it does with mass, step by step, NumPy in float64, written from the formulas.

One sequence; gates in the order i, f, o, g. `kernels` are those of the inputs of a step: `x_t`, and
any that are the same at all steps. Imports no jaxground.
"""

from typing import NamedTuple

import numpy as np


class Run(NamedTuple):
    """The values of all steps: each `[time, units]`, `children` the inputs `[time, inputs]`."""

    i: np.ndarray
    f: np.ndarray
    o: np.ndarray
    g: np.ndarray
    c: np.ndarray
    h: np.ndarray


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(inputs, kernels, recurrent, bias, activation=lambda x: np.maximum(x, 0)):
    """Returns the values of all steps; `inputs` are `[time, size]` each."""
    units = len(recurrent)
    c = h = np.zeros(units)
    rows = []
    for t in range(len(inputs[0])):
        total = h @ recurrent + bias + sum(x[t] @ w for x, w in zip(inputs, kernels, strict=True))
        i, f, o = (sigmoid(total[k * units : (k + 1) * units]) for k in range(3))
        g = activation(total[3 * units :])
        c = f * c + i * g
        h = o * activation(c)
        rows.append((i, f, o, g, c, h))
    return Run(*(np.stack(values) for values in zip(*rows, strict=True)))


def share(mass, children, kernels):
    """Returns the mass of each child, which all parents share among all children."""
    parts = [x[:, None] * np.maximum(w, 0) for x, w in zip(children, kernels, strict=True)]
    total = sum(part.sum(0) for part in parts)
    q = np.divide(mass, total, out=np.zeros_like(mass), where=total != 0)
    return [part @ q for part in parts]


def paper(run, inputs, kernels, recurrent, at_hidden):
    """Returns the mass at the inputs: the conserving cell, gates as weights."""
    units = len(recurrent)
    found = [np.zeros_like(x) for x in inputs]
    to_c = to_h = np.zeros(units)
    for t in reversed(range(len(run.c))):
        c_before, h_before = (v[t - 1] if t else np.zeros(units) for v in (run.c, run.h))
        total = to_c + to_h + at_hidden[t]
        q = np.divide(total, run.c[t], out=np.zeros(units), where=run.c[t] > 0)
        to_c = q * run.f[t] * c_before
        new = [*(w[:, 3 * units :] for w in kernels), recurrent[:, 3 * units :]]
        *masses, to_h = share(q * run.i[t] * run.g[t], [*(x[t] for x in inputs), h_before], new)
        for all_steps, mass in zip(found, masses, strict=True):
            all_steps[t] = mass
    return found


def caffe(run, inputs, kernels, recurrent, at_hidden):
    """Returns the mass at the inputs: the gradient within the cell, no path through `h`."""
    units = len(recurrent)
    found = [np.zeros_like(x) for x in inputs]
    to_c = np.zeros(units)
    for t in reversed(range(len(run.c))):
        i, f, o, g, c, _ = (v[t] for v in run)
        c_before = run.c[t - 1] if t else np.zeros(units)
        total = to_c + at_hidden[t] * o * (c > 0)
        to_i = total * g * i * (1 - i)
        to_f = total * c_before * f * (1 - f)
        to_o = at_hidden[t] * np.maximum(c, 0) * o * (1 - o)
        to_g = total * i * (g > 0)
        to_c = total * f
        for all_steps, x, w in zip(found, inputs, kernels, strict=True):  # each takes all of it
            (all_steps[t],) = share(np.concatenate([to_i, to_f, to_o, to_g]), [x[t]], [w])
    return found
