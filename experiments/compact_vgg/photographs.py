"""The photographs behind the embedded network: CIFAR-10 (JPEG) and a Tiny ImageNet subset.

Both are research data read in place from `JAXGROUND_DATA` (default `../shared/data`); no pixel of
them ships with the package. `OTHER` labels a photograph that shows none of the ten classes.
"""

import os
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from jaxground.data.classification import Labelled as Photographs
from jaxground.data.classification import read_jpegs
from jaxground.data.images import ImageError

OTHER = 10
HELD_OUT = 2000  # last CIFAR-10 training images: for choosing taps and sizes, never trained on

# CIFAR-10 class -> Tiny ImageNet subset classes that show the same thing.
SAME_CLASS = {
    1: (70, 94, 116, 153),  # automobile: beach wagon, convertible, limousine, sports car
    2: (11, 20, 21, 22),  # bird: goose, black stork, king penguin, albatross
    3: (30, 31, 32),  # cat: tabby, Persian, Egyptian
    5: (24, 25, 26, 27, 28, 29),  # dog: six breeds
    6: (2, 3),  # frog: bullfrog, tailed frog
    8: (115,),  # ship: lifeboat
    9: (121,),  # truck: moving van
}
# Neither one of the ten nor safely something else: look-alike animals and vehicles.
AMBIGUOUS = (
    *(1, 4, 5, 12, 23, 33, 34, 35, *range(47, 59)),
    *(81, 84, 103, 107, 108, 111, 114, 133, 137, 145, 161, 164, 166),
)


def data_folder() -> Path:
    """Returns the folder of the real data, `JAXGROUND_DATA` or `../shared/data`."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("JAXGROUND_DATA", default))


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Returns arrays of an archive; raises `ImageError` where it is torn or absent."""
    try:
        with path.open("rb") as opened, np.load(opened) as archive:
            return [archive[name] for name in names]
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ImageError(
            f"{path} is torn, or no archive with {', '.join(names)} ({error}): copy it again"
        ) from error


def load_cifar10(split: str, limit: int | None = None) -> Photographs:
    """Returns CIFAR-10 (JPEG) `train` or `test`, 32x32; any prefix is class-balanced."""
    path = data_folder() / "cifar10_jpeg" / "cifar10_jpeg.npz"
    labels = read_arrays(path, f"{split}_labels")[0][:limit].astype(np.int32)
    return Photographs(read_jpegs(path, split, rows=range(len(labels))), labels)


def load_tiny_imagenet(split: str) -> Photographs:
    """Returns the Tiny ImageNet subset `train` or `val`, 64x64, relabelled to the ten classes."""
    names = np.full(200, OTHER, np.int32)
    for label, sources in SAME_CLASS.items():
        names[list(sources)] = label
    path = data_folder() / "tiny_imagenet_subset" / "tiny_imagenet.npz"
    sources = read_arrays(path, f"{split}_labels")[0].astype(np.int32)
    chosen = np.flatnonzero(~np.isin(sources, AMBIGUOUS))
    return Photographs(read_jpegs(path, split, rows=chosen), names[sources[chosen]])
