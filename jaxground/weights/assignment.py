"""The strict transfer of a file's arrays into a network.

A network's parameters are called by path, such as "layer1.0.conv1.kernel". A `Layout` says what a
file calls them and how it orders their axes.
"""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import ml_dtypes
import numpy as np

from jaxground.weights.errors import WeightsError

TORCH_LEAVES = {
    "kernel": ".weight",
    "scale": ".weight",
    "bias": ".bias",
    "mean": ".running_mean",
    "var": ".running_var",
}
MAX_LISTED = 12  # problems shown of one file, the rest is counted


@dataclasses.dataclass(frozen=True)
class Layout:
    """What one family of files calls the parameters of a network, and how it stores them.

    Attributes:
      name: Of the family, for messages.
      modules: From our module's path to theirs; the longest that begins a path counts, and a
        path that none begins is theirs as well. The path of a parameter gives its whole key.
      leaves: From our parameter's name to the end of theirs.
      convolution: Axes of the kernels of convolutions, "OIHW" or "HWIO".
      linear: Axes of the kernels of fully connected layers, "OI" or "IO".
      grids: Fully connected layers that read a flattened grid: its height and width. Files whose
        kernels are "OI" flatten it channel first, our networks (and Keras) channel last.
      convolutional: Fully connected layers that the file stores as convolutions over their grid.
      padded: Whether leading axes of size one may have been added, as old Caffe does.
      bgr: Whether these weights read Caffe's images: bytes in the order BGR minus a mean.
      ignored: Patterns of keys that are known to be of no use at inference.
    """

    name: str
    modules: Mapping[str, str] = dataclasses.field(default_factory=dict)
    leaves: Mapping[str, str] = dataclasses.field(default_factory=lambda: TORCH_LEAVES)
    convolution: str = "OIHW"
    linear: str = "OI"
    grids: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    convolutional: frozenset[str] = frozenset()
    padded: bool = False
    bgr: bool = False
    ignored: tuple[str, ...] = ("*.num_batches_tracked",)

    def key(self, path: str) -> str:
        """Returns the file's key of a parameter.

        Example:
          >>> Layout("x", {"fire2": "features.3"}).key("fire2.squeeze.kernel")
          'features.3.squeeze.weight'
        """
        if path in self.modules:
            return self.modules[path]
        module, leaf = path.rsplit(".", 1)
        begin = [ours for ours in self.modules if f"{module}.".startswith(f"{ours}.")]
        ours = max(begin, key=len, default=module)
        return self.modules.get(ours, ours) + module[len(ours) :] + self.leaves[leaf]

    def shape(self, path: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape in the file of a parameter that has `shape` in the network."""
        module = path.rsplit(".", 1)[0]
        if len(shape) == 2 and module in self.convolutional:
            shape = self._window(module, shape)
        axes = {4: "HWIO", 2: "IO"}.get(len(shape), "")
        theirs = {4: self.convolution, 2: self.linear}.get(len(shape), "")
        return tuple(shape[axes.index(axis)] for axis in theirs) or tuple(shape)

    def to_ours(self, path: str, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Returns the file's array with our axes and shape."""
        module = path.rsplit(".", 1)[0]
        array = array.reshape(self.shape(path, shape))
        if array.ndim == 4:
            return _transposed(array, self.convolution, "HWIO").reshape(shape)
        if array.ndim == 2 and self.linear == "OI":
            height, width, inputs, outputs = self._window(module, shape)
            array = array.reshape(outputs, inputs, height, width)
            return _transposed(array, "OIHW", "HWIO").reshape(shape)
        return array

    def fits(self, path: str, array: np.ndarray, shape: Sequence[int]) -> bool:
        """Returns whether the file's array has the right shape for a parameter."""
        wanted = self.shape(path, shape)
        ones = (1,) * max(0, array.ndim - len(wanted)) if self.padded else ()
        return array.shape == ones + wanted

    def _window(self, module: str, shape: Sequence[int]) -> tuple[int, int, int, int]:
        height, width = self.grids.get(module, (1, 1))
        return height, width, shape[0] // (height * width), shape[1]


def recognise(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, Sequence[int]],
    layouts: Iterable[Layout],
    *,
    source: object = None,
) -> Layout:
    """Returns the layout that fits a file's keys best, and its shapes where the keys leave doubt.

    Args:
      arrays: The file, `{its key: array}`.
      expected: The network, `{our path: shape}`.
      layouts: Those the network is published in.
      source: The file, for messages.

    Raises:
      WeightsError: No key is that of any layout.
    """

    def fit(layout: Layout) -> tuple[int, int]:
        found = [path for path in expected if layout.key(path) in arrays]
        return len(found), sum(layout.fits(p, arrays[layout.key(p)], expected[p]) for p in found)

    layouts = tuple(layouts)
    best = max(layouts, key=fit)
    if fit(best)[0] == 0:
        path = next(iter(expected))
        known = ", ".join(f"{layout.key(path)} ({layout.name})" for layout in layouts)
        found = ", ".join(sorted(arrays)[:4]) or "nothing"
        raise WeightsError(
            f"these are another network's weights, for none of the {len(arrays)} keys is known: "
            f"expected such as {known}; found {found}",
            path=source,
        )
    return best


