"""Excitation Backprop by its definition: a random walk from the output down, NumPy in float64.

A layer is a dense matrix `[parent, child]`, whatever operation it came from. A parent moves to one
of its children with probability in proportion to `x+ w+`; one without excitatory child moves
nowhere. The mass of a unit is the probability that the walk visits it. Imports no jaxground.
"""

import itertools

import numpy as np


def matrix(linear, shape):
    """Returns the dense matrix `[outputs, inputs]` of a linear function of arrays of `shape`."""
    basis = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.stack([np.ravel(linear(e)) for e in basis], axis=1)


def transition(weights, x, clamp=True):
    """Returns the probabilities `[parent, child]` of one layer at its input `x`."""
    children = np.maximum(np.ravel(x), 0) if clamp else np.ravel(x)
    excitation = np.maximum(weights, 0) * children
    total = excitation.sum(1, keepdims=True)
    return np.divide(excitation, total, out=np.zeros_like(excitation), where=total != 0)


def chain(prior, transitions):
    """Returns the mass below all layers; `transitions` from the output down."""
    mass = np.ravel(prior)
    for step in transitions:
        mass = mass @ step
    return mass


def paths(prior, transitions):
    """Returns what `chain` does, as the sum of the probabilities of all paths from the output."""
    sizes = [np.size(prior), *(t.shape[1] for t in transitions)]
    mass = np.zeros(sizes[-1])
    for path in itertools.product(*map(range, sizes)):
        steps = zip(transitions, path[:-1], path[1:], strict=True)
        mass[path[-1]] += np.ravel(prior)[path[0]] * np.prod([t[i, j] for t, i, j in steps])
    return mass


def convolve(x, kernel, strides, padding, lhs_dilation=1, rhs_dilation=1, groups=1):
    """Returns the convolution of `[*space, in]` with `[*window, in / groups, out]`."""
    space, window = np.array(x.shape[:-1]), np.array(kernel.shape[:-2])
    dilated = np.zeros([*((space - 1) * lhs_dilation + 1), x.shape[-1]])
    apart = np.broadcast_to(lhs_dilation, space.shape)
    dilated[tuple(slice(None, None, step) for step in apart)] = x
    padded = np.pad(dilated, [*padding, (0, 0)])
    every = np.broadcast_to(rhs_dilation, space.shape)
    reach = (window - 1) * every + 1
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    result = np.zeros([*((padded.shape[:-1] - reach) // strides + 1), kernel.shape[-1]])
    for at in np.ndindex(*result.shape[:-1]):
        corner = np.multiply(at, strides)
        bounds = np.stack([corner, corner + reach, every], axis=1)
        patch = padded[tuple(slice(*b) for b in bounds)]
        for g in range(groups):
            ins, outs = (slice(g * n, (g + 1) * n) for n in (inputs, outputs))
            result[at][outs] = np.tensordot(patch[..., ins], kernel[..., outs], len(space) + 1)
    return result


def same_padding(space, window, strides, dilation=1):
    """Returns the padding that makes `ceil(n / stride)` outputs, the odd one at the end."""
    space, reach = np.array(space), (np.array(window) - 1) * dilation + 1
    total = np.maximum((-(-space // strides) - 1) * strides + reach - space, 0)
    return np.stack([total // 2, total - total // 2], axis=1)


def average_pool(x, window, strides, padding, count_padding=True):
    """Returns the average over windows of `[*space, channel]`."""
    eye = np.eye(x.shape[-1])
    ones = np.broadcast_to(eye, (*window, *eye.shape))
    total = convolve(x, ones, strides, padding)
    if count_padding:
        return total / np.prod(window)
    return total / convolve(np.ones_like(x), ones, strides, padding)


def winners(x, window, strides):
    """Returns the matrix that selects the maximum of each window of `[*space, channel]`."""
    size = (np.array(x.shape[:-1]) - window) // strides + 1
    index = np.arange(x.size).reshape(x.shape)
    rows = []
    for *at, channel in np.ndindex(*size, x.shape[-1]):
        corner = np.array(at) * strides
        inside = tuple(slice(*b) for b in np.stack([corner, corner + window], axis=1))
        children = np.ravel(index[(*inside, channel)])
        rows.append(children[np.ravel(x)[children].argmax()])
    return np.eye(x.size)[rows]
