"""Archives of JPEG files and TFDS data sets as arrays."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxground.data.classification import read_jpegs, read_tfds
from jaxground.data.images import ImageError


def jpeg(value, side=8):
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(file, "JPEG", quality=100)
    return file.getvalue()


def archive(path, files, prefix=""):
    offsets = np.cumsum([0, *map(len, files)])
    data = {f"{prefix}jpeg": np.frombuffer(b"".join(files), np.uint8), f"{prefix}offsets": offsets}
    np.savez(path, **data)
    return path


def test_photographs_of_an_archive(tmp_path):
    path = archive(tmp_path / "a.npz", [jpeg(10), jpeg(20), jpeg(30)], "train_")
    images = read_jpegs(path, "train")
    assert images.dtype == np.uint8 and images.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(images[:, 0, 0, 0], [10, 20, 30])
    small = read_jpegs(path, "train", rows=[2, 0], size=(4, 2))
    assert small.shape == (2, 4, 2, 3)
    np.testing.assert_array_equal(small[:, 0, 0, 0], [30, 10])


def test_what_is_wrong_with_an_archive_is_said(tmp_path):
    files = [jpeg(10), b"no picture", jpeg(10, side=4)]
    path = archive(tmp_path / "a.npz", files)
    with pytest.raises(ImageError, match="photograph 1 is no readable JPEG"):
        read_jpegs(path)
    with pytest.raises(ImageError, match="photographs of 2 sizes make no array: give size="):
        read_jpegs(path, rows=[0, 2])
    with pytest.raises(ImageError, match="photograph 9 is no readable JPEG"):
        read_jpegs(path, rows=[9])
    with pytest.raises(ImageError, match="no archive with arrays 'test_jpeg'"):
        read_jpegs(path, "test")
    (tmp_path / "b.npz").write_bytes(b"PK torn")
    with pytest.raises(ImageError, match="no archive with arrays"):
        read_jpegs(tmp_path / "b.npz")
    (tmp_path / "b.npz").write_bytes(path.read_bytes()[:-40])  # half a download
    with pytest.raises(ImageError, match="no archive with arrays"):
        read_jpegs(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", jpeg=np.array([print], object), offsets=[0, 1])
    with pytest.raises(ImageError, match="pickle"):  # which could run code
        read_jpegs(tmp_path / "c.npz")


def test_a_data_set_prepared_by_tfds(tmp_path):
    class JaxgroundShades(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for label, side in enumerate((4, 8, 6)):
                file = io.BytesIO()
                image = Image.fromarray(np.full((side, side, 3), 50 * label, np.uint8))
                image.save(file, "PNG")
                file.seek(0)
                yield label, {"image": file, "label": label}

    JaxgroundShades(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    images, labels = read_tfds("jaxground_shades", "test", size=(4, 4), folder=tmp_path)
    assert images.shape == (3, 4, 4, 3) and sorted(labels.tolist()) == [0, 1, 2]
    np.testing.assert_array_equal(images[:, 1, 1, 1], 50 * labels)
    with pytest.raises(ImageError, match="photographs of 3 sizes make no array"):
        read_tfds("jaxground_shades", "test", folder=tmp_path)
    with pytest.raises(ImageError, match="has no 'train'"):
        read_tfds("jaxground_shades", "train", folder=tmp_path)