def assign(
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, Sequence[int]],
    layout: Layout,
    *,
    source: object = None,
) -> dict[str, np.ndarray]:
    """Returns a file's arrays by our paths and in our axes; every one of them must fit.

    Args:
      arrays: The file, `{its key: array}`.
      expected: The network, `{our path: shape}`.
      layout: How the file names and stores them, see `recognise`.
      source: The file, for messages.

    Raises:
      WeightsError: Lists all missing and surplus keys, wrong shapes and types at once.

    Example:
      >>> file = {"fc.weight": np.arange(6.0).reshape(2, 3), "fc.bias": np.zeros(2)}
      >>> network = {"fc.kernel": (3, 2), "fc.bias": (2,)}
      >>> assign(file, network, Layout("torch"), source="fc.pth")["fc.kernel"]
      array([[0., 3.],
             [1., 4.],
             [2., 5.]])
    """
    keys = {path: layout.key(path) for path in expected}
    problems, misfits = [], []
    for path, key in keys.items():
        wanted = list(layout.shape(path, expected[path]))
        if key not in arrays:
            problems.append(f"missing {key}: expected {wanted}")
        elif arrays[key].dtype.kind != "f" and arrays[key].dtype != ml_dtypes.bfloat16:
            problems.append(f"wrong type of {key}: expected floats, found {arrays[key].dtype}")
        elif not layout.fits(path, arrays[key], expected[path]):
            found = list(arrays[key].shape)
            misfits.append((path, wanted, found))
            problems.append(f"wrong shape of {key}: expected {wanted}, found {found}")
    known = set(keys.values())
    problems += [
        f"surplus {key}: expected no such key, found {list(array.shape)}"
        for key, array in arrays.items()
        if key not in known and not any(fnmatch.fnmatch(key, p) for p in layout.ignored)
    ]
    if problems:
        listed = problems[:MAX_LISTED]
        if len(problems) > MAX_LISTED:
            listed.append(f"... and {len(problems) - MAX_LISTED} more")
        if len(misfits) == len(problems):
            listed += _remedy(misfits)
        raise WeightsError(
            f"the weights, read in the layout of {layout.name}, do not fit the network:\n  "
            + "\n  ".join(listed),
            path=source,
        )
    return {path: layout.to_ours(path, arrays[keys[path]], expected[path]) for path in expected}


def _remedy(misfits: list[tuple[str, list[int], list[int]]]) -> list[str]:
    """Returns advice where the only misfit is the number of outputs of one layer."""
    biases = [(wanted, found) for path, wanted, found in misfits if path.endswith(".bias")]
    if len({path.rsplit(".", 1)[0] for path, _, _ in misfits}) != 1 or len(biases) != 1:
        return []
    wanted, found = biases[0]
    return [f"The file has {found[-1]} classes, not {wanted[-1]}: pass num_classes={found[-1]}."]


def _transposed(array: np.ndarray, axes: str, order: str) -> np.ndarray:
    return array.transpose([axes.index(axis) for axis in order])
