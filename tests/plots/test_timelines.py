"""Pictures of time: what is refused, and what is drawn where."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxground.plots import Track, timeline

FRAMES = np.full((12, 8, 8, 3), 120, np.uint8)


def draw(*tracks, **options):
    file = io.BytesIO()
    timeline(tracks, file, **options)
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def orange(picture):
    """The columns with pixels of the colour that frames the found key frames."""
    return (np.abs(picture - [232, 89, 12]).max(-1) < 8).any(0)


def test_the_peak_is_a_key_frame_and_the_interval_frames_the_frames_in_it():
    frames = FRAMES.copy()
    frames[7] = [0, 0, 255]  # 12 frames, 8 key frames: 7 is among them only as the peak
    signal = np.full(12, -1.0)
    signal[7] = 3
    picture = draw(Track("dives", frames, signal, (7, 8)))
    assert (np.abs(picture - [0, 0, 255]).max(-1) < 8).any()
    assert orange(picture).any()
    flat = draw(Track("dives", frames, np.zeros(12), (0, 0)))
    assert not orange(flat).any()


def test_each_track_has_its_place_and_the_truth_a_line():
    track = Track("dives\n90 %", FRAMES, np.arange(12.0), (3, 12))
    one, two = draw(track), draw(track, track)
    assert two.shape[0] == pytest.approx(2 * one.shape[0], abs=2)
    told = draw(track, truth=(2, 5))
    assert (told != one).any()


def test_frames_and_signal_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="expected"):
        draw(Track("dives", FRAMES, np.zeros(11), (0, 0)))
    with pytest.raises(ValueError, match="no track"):
        draw()


def test_frames_of_one_column_make_no_sheet_of_metres():
    thin = np.full((2, 384, 1, 3), 120, np.uint8)
    assert draw(Track("thin", thin, [-1.0, 1.0], (1, 2))).shape[0] < 1000
