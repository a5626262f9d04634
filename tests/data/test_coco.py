"""COCO's form of annotation: official, per image, half-unpacked, hostile, real."""

import json

import numpy as np
import pytest
from labelled import coco_file, write_coco, write_image

from jaxground.data import AnnotationError, ImageError, read_coco
from jaxground.data.archives import JSON_LIMIT

OUTLINE = [2, 3, 9, 3, 9, 8, 2, 8]
OBJECT = {"bbox": [2, 3, 7, 5], "segmentation": [OUTLINE]}
RECORD = {"file": "a.jpg", "width": 16, "height": 12, "objects": []}


def test_official_archives(tmp_path):
    runs = {"size": [12, 16], "counts": [24, 12, 156]}
    compressed = {"size": [12, 16], "counts": "h0<l4"}  # the same, as pycocotools writes it
    content = coco_file(
        [
            OBJECT,
            {"bbox": [2, 0, 1, 12], "segmentation": runs, "iscrowd": 1, "category_id": 1},
            {"bbox": [2, 0, 1, 12], "segmentation": compressed, "category_id": 1},
            {"bbox": [0, 0, 3.5, 2.25], "segmentation": [], "image_id": 101},
        ],
        images=["000000000009.jpg", "000000000011.jpg", "000000000012.jpg"],
    )
    write_coco(tmp_path, content)
    data = read_coco(tmp_path)
    assert (data.name, data.categories) == ("coco/val2017", ("person", "dog"))
    assert data.class_indices is None
    first, second, third = data.examples
    assert first.key == "val2017/000000000009.jpg"
    assert first.path == tmp_path / first.key
    assert first.image().shape == (12, 16, 3)
    assert first.categories == ("dog", "person")
    dog, crowd, person = first.instances
    assert dog.box == (2.0, 3.0, 9.0, 8.0)
    assert np.argwhere(first.mask("dog")).min(0).tolist() == [3, 2]
    assert first.mask("dog").sum() == 35
    assert (crowd.crowd, person.crowd) == (True, False)
    column = np.arange(16) == 2
    assert (crowd.mask(first.size) == column).all() and (person.mask(first.size) == column).all()
    assert second.instances[0].polygons == () and second.instances[0].box == (0, 0, 3.5, 2.25)
    assert third.instances == ()


def test_the_split_is_asked_for_where_there_are_several(tmp_path):
    for split in ("val2014", "train2014"):
        write_coco(tmp_path, coco_file([OBJECT], images=[f"COCO_{split}_1.jpg"]), split=split)
    with pytest.raises(AnnotationError, match="train2014, val2014: say which split"):
        read_coco(tmp_path)
    assert read_coco(tmp_path, "val2014").examples[0].key == "val2014/COCO_val2014_1.jpg"
    with pytest.raises(AnnotationError, match=r"lacks annotations/instances_val2017\.json, val"):
        read_coco(tmp_path, "val2017")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"there is no folder .*nowhere: unpack annotations_"):
        read_coco(tmp_path / "nowhere")
    (tmp_path / "val2017").mkdir()
    with pytest.raises(AnnotationError, match="lacks annotations; it holds val2017: unpack"):
        read_coco(tmp_path)
    path = write_coco(tmp_path, coco_file([], images=["1.jpg", "2.jpg", "3.jpg"]))
    (tmp_path / "val2017/2.jpg").unlink()
    (tmp_path / "val2017/3.jpg").unlink()
    with pytest.raises(
        AnnotationError,
        match=r"2 of the 3 files .* are missing .*, first 2\.jpg; its folder holds 1\.jpg: ",
    ):
        read_coco(tmp_path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(AnnotationError, match=r"instances_val2017\.json is no JSON: .*unpack"):
        read_coco(tmp_path)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "", "..", "a\0.jpg"])
def test_a_file_name_stays_in_its_folder(tmp_path, name):
    path = write_coco(tmp_path, coco_file([OBJECT]))
    path.write_text(json.dumps(coco_file([OBJECT], images=[name])))
    with pytest.raises(AnnotationError, match="which is no file below"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": "wide"},
        {"bbox": [0, 0, "wide", 2]},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": ["abc"]},
        {"segmentation": {"counts": "~~"}},
        {"segmentation": {"counts": [1e30]}},
        {"segmentation": {}},
        {"category_id": 99},
        {"category_id": [1]},
        {"image_id": 5},
    ],
)
def test_structural_nonsense_is_an_error_of_ours(tmp_path, change):
    write_coco(tmp_path, coco_file([OBJECT | change]))
    with pytest.raises(AnnotationError, match=r"instances_val2017\.json is not in COCO's form"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    "content", ["[]", "null", "{}", "[" * 100_000, '{"annotations": 3}', "\xff"]
)
def test_other_json(tmp_path, content):
    (tmp_path / "annotations.json").write_text(content, encoding="latin-1")
    with pytest.raises(AnnotationError, match=r"annotations\.json is "):
        read_coco(tmp_path)


