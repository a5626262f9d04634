"""Preprocessing: sizes, crops and numbers of torchvision's reference transform."""

import numpy as np
import pytest
from PIL import Image

from jaxground import models
from jaxground.models import Preprocess


def _picture(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def test_a_picture_of_the_right_size_is_only_normalised():
    picture = _picture(256, 256)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (picture[16:240, 16:240] / 255.0 - mean) / std
    found = Preprocess()(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("height, width", [(300, 401), (401, 300), (100, 64)])
def test_short_side_is_resized_and_the_centre_cut_out(height, width):
    picture = _picture(height, width)
    short = 256 / min(height, width)
    size = (int(width * short), int(height * short))
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    top, left = (round((n - 224) / 2) for n in resized.shape[:2])
    plain = Preprocess(mean=(0, 0, 0), std=(1, 1, 1), scale=1)(picture)
    np.testing.assert_array_equal(plain, resized[top : top + 224, left : left + 224])


def test_without_crop_the_short_side_is_the_networks():
    found = Preprocess()(_picture(100, 151), crop=False)
    assert found.shape == (224, 338, 3)  # int(151 * 224 / 100)
    assert Preprocess()(_picture(151, 100), crop=False).shape == (338, 224, 3)


def test_channels_in_reverse_for_caffe():
    picture = _picture(8, 8)
    caffe = Preprocess(8, 8, (1, 2, 3), (1, 1, 1), "BGR", 1)
    np.testing.assert_array_equal(caffe(picture), picture[..., ::-1] - np.float32([1, 2, 3]))


def test_images_arrays_and_batches_agree():
    pictures = np.stack([_picture(40, 50), _picture(40, 50)[::-1]])
    preprocess = Preprocess(size=24, crop=16)
    batch = preprocess(pictures)
    assert batch.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(preprocess(list(pictures)), batch)
    images = [Image.fromarray(p) for p in pictures]
    np.testing.assert_array_equal(preprocess(images), batch)
    np.testing.assert_array_equal(preprocess(images[1]), batch[1])


def test_grey_and_transparent_images_become_rgb():
    grey = Image.fromarray(np.full((8, 8), 7, np.uint8))
    found = Preprocess(8, 8, (0, 0, 0), (1, 1, 1), scale=1)(grey)
    np.testing.assert_array_equal(found, np.full((8, 8, 3), 7))
    assert Preprocess(8, 8)(Image.new("RGBA", (9, 9))).shape == (8, 8, 3)


@pytest.mark.parametrize("picture, error, message", [
    (np.zeros((8, 8, 3), np.float32), TypeError, "uint8 array with values 0..255.*float32"),
    ("cat.jpg", TypeError, "Pillow image"),
    (np.zeros((8, 8), np.uint8), ValueError, r"\[height, width, 3\].*\[8, 8\]"),
    (np.zeros((0, 8, 3), np.uint8), ValueError, r"\[0, 8, 3\]"),
    (np.zeros((1, 4_000_000, 3), np.uint8), ValueError, "too long and thin"),
])  # fmt: skip
def test_what_is_no_picture_is_refused(picture, error, message):
    with pytest.raises(error, match=message):
        Preprocess()(picture)


def test_unequal_sizes_make_no_batch():
    with pytest.raises(ValueError, match="make no batch"):
        Preprocess(8, 8)([_picture(8, 8), _picture(8, 16)], crop=False)


def test_the_smallest_picture():
    assert Preprocess()(_picture(1, 1)).shape == (224, 224, 3)


def test_classes_of_imagenet_are_those_of_the_data(data):
    wnids, names = models.imagenet_wnids(), models.class_names("imagenet")
    lines = (data / "weights" / "synset_words.txt").read_text().splitlines()
    assert [f"{wnid} {name}" for wnid, name in zip(wnids, names, strict=True)] == lines
    lines = (data / "weights" / "imagenet_labels_1001.txt").read_text().splitlines()
    assert list(models.class_names("imagenet_background")) == lines
