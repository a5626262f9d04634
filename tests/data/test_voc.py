"""VOC and ImageNet: tiny archives as they unpack, and what is wrong with strangers' files."""

import shutil

import pytest
from labelled import write_imagenet, write_voc, xml

from jaxground.data import AnnotationError, read_imagenet, read_voc
from jaxground.data.archives import XML_LIMIT

OBJECTS = {
    "000001": [("dog", (1, 1, 16, 12), 0), ("person", (3, 2, 3, 2), 1)],
    "000002": [("sofa", (2.5, 3.0, 9.7, 8.0), 0)],
    "000004": [],
}


def test_voc(tmp_path):
    root = write_voc(tmp_path, OBJECTS)
    data = read_voc(tmp_path)
    assert data.name == "voc/test2007" and len(data.categories) == 20
    dog, person = data.examples[0].instances
    assert dog.box == (0, 0, 16, 12), "the whole image: pixels count from 1, the last included"
    assert dog.mask((12, 16)).all() and not dog.difficult
    assert person.box == (2, 1, 3, 2) and person.difficult, "one pixel"
    assert data.examples[0].mask("person").sum() == 1
    assert data.examples[1].instances[0].box == (1.5, 2.0, 9.7, 8.0)
    assert data.examples[2].instances == ()
    assert data.examples[0].image().shape == (12, 16, 3)
    for folder in (tmp_path / "VOCdevkit", root):
        again = read_voc(folder, "test2007")
        assert [e.key for e in again.examples] == [e.key for e in data.examples]
    assert data.examples[0].key == "VOC2007/JPEGImages/000001.jpg"


def test_which_part_of_voc(tmp_path):
    write_voc(tmp_path, {"2008_000001": []}, year="2012", part="val")
    assert read_voc(tmp_path).name == "voc/val2012"
    with pytest.raises(AnnotationError, match=r"lacks ImageSets/Main/train\.txt; .*VOCtrainval"):
        read_voc(tmp_path, "train2012")
    with pytest.raises(AnnotationError, match="lacks VOC2007; it holds VOC2012: unpack"):
        read_voc(tmp_path, "test2007")
    with pytest.raises(AnnotationError, match="VOC has no '2012'"):
        read_voc(tmp_path, "2012")
    write_voc(tmp_path, {"000001": []})
    with pytest.raises(AnnotationError, match="holds VOC 2007 and 2012: say which"):
        read_voc(tmp_path)


def test_half_unpacked_voc(tmp_path):
    with pytest.raises(AnnotationError, match="lacks VOCdevkit; it holds nothing: unpack"):
        read_voc(tmp_path)
    root = write_voc(tmp_path, OBJECTS)
    (root / "JPEGImages/000004.jpg").unlink()
    with pytest.raises(
        AnnotationError, match=r"1 of the 3 files .*test\.txt.* first JPEGImages/00"
    ):
        read_voc(tmp_path)
    shutil.rmtree(root / "Annotations")
    with pytest.raises(AnnotationError, match="lacks Annotations; it holds ImageSets, JPEGIm"):
        read_voc(tmp_path)


def entity_bomb():
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    return f'<!DOCTYPE a [<!ENTITY e0 "boom">{entities}]><annotation>&e9;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entity_bomb(), "declares a document type: refused"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        (entity_bomb().encode("utf-16"), "is no XML"),
        ('<?xml version="1.0" encoding="utf-7"?>+ADw-!DOCTYPE a+AD4-<a/>', "is no XML"),
        ('<?xml version="1.0" encoding="utf-16"?>' + entity_bomb(), "declares a document type"),
        ("<annotation>", "is no XML: .*; unpack its archive again"),
        ("", "is no XML"),
        ("<annotation/>", "gives an image None x None pixels"),
        ("<a>" * 100_000 + "</a>" * 100_000, "gives an image None"),
        (" " * XML_LIMIT + "<annotation/>", "more than 1,048,576 are refused"),
        (xml([], width=10**9), "gives an image '12' x '1000000000' pixels"),
        (xml([("dog", (1, 1, "x", 3), 0)]), r"000001\.xml: a box of \['1', '1', 'x', '3'\]"),
        (xml([("unicorn", (1, 1, 3, 3), 0)]), "'unicorn' is no category of VOC"),
    ],
)
def test_hostile_annotations(tmp_path, text, message):
    root = write_voc(tmp_path, OBJECTS)
    content = text if isinstance(text, bytes) else text.encode()
    (root / "Annotations/000001.xml").write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        read_voc(tmp_path)


