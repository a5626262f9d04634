"""Readers of video and caption sets: tiny files in the official formats, whole and broken."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from jaxground.data import (
    AnnotationError,
    VideoError,
    read_flickr30k_entities,
    read_jhmdb,
    read_thumos14,
    read_ucf101_demo,
    read_ucf101_split,
)
from jaxground.data.flickr import NOT_VISUAL, read_captions
from jaxground.data.thumos import AMBIGUOUS, CATEGORIES
from jaxground.metrics import detection_average_precision

# --- THUMOS 2014 ---


@pytest.fixture
def thumos(tmp_path):
    folder = tmp_path / "annotation"
    folder.mkdir()
    lines = {
        "Diving": "video_test_0000444  37.8 41.9\r\nvideo_test_0000006  0.5 3\r\n",
        "CliffDiving": "video_test_0000006 0.5 3\n\n",
        "Ambiguous": "video_test_0000444  60.1 50\n",
    }
    for name in (*CATEGORIES, "Ambiguous"):
        (folder / f"{name}_test.txt").write_text(lines.get(name, ""))
    return folder


def test_thumos(thumos):
    for folder in (thumos, thumos.parent):
        found = read_thumos14(folder)
        assert found.names == ("video_test_0000006", "video_test_0000444")
        cliff, diving = CATEGORIES.index("CliffDiving"), CATEGORIES.index("Diving")
        assert found.labels.tolist() == [cliff, diving, diving, AMBIGUOUS]
        assert found.videos.tolist() == [0, 1, 0, 1]
        expected = [[0.5, 3], [37.8, 41.9], [0.5, 3], [50, 60.1]]
        np.testing.assert_array_equal(found.windows, expected, "a start after its end is swapped")
        assert len(found.categories) == 20


def test_thumos_annotations_find_themselves(thumos):
    found = read_thumos14(thumos)
    kept = found.labels >= 0
    score = detection_average_precision(
        found.windows[kept], np.ones(3), found.windows, labels=found.labels[kept],
        videos=found.videos[kept], truth_labels=found.labels, truth_videos=found.videos, count=20,
        convention="thumos14",
    )  # fmt: skip
    np.testing.assert_allclose(score.mean, 1, rtol=1e-6)
    assert np.isnan(score.classes).all(1).sum() == 18


@pytest.mark.parametrize(
    "line", ["video_test_0000001 12", "video_test_0000001 1 nan", "video_test_0000001 a 2",
             "video_validation_0000001 1 2", "video_test_0000001 -1 2", "7"],
)  # fmt: skip
def test_malformed_thumos(thumos, line):
    file = thumos / "Billiards_test.txt"
    file.write_text(f"video_test_0000001 1 2\n\n{line}\n")
    with pytest.raises(AnnotationError, match=rf"Billiards_test\.txt, line 3: '{line}' is not"):
        read_thumos14(thumos)


def test_incomplete_thumos(thumos):
    (thumos / "Billiards_test.txt").unlink()
    with pytest.raises(AnnotationError, match=r"lacks Billiards_test\.txt; .*TH14_Temporal_annot"):
        read_thumos14(thumos)
    with pytest.raises(AnnotationError, match=r"lacks BaseballPitch_val\.txt"):
        read_thumos14(thumos, "validation")
    with pytest.raises(ValueError, match="no split 'train' with times"):
        read_thumos14(thumos, "train")


# --- UCF101 ---


def test_ucf101_splits(tmp_path):
    file = tmp_path / "trainlist01.txt"
    file.write_text(
        "HammerThrow/v_HammerThrow_g01_c01.avi 2\r\nHammering/v_Hammering_g01_c02.avi 1\n"
    )
    split = read_ucf101_split(file)
    assert split.names == ("HammerThrow/v_HammerThrow_g01_c01", "Hammering/v_Hammering_g01_c02")
    assert split.categories == ("Hammering", "HammerThrow") and split.labels.tolist() == [1, 0]
    for line, message in [
        ("Diving/v_Diving_g01_c01.avi one", "line 2: .* is not like CliffDiving/v_CliffDiving"),
        ("v_Diving_g01_c01.avi", "line 2: 'v_Diving"),
        ("../v_Diving/passwd 3", "line 2: "),
        ("Hammering/v_Hammering_g01_c02.avi 5", "line 2: Hammering is class 5 here and class 1"),
        ("Zebra/v_Zebra_g01_c02.avi 0", "not numbered in alphabetical order"),
    ]:
        file.write_text(f"Hammering/v_Hammering_g01_c01.avi 1\n{line}\n")
        with pytest.raises(AnnotationError, match=message):
            read_ucf101_split(file)


def test_the_authors_split(data):
    folder = data / "ucf101_ebp_rnn_demos"
    for name, count in [("test", 3783), ("train", 9537)]:
        split = read_ucf101_split(folder / f"ucf101_split1_{name}Videos.txt")
        assert len(split.names) == count and len(split.categories) == 101
        assert split.categories[21] == "CliffDiving"


def test_the_demo_video(data):
    video = read_ucf101_demo(data / "ucf101_ebp_rnn_demos" / "ucf101_demos.npz")
    assert video.frames.shape == (128, 240, 320, 3)
    assert set(video.actions) == {"CliffDiving", "HorseRiding"}
    with pytest.raises(AnnotationError, match="has no 'demo9'; it has demo1"):
        read_ucf101_demo(data / "ucf101_ebp_rnn_demos" / "ucf101_demos.npz", "demo9")


# --- J-HMDB ---


def jpeg(value, size=(8, 6)):
    stream = BytesIO()
    Image.new("RGB", size, (value,) * 3).save(stream, "JPEG")
    return stream.getvalue()


def clips_archive(contents, **changed):
    masks = np.zeros((2, 3, 3, 4), bool)
    masks[1, 2, 0, 1] = True
    arrays = {
        "jpeg": np.frombuffer(b"".join(contents), np.uint8),
        "offsets": np.cumsum([0, *map(len, contents)]),
        "labels": np.array([1, 0], np.uint8),
        "classes": np.array(["clap", "walk"]),
        "names": np.array(["walk/a", "clap/b"]),
        "groups": np.array(["a", "b"]),
        "is_test": np.array([False, True]),
        "masks_packed": np.packbits(masks.reshape(2, 3, 12), -1),
        "mask_shape": np.array([3, 3, 4]),
    }
    return arrays | changed


def test_jhmdb(tmp_path):
    np.savez(tmp_path / "clips.npz", **clips_archive([jpeg(40 * i) for i in range(6)]))
    clips, categories = read_jhmdb(tmp_path / "clips.npz")
    assert categories == ("clap", "walk")
    second = clips[1]
    assert (second.key, second.label, second.group, second.is_test) == ("clap/b", 0, "b", True)
    assert np.abs(second.frames()[:, 3, 3, 0].astype(int) - [120, 160, 200]).max() < 4
    assert np.argwhere(second.masks()).tolist() == [[2, 0, 1]]
    assert np.argwhere(second.masks((6, 8))).tolist() == [[2, r, c] for r in (0, 1) for c in (2, 3)]
    assert not clips[0].masks().any()


def test_real_jhmdb(data):
    clips, categories = read_jhmdb(data / "jhmdb12" / "jhmdb12.npz")
    assert len(clips) == 558 and len(categories) == 12
    frames = clips[77].frames()
    assert frames.shape == (16, 132, 176, 3)
    assert 0.02 < clips[77].masks(frames.shape[1:3]).mean() < 0.7
    parts = [{clip.group for clip in clips if clip.is_test == part} for part in (True, False)]
    assert not parts[0] & parts[1]


def test_broken_jhmdb(tmp_path):
    file, good = tmp_path / "clips.npz", [jpeg(40 * i) for i in range(6)]
    for changed, message in [
        ({"names": np.array(["one"])}, r"names has shape \(1,\), 2 clips need \(2,\)"),
        ({"labels": np.array([0, 2])}, "labels go to 2, there are 2 classes"),
        ({"offsets": np.arange(7) * 10**6}, "offsets lead out of its"),
        ({"names": np.array([{}, {}])}, "is no .npz: Object arrays cannot be loaded"),
        ({"labels": np.zeros(2)}, r"labels is float64 of shape \(2,\)"),
        ({"mask_shape": np.array([3, 0, 4])}, r"mask_shape is \[3, 0, 4\]"),
    ]:
        np.savez(file, **clips_archive(good, **changed))
        with pytest.raises(AnnotationError, match=message):
            read_jhmdb(file)
    arrays = clips_archive(good)
    del arrays["groups"]
    np.savez(file, **arrays)
    with pytest.raises(AnnotationError, match="lacks the array 'groups'"):
        read_jhmdb(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(AnnotationError, match=r"is no \.npz: .*download it again"):
        read_jhmdb(file)
    good[4], good[2] = good[4][:200], jpeg(9, (9, 9))
    np.savez(file, **clips_archive(good))
    (walk, clap), _ = read_jhmdb(file)
    with pytest.raises(VideoError, match="walk/a: frame 2 has 9 x 9 pixels"):
        walk.frames()
    with pytest.raises(VideoError, match="cannot read frame 1 of clap/b: "):
        clap.frames()


# --- Flickr30k Entities ---

SENTENCES = """[/EN#1/people Two young guys] with [/EN#2/bodyparts/other shaggy hair] look out .
[/EN#3/scene the yard] is [/EN#0/notvisual it] .
"""
XML = """<annotation><filename>17.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>5</ymax></bndbox></object>
<object><name>1</name><name>2</name>
<bndbox><xmin>21</xmin><ymin>1</ymin><xmax>40</xmax><ymax>1</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>4</name><scene>0</scene><nobndbox>1</nobndbox></object>
</annotation>"""


@pytest.fixture
def flickr(tmp_path):
    for name in ("Sentences", "Annotations", "flickr30k-images"):
        (tmp_path / name).mkdir()
    (tmp_path / "test.txt").write_text("17\n")
    (tmp_path / "Sentences" / "17.txt").write_text(SENTENCES)
    (tmp_path / "Annotations" / "17.xml").write_text(XML)
    Image.new("RGB", (40, 30)).save(tmp_path / "flickr30k-images" / "17.jpg")
    return tmp_path


def test_flickr30k_entities(flickr):
    (image,) = read_flickr30k_entities(flickr)
    assert image.scenes == {"3"} and image.unseen == {"4"}
    first, second = image.captions
    assert " ".join(first.words) == "Two young guys with shaggy hair look out ."
    named = [(first.words[p.start : p.end], p.chain, p.types) for p in first.phrases]
    assert named == [
        (("Two", "young", "guys"), "1", ("people",)),
        (("shaggy", "hair"), "2", ("bodyparts", "other")),
    ]
    assert [phrase.chain for phrase in second.phrases] == ["3", NOT_VISUAL]
    assert [i.box for i in image.example.instances] == [
        (0, 1, 10, 5),
        (20, 0, 40, 1),
        (20, 0, 40, 1),
    ]
    assert image.example.mask("1").sum() == 10 * 4 + 20 and image.example.mask("2").sum() == 20
    assert not image.example.mask("3").any()
    assert image.example.image().shape == (30, 40, 3)
    (again,) = read_flickr30k_entities(flickr, None)
    assert again.captions == image.captions


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a [/EN#1/people man stands .", "no bracket closes the phrase of chain 1"),
        ("[/EN#x/people a man] .", r"'\[/EN#x/people' is not like"),
        ("[/EN#1 a man] .", r"'\[/EN#1' is not like"),
        ("[/EN#1/people a [/EN#2/people man] ] .", r"'\[/EN#2/people' is not like"),
        ("[/EN#1/people ] stands", "the phrase of chain 1 has no word"),
    ],
)
def test_malformed_captions(tmp_path, line, message):
    file = tmp_path / "9.txt"
    file.write_text(f"[ fine ] .\n{line}\n")
    with pytest.raises(AnnotationError, match=rf"9\.txt, line 2: .*{message}"):
        read_captions(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "cc">]><annotation>', "declares a document type"),
        ("<xmax>10</xmax>", "", "17.xml, object 1: a box of .*None"),
        ("<name>3</name>", "<name> </name>", "17.xml, object 3: it has no name"),
        ("<nobndbox>1", "<nobndbox>yes", "17.xml, object 4: nobndbox is 'yes'"),
        ("<width>40", "<width>-4", "gives an image '30' x '-4' pixels"),
        ("</annotation>", "", "is no XML"),
    ],
)
def test_malformed_boxes(flickr, old, new, message):
    (flickr / "Annotations" / "17.xml").write_text(XML.replace(old, new))
    with pytest.raises(AnnotationError, match=message):
        read_flickr30k_entities(flickr)


def test_a_box_far_beyond_its_image_is_left_out_with_a_warning(flickr):
    (flickr / "Annotations" / "17.xml").write_text(XML.replace("<xmax>10<", "<xmax>1e99<"))
    with pytest.warns(UserWarning, match="objects left out; .* reaches far beyond its image"):
        read_flickr30k_entities(flickr)


def test_incomplete_flickr30k(flickr):
    with pytest.raises(AnnotationError, match=r"lacks val\.txt"):
        read_flickr30k_entities(flickr, "val")
    (flickr / "test.txt").write_text("17\n../../18\n")
    with pytest.raises(AnnotationError, match="which is no file below"):
        read_flickr30k_entities(flickr)
    (flickr / "test.txt").write_text("17\n18\n")
    with pytest.raises(AnnotationError, match=r"1 of the 2 files .* missing.*annotations\.zip"):
        read_flickr30k_entities(flickr)
    with pytest.raises(ValueError, match="no split 'dev'"):
        read_flickr30k_entities(flickr, "dev")
