"""Pictures: colour only where there is evidence, nothing cut, no state left behind."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxground import plots

PHOTO = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)


def saturation(pixels):
    return pixels.astype(int).max(-1) - pixels.astype(int).min(-1)


def draw(maps, photo=PHOTO):
    file = io.BytesIO()
    plots.figure(photo, maps, file)
    return np.asarray(Image.open(file).convert("RGB"))


def test_colour_lies_where_the_map_is_high():
    values = np.zeros((6, 8), np.float32)
    values[1, 6] = 2
    picture = plots.overlay(PHOTO, values)
    assert picture.shape == PHOTO.shape
    assert picture.dtype == np.uint8
    colour = saturation(picture)
    assert colour[15, 65] > 60  # the centre of that cell
    assert colour[:, :40].max() == colour[40:].max() == 0


def test_maps_differing_by_scale_and_offset_look_alike():
    values = np.random.default_rng(1).random((5, 5)).astype(np.float32)
    one, other = (plots.overlay(PHOTO, v).astype(int) for v in (values, 5 + 1e3 * values))
    assert abs(one - other).max() <= 1


@pytest.mark.parametrize("values", [0.0, 3.0, np.nan])
def test_maps_without_contrast_leave_the_photograph_grey(values):
    picture = plots.overlay(PHOTO, np.full((4, 4), values))
    assert saturation(picture).max() == 0
    assert np.corrcoef(picture.mean(-1).ravel(), PHOTO.mean(-1).ravel())[0, 1] > 0.85


def test_a_map_may_be_a_list():
    image = np.full((2, 2, 3), 100, np.uint8)
    rows = [[0.0, 1.0], [0.5, 0.25]]
    np.testing.assert_array_equal(plots.overlay(image, rows), plots.overlay(image, np.array(rows)))


def test_a_hole_in_a_map_stays_grey():
    values = np.eye(4)
    values[0, 0] = np.nan
    picture = plots.overlay(PHOTO, values)
    assert saturation(picture)[:5, :5].max() <= 2
    assert saturation(picture)[52, 70] > 50


def test_a_sheet_has_a_panel_per_map_and_says_what_it_drew(monkeypatch):
    texts = texts_of(monkeypatch)
    one, four = draw({"zebra\n93 %": np.eye(3)}), draw({f"map {i}": np.eye(3) for i in range(4)})
    assert four.shape[1] > 1.5 * one.shape[1]  # four columns
    assert four.shape[0] > 1.5 * one.shape[0]  # two rows
    assert {"photograph", "zebra", "93 %", "map 3", "min", "peak"} <= set(texts)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 3)), "no evidence:\nthe map is zero"),
        (np.ones((3, 3)), "the map is constant"),
        (np.full((3, 3), np.nan), "the map has\nno finite value"),
    ],
)
def test_a_flat_map_says_so(monkeypatch, values, said):
    texts = texts_of(monkeypatch)
    draw({"cat": values})
    assert said in texts


def test_the_ring_is_at_the_centre_of_the_largest_cell(monkeypatch):
    import matplotlib.axes

    points = []
    monkeypatch.setattr(
        matplotlib.axes.Axes, "plot", lambda self, x, y, *_, **__: points.append((x, y))
    )
    values = np.zeros((4, 4))
    values[1, 3] = 1
    draw({"cat": values}, np.zeros((200, 200, 3), np.uint8))  # drawn at 450 x 450 pixels
    assert points[0] == pytest.approx((3.5 / 4 * 450 - 0.5, 1.5 / 4 * 450 - 0.5))


def test_titles_are_text_not_mathematics_and_long_ones_are_cut(monkeypatch):
    texts = texts_of(monkeypatch)
    draw({"$x^2$ \\frac": np.eye(2), "w" * 300: np.eye(2)})
    assert "$x^2$ \\frac" in texts
    assert max(map(len, texts)) < 60


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2000)])
def test_photographs_of_any_aspect_make_a_sheet_of_sane_size(size):
    sheet = draw({"cat": np.eye(3)}, np.zeros((*size, 3), np.uint8))
    assert max(sheet.shape) < 2000


def test_nothing_is_drawn_beyond_the_sheet():
    sheet = draw({"a name of some length\nand a second line": np.eye(3)})
    border = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]])
    assert (border == 255).all()


def test_the_suffix_chooses_the_format(tmp_path):
    plots.figure(PHOTO, {"cat": np.eye(2)}, tmp_path / "sheet.pdf")
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")


def test_pyplot_is_never_imported_and_matplotlib_only_when_drawing():
    code = """
import sys
from jaxground import plots
assert "matplotlib" not in sys.modules, "matplotlib imported too early"
import io
import numpy as np
plots.figure(np.zeros((9, 9, 3), np.uint8), {"cat": np.eye(2)}, io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules, "pyplot imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="float64: expected uint8"):
        plots.overlay(PHOTO / 255, np.eye(2))
    with pytest.raises(ValueError, match=r"\(60, 80\): expected \[height, width, 3\]"):
        plots.overlay(PHOTO[..., 0], np.eye(2))
    with pytest.raises(ValueError, match=r"the map has shape \(1, 2, 2\)"):
        plots.overlay(PHOTO, np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="no map to draw"):
        plots.figure(PHOTO, {}, io.BytesIO())


def texts_of(monkeypatch):
    """Collects every text that Matplotlib paints."""
    from matplotlib.text import Text

    seen, paint = [], Text.draw

    def draw_text(self, *args, **kwargs):
        seen.append(self.get_text())
        return paint(self, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", draw_text)
    return seen


def test_overlay_of_a_video_is_stretched_as_a_whole():
    frames = np.full((4, 6, 8, 3), 200, np.uint8)
    maps = np.zeros((4, 3, 4), np.float32)
    maps[1, 1, 1], maps[2, 1, 2], maps[3] = 1, 4, -7
    video = plots.overlay_video(frames, maps)
    grey = plots.overlay(frames[0], maps[0])
    np.testing.assert_array_equal(video[0], grey, "no evidence in this frame")
    np.testing.assert_array_equal(video[3], grey, "evidence against is not shown")
    change = np.abs(video.astype(int) - grey).sum(-1).max((1, 2))
    assert 0 < change[1] < change[2]
    np.testing.assert_array_equal(video[2], plots.overlay(frames[2], maps[2]), "the brightest")
    with pytest.raises(ValueError, match=r"frames \(4, 6, 8, 3\) and maps \(3, 3, 4\)"):
        plots.overlay_video(frames, maps[1:])
    with pytest.raises(TypeError, match="float64"):
        plots.overlay_video(frames / 255, maps)
