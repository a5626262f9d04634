"""Photographs as people have them: turned, transparent, deep, animated, broken, enormous."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from jaxground.data.images import Found, ImageError, find_images, measure_image, read_image

# Four saturated corners tell every orientation apart.
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(height=32, width=48):
    pixels = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    pixels[:h, :w], pixels[:h, w:], pixels[h:, :w], pixels[h:, w:] = RED, GREEN, BLUE, WHITE
    return pixels


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def at_corners(pixels):
    """Colours of the four corners in reading order, robust to JPEG noise."""
    points = pixels[2, 2], pixels[2, -3], pixels[-3, 2], pixels[-3, -3]
    return [tuple(int(value > 128) * 255 for value in point) for point in points]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "jp2", "webp"])
def test_lossless_formats_come_back_bit_by_bit(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"photo.{suffix}", corners(), **options)
    np.testing.assert_array_equal(read_image(path), corners())
    assert read_image(str(path)).dtype == np.uint8


# Corners of the stored picture in reading order, by the definition of each EXIF value: what the
# stored row 0 and column 0 are on the upright picture (EXIF 2.3, section 4.6.4, tag 274).
STORED = {
    1: [RED, GREEN, BLUE, WHITE],  # top, left
    2: [GREEN, RED, WHITE, BLUE],  # top, right
    3: [WHITE, BLUE, GREEN, RED],  # bottom, right
    4: [BLUE, WHITE, RED, GREEN],  # bottom, left
    5: [RED, BLUE, GREEN, WHITE],  # left, top
    6: [GREEN, WHITE, RED, BLUE],  # right, top
    7: [WHITE, GREEN, BLUE, RED],  # right, bottom
    8: [BLUE, RED, WHITE, GREEN],  # left, bottom
}


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path, orientation, suffix):
    height, width = (32, 48) if orientation < 5 else (48, 32)
    stored = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(STORED[orientation]):
        row, column = divmod(index, 2)
        stored[
            row * height // 2 : (row + 1) * height // 2,
            column * width // 2 : (column + 1) * width // 2,
        ] = colour
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"turned.{suffix}", stored, exif=exif)
    assert measure_image(path) == (32, 48)
    for longest in (None, 24):
        pixels = read_image(path, longest=longest)
        assert at_corners(pixels) == [RED, GREEN, BLUE, WHITE]
        assert pixels.shape == ((32, 48, 3) if longest is None else (16, 24, 3))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_nonsense_orientation_is_ignored(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    path = save(tmp_path / "photo.jpg", corners(), exif=exif)
    assert at_corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_broken_metadata_does_not_cost_the_photograph(tmp_path):
    path = save(tmp_path / "photo.jpg", corners(), exif=b"Exif\x00\x00garbage, not a TIFF header")
    assert at_corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_cmyk_jpegs_are_converted(tmp_path):
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert at_corners(read_image(tmp_path / "print.jpg")) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(4, axis=0)
    path = save(tmp_path / f"deep.{suffix}", ramp)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256, dtype=np.uint8)[None].repeat(4, 0))
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_16_bit_colour_keeps_its_high_bytes(tmp_path):
    rgb = np.array([[[65535, 0, 32768]]], ">u2")
    path = tmp_path / "deep.png"
    path.write_bytes(png(1, 1, 16, 2, b"\x00" + rgb.tobytes()))
    assert read_image(path).tolist() == [[[255, 0, 128]]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_images_without_a_declared_range_use_the_one_met(tmp_path, dtype):
    values = np.array([[-1000, 0], [500, 1000]], dtype)
    assert read_image(save(tmp_path / "heights.tif", values))[..., 1].tolist() == [
        [0, 128],
        [191, 255],
    ]
    flat = read_image(save(tmp_path / "flat.tif", np.full((2, 2), 7, dtype)))
    assert (flat == 0).all()


def test_a_float_image_with_holes_stays_readable(tmp_path):
    values = np.array([[np.nan, 0.0, 1.0, np.inf]], np.float32)
    assert read_image(save(tmp_path / "holes.tif", values))[0, :, 0].tolist() == [0, 0, 255, 255]
    values[:] = np.nan
    assert (read_image(save(tmp_path / "nothing.tif", values)) == 0).all()


def test_greyscale_one_bit_and_palette(tmp_path):
    image = Image.fromarray(corners())
    image.convert("L").save(tmp_path / "grey.png")
    grey = read_image(tmp_path / "grey.png")
    assert grey.shape == (32, 48, 3)
    assert (grey[..., 0] == grey[..., 1]).all()
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), corners())
    image.convert("1", dither=Image.Dither.NONE).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)  # black: opaque, half, transparent
    rgba[0, :, 3] = 255, 128, 0
    pixels = read_image(save(tmp_path / "glass.png", rgba))
    assert pixels[0, :, 0].tolist() == [0, 127, 255]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png")[0, :, 0].tolist() == [255, 9]
    Image.fromarray(corners()).save(tmp_path / "keyed.png", transparency=RED)
    assert at_corners(read_image(tmp_path / "keyed.png")) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    assert at_corners(read_image(tmp_path / f"film.{suffix}")) == [RED] * 4


def test_one_pixel_is_an_image(tmp_path):
    path = save(tmp_path / "dot.png", np.full((1, 1, 3), 200, np.uint8))
    assert read_image(path).tolist() == [[[200, 200, 200]]]
    assert read_image(path, longest=500).shape == (1, 1, 3)  # never enlarged
    assert measure_image(path) == (1, 1)


# Size -------------------------------------------------------------------------------------------


def png(width, height, depth, colour, rows):
    """A PNG file by hand, so that its header may promise anything."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )


