"""From a picture to the array that a network was trained on."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**26  # of a resized picture: 800 MB as float32


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Resizes, crops and normalises pictures as a network expects: `preprocess(picture)`.

    The defaults are those of torchvision for ImageNet.

    The picture's shorter side is resized to `size` (bilinear with anti-aliasing, Pillow's), the
    central square of side `crop` is cut out, and `(pixels / scale - mean) / std` is taken per
    channel, in the channels' `order`. This is the reference transform of torchvision, to the bit.

    Attributes:
      size: Pixels of the shorter side before the crop.
      crop: Side of the central crop in pixels: the side of the network's input.
      mean: Per channel, in `order`, on the scaled range.
      std: Likewise.
      order: "RGB", or "BGR" for networks of Caffe.
      scale: What the bytes are divided by: 255 for values in [0, 1].

    Example:
      >>> Preprocess(size=4, crop=2, mean=(0.5,) * 3, std=(0.5,) * 3)(
      ...     np.full((8, 8, 3), 255, np.uint8))[0]
      array([[1., 1., 1.],
             [1., 1., 1.]], dtype=float32)
    """

    size: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    order: Literal["RGB", "BGR"] = "RGB"
    scale: float = 255

    def __call__(
        self, pictures: "Image | np.ndarray | Sequence[Image | np.ndarray]", *, crop: bool = True
    ) -> np.ndarray:
        """Returns the pictures as the network's input.

        Args:
          pictures: A Pillow image, a `uint8[height, width, 3]` array (RGB), or several of them
            in a sequence or a `uint8[batch, height, width, 3]` array.
          crop: With False the whole picture is kept, of any shape, its shorter side resized to
            the side of the crop: for networks that run on any size.

        Returns:
          `float32[height, width, 3]`, with a leading batch axis for several pictures.

        Raises:
          TypeError: For arrays that are not uint8, whose range would be a guess.
          ValueError: For other shapes, and for pictures that end up with unequal sizes.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
            pictures = list(pictures)
        if not isinstance(pictures, Sequence):
            return self._one(pictures, crop)
        arrays = [self._one(picture, crop) for picture in pictures]
        if len({array.shape for array in arrays}) != 1:
            raise ValueError(
                f"the pictures become {sorted({a.shape for a in arrays})}, which make no batch; "
                "crop them (crop=True) or pass them one by one"
            )
        return np.stack(arrays)

    def _one(self, picture: "Image | np.ndarray", crop: bool) -> np.ndarray:
        image = _image(picture)
        image = _resize_short_side(image, self.size if crop else self.crop)
        if crop:
            image = _crop_centre(image, self.crop)
        x = np.asarray(image, np.float32) / np.float32(self.scale)
        x = x[..., ::-1] if self.order == "BGR" else x
        return (x - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)


IMAGENET = Preprocess()


def _image(picture) -> "Image":
    from PIL import Image

    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        found = getattr(picture, "dtype", type(picture).__name__)
        raise TypeError(
            f"a picture is a Pillow image or a uint8 array with values 0..255; this one is {found}"
        )
    if picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
        raise ValueError(f"a picture is [height, width, 3]; this one is {list(picture.shape)}")
    return Image.fromarray(picture)


def _resize_short_side(image: "Image", short: int) -> "Image":
    from PIL import Image

    scale = min(image.size)
    width, height = (short if n == scale else int(short * n / scale) for n in image.size)
    if (width, height) == image.size:
        return image
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"a picture of {image.width} x {image.height} pixels is too long and thin: with its "
            f"shorter side at {short} it would be {width} x {height}; cut it into pieces first"
        )
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _crop_centre(image: "Image", side: int) -> "Image":
    # Half to even, as torchvision rounds; what lies beyond the border is black there as here.
    left, top = (round((n - side) / 2) for n in image.size)
    return image.crop((left, top, left + side, top + side))