def test_sizes_are_sane(tmp_path):
    path = write_coco(tmp_path, coco_file([]))
    for height in (0, -3, 10**9, "high", None, float("nan"), float("inf")):
        path.write_text(json.dumps(coco_file([], height=height)))
        with pytest.raises(AnnotationError, match=r"gives an image .* pixels"):
            read_coco(tmp_path)
    with open(path, "r+b") as file:
        file.truncate(JSON_LIMIT + 1)  # sparse
    with pytest.raises(AnnotationError, match="more than 1,073,741,824 are refused"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": ["cat", 5]}, "not all of them names"),
        ({"images": [RECORD, RECORD]}, "lists 'a.jpg' more than once"),
    ],
)
def test_ambiguous_annotations_are_refused(tmp_path, change, message):
    write_image(tmp_path / "a.jpg")
    content = {"categories": ["cat"], "images": [RECORD], **change}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_coco(tmp_path)


def test_classes_of_a_category_are_a_list_of_integers(tmp_path):
    write_image(tmp_path / "a.jpg")
    content = {"categories": ["cat"], "images": [RECORD]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "coco_to_imagenet_index.json").write_text(json.dumps({"cat": "12"}))
    with pytest.raises(AnnotationError, match="classes of 'cat' are '12'"):
        read_coco(tmp_path)


def test_objects_that_cannot_be_used_are_counted(tmp_path):
    nan = float("nan")
    content = coco_file(
        [
            {"bbox": [-3, 10, 30, 5]},  # reaches beyond: cut off
            {"bbox": [4, 4, 0, 0]},  # without extent: a point
            {"bbox": [nan, 0, 2, 2]},
            {"bbox": [3, 3, -2, 2]},
            {"bbox": [16, 0, 2, 2]},
            {"bbox": [0, 0, 1e99, 2]},  # no box of this image
            {"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 1e300, 3, 2, nan]]},
            {"bbox": [0, 0, 2, 2], "segmentation": {"counts": [1, 2, 3]}},
            {"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 3, 99] * 500]},  # no outline
            {"bbox": [0, 0, 2, 2], "segmentation": [[-50, -50, 90, -50, 90, 90, -50, 90]]},
        ]
    )
    write_coco(tmp_path, content)
    message = r"7 of 10 objects left out; first 'dog' in 'val2017/0.*nan"
    with pytest.warns(UserWarning, match=message):
        (example,) = read_coco(tmp_path).examples
    assert [i.box for i in example.instances][:2] == [(0, 10, 16, 12), (4, 4, 4, 4)]
    assert example.instances[1].mask(example.size).sum() == 1
    assert example.instances[2].mask(example.size).all()


def test_images_that_are_not_as_described(tmp_path):
    write_coco(tmp_path, coco_file([OBJECT]))
    (example,) = read_coco(tmp_path).examples
    write_image(example.path, 16, 12)
    with pytest.raises(ImageError, match=r"has 16 x 12 pixels .* but its annotation says 12 x 16"):
        example.image()
    example.path.write_bytes(example.path.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"cannot read .*000000000009\.jpg"):
        example.image()


def test_orientation_is_left_alone(tmp_path):
    """Annotators drew on the pixels as they are stored."""
    from PIL import Image

    write_coco(tmp_path, coco_file([OBJECT]))
    (example,) = read_coco(tmp_path).examples
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    stored = write_image(example.path, exif=exif)
    np.testing.assert_array_equal(example.image(), stored)


def test_two_categories_of_one_name(tmp_path):
    content = coco_file([])
    content["categories"][1]["name"] = "person"
    write_coco(tmp_path, content)
    with pytest.raises(AnnotationError, match="two categories of one name"):
        read_coco(tmp_path)


def test_coco_mini(data):
    mini = read_coco(data / "coco_mini")
    assert len(mini.examples) == 302 and len(mini.categories) == 80
    assert mini.class_indices is not None and len(mini.class_indices) == 58
    assert mini.class_indices["stop sign"] == (919,)
    assert len({example.key for example in mini.examples}) == 302
    assert sum(len(example.instances) for example in mini.examples) == 2495
    assert sum(instance.crowd for e in mini.examples for instance in e.instances) == 23
    bowl = mini.examples[0]
    assert bowl.key == "images/train2017_000000000009.jpg"
    assert bowl.image().shape[:2] == bowl.size == (336, 448)
    box = bowl.instances[0].box
    np.testing.assert_allclose(box, (0.8, 131.4, 428.9, 331.5), atol=1e-9)
    inside = bowl.instances[0].mask(bowl.size)
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (131, 330, 1, 428)
