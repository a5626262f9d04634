"""TFDS on tiny archives in the official layout: prepared and read back equal, no TensorFlow."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from labelled import coco_file, write_coco, write_imagenet, write_voc

from jaxground.data import AnnotationError, builders, read_coco, read_imagenet, read_voc


def prepare(builder, folder):
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    return builder


def assert_same(prepared, read):
    assert prepared.categories == read.categories
    assert len(prepared.examples) == len(read.examples)
    for found, wanted in zip(prepared.examples, read.examples, strict=True):
        assert (found.key, found.size) == (wanted.key, wanted.size)
        np.testing.assert_array_equal(found.image(), wanted.image())
        for one, other in zip(found.instances, wanted.instances, strict=True):
            names = "category box difficult crowd".split()
            assert [getattr(one, n) for n in names] == [getattr(other, n) for n in names]
            for polygon, outline in zip(one.polygons, other.polygons, strict=True):
                np.testing.assert_array_equal(polygon, outline)
            np.testing.assert_array_equal(one.mask(found.size), other.mask(found.size))


def test_voc(tmp_path):
    objects = {
        "000003": [("dog", (1, 1, 16, 12), 0), ("person", (3.33, 2, 7, 9), 1)],
        "000001": [],
    }
    write_voc(tmp_path, objects)
    write_voc(tmp_path, {"000005": [("cat", (2, 2, 3, 3), 0)]}, part="train")
    builder = builders.Voc(config="2007", data_dir=tmp_path / "tfds", file_format="array_record")
    prepare(builder, tmp_path)
    for split in ("test", "train"):
        assert_same(builders.open_prepared(builder, split), read_voc(tmp_path, split + "2007"))
    source = tfds.data_source("jaxground_voc/2007", split="test", data_dir=tmp_path / "tfds")
    row = source[0]
    assert row["image"].shape == (12, 16, 3)
    np.testing.assert_array_equal(row["objects"]["bbox"][0], [0, 0, 1, 1])
    assert [bool(flag) for flag in row["objects"]["difficult"]] == [False, True]
    tail = builders.open_prepared(builder, "test").examples[-1:]
    assert [example.key for example in tail] == ["VOC2007/JPEGImages/000001.jpg"]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_coco(tmp_path, mode):
    runs = {"size": [12, 16], "counts": [24, 12, 156]}
    triangles = [[2, 3, 9.25, 3, 9, 8], [1, 1, 4, 1.5, 2, 7, 1, 2]]
    content = coco_file(
        [
            {"bbox": [2, 3, 7, 5]},
            {"bbox": [1, 1, 8.25, 7], "segmentation": triangles},
            {"bbox": [2, 0, 1, 12], "segmentation": runs, "iscrowd": 1, "category_id": 1},
            {"bbox": [0.01, 0.37, 1.23, 4.56], "segmentation": triangles[:1]},
        ],
        images=["000000000009.jpg", "000000000010.jpg"],
    )
    content["categories"] += [{"id": 100 + i, "name": f"thing {i}"} for i in range(78)]
    write_coco(tmp_path, content, mode=mode)
    builder = builders.Coco(config="2017", data_dir=tmp_path / "tfds", file_format="array_record")
    prepare(builder, tmp_path)
    assert_same(builders.open_prepared(builder, "val"), read_coco(tmp_path))
    row = builder.as_data_source("val")[0]
    assert row["polygons"]["objects"].tolist() == [1, 1, 3]
    assert row["polygons"]["lengths"].tolist() == [3, 4, 3]
    assert row["runs"]["values"].tolist() == runs["counts"]


def test_imagenet(tmp_path):
    write_imagenet(tmp_path, [[("n01440764", (2, 3, 7, 9), 0)]])
    lines = [f"n1{i:07} thing {i}\n" for i in range(998)]
    with open(tmp_path / "LOC_synset_mapping.txt", "a") as file:
        file.writelines(lines)
    builder = builders.Imagenet(data_dir=tmp_path / "tfds", file_format="array_record")
    prepare(builder, tmp_path)
    assert_same(builders.open_prepared(builder, "val"), read_imagenet(tmp_path))
    label = builder.info.features["objects"]["label"]
    assert label.names[builder.as_data_source("val")[0]["objects"]["label"][0]].endswith("tench")


def test_wrong_archives_are_named_before_anything_is_written(tmp_path):
    (tmp_path / "manual/VOCdevkit").mkdir(parents=True)
    builder = builders.Voc(config="2007", data_dir=tmp_path / "tfds", file_format="array_record")
    with pytest.raises(AnnotationError, match="lacks VOC2007; it holds nothing: unpack"):
        prepare(builder, tmp_path / "manual")
    write_coco(tmp_path / "manual", coco_file([]))
    builder = builders.Coco(config="2017", data_dir=tmp_path / "tfds", file_format="array_record")
    with pytest.raises(AnnotationError, match="has 2 categories; the official one has 80"):
        prepare(builder, tmp_path / "manual")
    assert not list((tmp_path / "tfds").rglob("*array_record*"))


def test_tensorflow_is_not_needed(tmp_path, monkeypatch):
    met = []
    watch = type("Watch", (), {"find_spec": lambda _, name, *rest: met.append(name)})()
    monkeypatch.setattr(sys, "meta_path", [watch, *sys.meta_path])
    write_voc(tmp_path, {"000001": [("dog", (1, 1, 16, 12), 0)]})
    builder = builders.Voc(config="2007", data_dir=tmp_path / "tfds", file_format="array_record")
    builders.open_prepared(prepare(builder, tmp_path), "test").examples[0].image()
    assert "tensorflow" not in met and "tensorflow" not in sys.modules