def test_names_cannot_leave_the_folder(tmp_path):
    root = write_voc(tmp_path, OBJECTS)
    (root / "ImageSets/Main/test.txt").write_text("../ImageSets/x\n")
    with pytest.raises(AnnotationError, match=r"'Annotations/\.\./ImageSets/x\.xml', which is no"):
        read_voc(tmp_path)


def test_impossible_boxes(tmp_path):
    boxes = [(0, 0, 30, 20), (9, 9, 3, 3), ("nan", 1, 2, 2), (17, 1, 20, 3), ("inf", 1, 2, 2)]
    write_voc(tmp_path, {"1": [("cat", box, 0) for box in boxes]})
    with pytest.warns(UserWarning, match="4 of 5 objects left out"):
        data = read_voc(tmp_path)
    assert [i.box for i in data.examples[0].instances] == [(0, 0, 16, 12)]


TENCH, CAT = "n01440764", "n02123045"


def test_imagenet(tmp_path):
    write_imagenet(tmp_path, [[(CAT, (0, 0, 16, 12), 0)], [(TENCH, (2, 3, 7, 9), 0)] * 2])
    data = read_imagenet(tmp_path)
    assert data.categories == (f"{TENCH} tench", f"{CAT} tabby")
    assert data.class_indices == {f"{TENCH} tench": (0,), f"{CAT} tabby": (1,)}
    cat, fish = data.examples
    assert cat.key == "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG"
    assert cat.mask(f"{CAT} tabby").all()
    assert [i.box for i in fish.instances] == [(2, 3, 7, 9)] * 2
    assert fish.image().shape == (12, 16, 3)


def test_imagenet_from_the_devkit(tmp_path):
    write_imagenet(tmp_path, [[(CAT, (0, 0, 16, 12), 0)]])
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(AnnotationError, match=r"lacks LOC_synset_mapping\.txt; it holds ILSVRC: "):
        read_imagenet(tmp_path)
    devkit = tmp_path / "ILSVRC/devkit/data"
    devkit.mkdir(parents=True)
    (devkit / "map_clsloc.txt").write_text(f"{CAT} 1 tiger_cat\n{TENCH} 2 tench\n")
    data = read_imagenet(tmp_path)
    assert data.class_indices == {f"{TENCH} tench": (0,), f"{CAT} tiger cat": (1,)}
    (devkit / "map_clsloc.txt").write_text("<html>404</html>")
    with pytest.raises(AnnotationError, match="has a line '<html>404</html>': unpack"):
        read_imagenet(tmp_path)


def test_half_unpacked_imagenet(tmp_path):
    annotations = write_imagenet(tmp_path, [[(CAT, (0, 0, 16, 12), 0)]] * 3)
    with pytest.raises(AnnotationError, match="is read for 'val', not 'train'"):
        read_imagenet(tmp_path, "train")
    last = annotations / "ILSVRC2012_val_00000003.xml"
    last.rename(tmp_path / "kept")
    with pytest.raises(AnnotationError, match="describes 2 of the 3 images"):
        read_imagenet(tmp_path)
    (tmp_path / "kept").rename(last)
    (tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG").unlink()
    with pytest.raises(AnnotationError, match=r"1 of the 3 files .* first ILSVRC2012_val_00000002"):
        read_imagenet(tmp_path)
    last.write_text(xml([("n99999999", (0, 0, 1, 1), 0)]))
    (tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG").touch()
    with pytest.raises(AnnotationError, match=r"'n99999999' is not in .*LOC_synset_mapping"):
        read_imagenet(tmp_path)
