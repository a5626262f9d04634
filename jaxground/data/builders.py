"""TFDS data sets of VOC, COCO and ImageNet's localisation task, made without TensorFlow.

Importing this module registers them with `tensorflow_datasets` under the names
`jaxground_voc/2007`, `jaxground_coco/2014`, `jaxground_imagenet`, ... They read the official
archives, unpacked, from TFDS's `manual_dir`, and write `array_record`:

    import tensorflow_datasets as tfds
    from jaxground.data import builders

    builder = builders.Voc(config="2007", file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir="downloads")
    )
    source = tfds.data_source("jaxground_voc/2007", split="test")  # random access, for grain
    dataset = builders.open_prepared(builder, "test")  # as the readers of jaxground.data give it

Boxes are TFDS's: y0, x0, y1, x1 as shares of the sides. Outlines and masks of all objects are
laid end to end, since TFDS cannot nest sequences without TensorFlow: polygon `i` has
`polygons/lengths[i]` rows of `polygons/values` and belongs to object `polygons/objects[i]`;
likewise the run lengths of masks in `runs`.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxground.data.annotations import AnnotationError, Dataset, Example, Instance
from jaxground.data.coco import read_coco
from jaxground.data.imagenet import read_imagenet
from jaxground.data.voc import read_voc


class _Labelled(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the builders share; a subclass says where which split is and how it is read."""

    VERSION = tfds.core.Version("1.0.0")
    # Where TFDS would look for checksums of downloads. Nothing is downloaded, and the search needs
    # importlib_resources, which 4.9.10 forgets to require (tensorflow/datasets issue 11212).
    code_path = None
    CATEGORIES: int
    HOMEPAGE: str

    def _marks(self) -> dict[str, str]:
        """Returns what is in the manual folder exactly if a split is, the usual one first."""
        raise NotImplementedError

    def _read(self, folder: Path, split: str) -> Dataset:
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        objects = {
            "bbox": features.BBoxFeature(),
            "label": features.ClassLabel(num_classes=self.CATEGORIES),
            "difficult": np.bool_,
            "crowd": np.bool_,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Images and objects of {self.HOMEPAGE}, as jaxground reads them.",
            homepage=self.HOMEPAGE,
            disable_shuffling=True,  # examples stay where the archive has them
            features=features.FeaturesDict(
                {
                    "key": features.Text(),
                    "image": features.Image(shape=(None, None, 3)),
                    "size": features.Tensor(shape=(2,), dtype=np.int64),
                    "objects": features.Sequence(objects),
                    "polygons": _packed((None, 2), np.float32),
                    "runs": _packed((None,), np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        folder = Path(dl_manager.manual_dir)
        marks = self._marks()
        splits = [split for split, mark in marks.items() if (folder / mark).exists()]
        # Without any, the reader of the usual one says what is missing.
        data = {split: self._read(folder, split) for split in splits or list(marks)[:1]}
        for dataset in data.values():
            if len(dataset.categories) != self.CATEGORIES:
                raise AnnotationError(
                    f"{dataset.name} in {folder} has {len(dataset.categories)} categories; the "
                    f"official one has {self.CATEGORIES}"
                )
            _label(self).names = list(dataset.categories)
        return {split: self._generate_examples(dataset) for split, dataset in data.items()}

    def _generate_examples(self, dataset: Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in dataset.examples:
            yield example.key, _record(example)


class Voc(_Labelled):
    """VOC 2007 (train, val, test) and 2012 (train, val)."""

    name = "jaxground_voc"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=year) for year in ("2007", "2012")]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Unpack VOCtrainval and VOCtest: the folder holds VOCdevkit."
    HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC"
    CATEGORIES = 20

    def _marks(self):
        year = self.builder_config_name
        parts = ("test", "train", "val") if year == "2007" else ("val", "train")
        return {part: f"VOCdevkit/VOC{year}/ImageSets/Main/{part}.txt" for part in parts}

    def _read(self, folder, split):
        return read_voc(folder, f"{split}{self.builder_config_name}")


class Coco(_Labelled):
    """COCO 2014 and 2017 (train, val)."""

    name = "jaxground_coco"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=year) for year in ("2014", "2017")]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Unpack annotations_trainval, val and train of the year."
    HOMEPAGE = "https://cocodataset.org"
    CATEGORIES = 80

    def _marks(self):
        return {part: f"{part}{self.builder_config_name}" for part in ("val", "train")}

    def _read(self, folder, split):
        return read_coco(folder, f"{split}{self.builder_config_name}")


class Imagenet(_Labelled):
    """The validation set of ImageNet's localisation task (val)."""

    name = "jaxground_imagenet"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Unpack imagenet_object_localization: the folder holds ILSVRC."
    HOMEPAGE = "https://www.image-net.org"
    CATEGORIES = 1000

    def _marks(self):
        return {"val": "ILSVRC"}

    def _read(self, folder, split):
        return read_imagenet(folder, split)


def open_prepared(builder: tfds.core.DatasetBuilder, split: str) -> Dataset:
    """Returns what one of these builders has prepared, read example by example when asked for.

    Args:
      builder: A builder of this module, or `tfds.builder("jaxground_voc/2007")`.
      split: Name of a split, or a slice of one: `"val[:100]"`.
    """
    categories = tuple(_label(builder).names)
    return Dataset(f"{builder.info.full_name}/{split}", _Prepared(builder, split), categories)


def _label(builder: tfds.core.DatasetBuilder) -> tfds.features.ClassLabel:
    """Returns the feature that knows the names of the categories."""
    features: Any = builder.info.features
    return features["objects"]["label"]


class _Prepared(Sequence[Example]):
    """The examples of a prepared split; pixels are decoded when an example draws them."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        source: Any = builder.as_data_source
        self._names = _label(builder).names
        self._rows = source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        self._decoded = source(split=split)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        row = self._rows[index]
        height, width = map(int, row["size"])
        objects, polygons = row["objects"], _unpack(row["polygons"])
        runs = _unpack(row["runs"])
        instances = []
        for i, label in enumerate(objects["label"]):
            sides = objects["bbox"][i].astype(np.float64) * [height, width, height, width]
            # The archives' coordinates have two decimals; float32 keeps three of up to 4096.
            y0, x0, y1, x1 = (float(side) for side in sides.round(3))
            instances.append(
                Instance(
                    self._names[label],
                    (x0, y0, x1, y1),
                    tuple(polygons.get(i, ())),
                    runs[i][0] if i in runs else None,
                    difficult=bool(objects["difficult"][i]),
                    crowd=bool(objects["crowd"][i]),
                )
            )
        key = row["key"].decode()
        return Example(key, None, (height, width), tuple(instances), partial(self._pixels, index))

    def _pixels(self, index: int) -> np.ndarray:
        return self._decoded[index]["image"]


def _record(example: Example) -> dict[str, Any]:
    height, width = example.size
    instances = list(enumerate(example.instances))
    boxes = [instance.box for instance in example.instances]
    outlines = [(i, polygon) for i, instance in instances for polygon in instance.polygons]
    runs = [(i, instance.runs) for i, instance in instances if instance.runs is not None]
    return {
        "key": example.key,
        "image": _rgb_file(example),
        "size": np.array(example.size, np.int64),
        "objects": [
            {
                "bbox": tfds.features.BBox(y0 / height, x0 / width, y1 / height, x1 / width),
                "label": instance.category,
                "difficult": instance.difficult,
                "crowd": instance.crowd,
            }
            for instance, (x0, y0, x1, y1) in zip(example.instances, boxes, strict=True)
        ],
        "polygons": _pack(outlines, np.zeros((0, 2), np.float32)),
        "runs": _pack(runs, np.zeros(0, np.int64)),
    }


def _rgb_file(example: Example) -> io.BytesIO:
    """Returns the file as it is, or as PNG where TFDS would not decode it to RGB."""
    from PIL import Image

    pixels = example.image()  # a broken file is found now
    if example.path is not None:
        with Image.open(example.path) as image:
            if image.mode == "RGB":
                return io.BytesIO(example.path.read_bytes())
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def _packed(shape: tuple[int | None, ...], dtype: type) -> dict[str, Any]:
    """Returns the features of arrays that are laid end to end."""
    whole = tfds.features.Tensor(shape=(None,), dtype=np.int64)
    values = tfds.features.Tensor(shape=shape, dtype=dtype)
    return {"values": values, "lengths": whole, "objects": whole}


def _pack(arrays: Iterable[tuple[int, np.ndarray]], empty: np.ndarray) -> dict[str, np.ndarray]:
    pairs = list(arrays)
    return {
        "values": np.concatenate([empty, *(array for _, array in pairs)]),
        "lengths": np.array([len(array) for _, array in pairs], np.int64),
        "objects": np.array([index for index, _ in pairs], np.int64),
    }


def _unpack(packed: Mapping[str, np.ndarray]) -> dict[int, list[np.ndarray]]:
    arrays = np.split(packed["values"], np.cumsum(packed["lengths"])[:-1])
    found: dict[int, list[np.ndarray]] = {}
    for index, array in zip(packed["objects"].tolist(), arrays, strict=False):
        found.setdefault(index, []).append(array)
    return found