def test_a_60_megapixel_photograph_is_decoded_at_reduced_scale(tmp_path, monkeypatch):
    path = save(tmp_path / "large.jpg", np.kron(corners(32, 48), np.ones((196, 196, 1), np.uint8)))
    assert measure_image(path) == (6272, 9408)
    decoded = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda self: (decoded.append(self.size), load(self)))
    pixels = read_image(path, longest=1000)
    assert pixels.shape == (667, 1000, 3)
    assert at_corners(pixels) == [RED, GREEN, BLUE, WHITE]
    assert max(decoded) == (1176, 784)  # an eighth of each side


def test_a_60_megapixel_photograph_is_read_whole(tmp_path):
    path = save(tmp_path / "large.jpg", np.full((7000, 9000), 99, np.uint8))
    assert read_image(path).shape == (7000, 9000, 3)


def test_a_gigapixel_bomb_is_refused_before_it_unpacks(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(32768, 32768, 1, 0, bytes(4097 * 100)))
    for read in (read_image, measure_image):
        with pytest.raises(ImageError, match=r"bomb\.png: more than 178,956,970 pixels; make it"):
            read(path)


def test_long_thin_pictures_keep_a_pixel(tmp_path):
    path = save(tmp_path / "line.jpg", np.zeros((1, 3000), np.uint8))
    assert read_image(path, longest=10).shape == (1, 10, 3)


# Broken files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_truncated_files_name_themselves(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    whole = save(tmp_path / f"whole.{suffix}", noise).read_bytes()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=rf"cannot read .*half\.{suffix}: .+"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif"])
def test_flipped_bytes_raise_image_errors_or_give_pixels(tmp_path, suffix):
    whole = save(tmp_path / f"whole.{suffix}", corners()).read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(whole)
        for position in random.integers(0, len(whole), 4):
            broken[position] = random.integers(256)
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(broken)
        try:
            pixels = read_image(path)
        except ImageError as error:
            assert "broken" in str(error)
        else:
            assert pixels.ndim == 3
            assert pixels.shape[-1] == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image", "not one of JPEG, PNG"),
        (bytes(100), "not one"),
    ],
)
def test_files_that_are_no_images(tmp_path, content, reason):
    (tmp_path / "letter.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=rf"letter\.jpg: {reason}"):
        read_image(tmp_path / "letter.jpg")


def test_postscript_is_never_run(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(corners()).save(buffer, "EPS")
    (tmp_path / "drawing.png").write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match="not one of"):
        read_image(tmp_path / "drawing.png")


def test_absent_files_and_folders_raise_what_python_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)


# Folders ----------------------------------------------------------------------------------------


def test_folders_are_expanded_in_order_and_missing_paths_are_told(tmp_path):
    for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt", ".hidden.png", ".git/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "photos"
    absent, empty = tmp_path / "absent.jpg", tmp_path / "empty"
    found = find_images([folder / "b.JPG", folder, absent, folder / "notes.txt", empty])
    assert found == Found(
        images=[folder / name for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt")],
        missing=[absent, empty],
    )
