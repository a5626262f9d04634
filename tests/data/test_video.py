"""Videos: folders, animated pictures and films, read whole, sampled and in chunks; broken ones."""

import builtins
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from jaxground.data import (
    VideoError,
    frame_rate,
    read_chunks,
    read_video,
    video,
    video_suffix,
    write_video,
)
from jaxground.data.films import decode_film


def numbered(count=40, size=(24, 32)):
    """Frames in ever lighter grey, with a mark in a corner."""
    frames = np.zeros((count, *size, 3), np.uint8)
    frames += (20 + 5 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    frames[:, :8, :8] = (250, 20, 20)
    return frames


def number_of(frames):
    return np.round((frames[:, 12:20, 12:20].mean((1, 2, 3)) - 20) / 5).astype(int).tolist()


def write_folder(folder, frames, form="frame{}.png"):
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / form.format(number))
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """The same frames as a folder, animated pictures and films, by suffix."""
    pytest.importorskip("av", reason="films need the extra `video`")
    folder, frames = tmp_path_factory.mktemp("films"), numbered()
    paths = {"folder": write_folder(folder / "frames", frames)}
    for suffix in (".mp4", ".mkv", ".webm", ".png", ".webp", ".gif"):
        paths[suffix] = folder / f"clip{suffix}"
        write_video(paths[suffix], frames)
    return paths


@pytest.mark.parametrize("kind", ["folder", ".mp4", ".mkv", ".webm", ".png", ".webp", ".gif"])
def test_every_kind_of_video(films, kind):
    whole = read_video(films[kind])
    assert whole.shape == (40, 24, 32, 3) and whole.dtype == np.uint8
    assert number_of(whole) == [*range(40)], "all frames, in order"
    assert np.abs(whole[:, 2:6, 2:6].mean((0, 1, 2)) - (250, 20, 20)).max() < 12, "RGB"
    if kind in ("folder", ".png", ".webp"):
        np.testing.assert_array_equal(whole, numbered())
    assert number_of(read_video(films[kind], count=4)) == [5, 15, 25, 35]
    assert number_of(read_video(films[kind], count=80)) == [i // 2 for i in range(80)]
    chunks = [number_of(chunk) for chunk in read_chunks(films[kind], length=16)]
    assert chunks == [[*range(16)], [*range(16, 32)], [*range(32, 40)]]
    starts = {(c[0], len(c)) for c in map(number_of, read_chunks(films[kind], length=16, step=8))}
    assert starts == {(0, 16), (8, 16), (16, 16), (24, 16)}
    apart = [number_of(chunk) for chunk in read_chunks(films[kind], length=2, step=15)]
    assert apart == [[0, 1], [15, 16], [30, 31]]


def test_natural_order(tmp_path):
    names = ["shot 1/", "a10.png", "a9.jpg", "A1.png", "a009.png", ".a0.png", "notes.txt"]
    for number, name in enumerate(names):
        if name.endswith("/"):
            (tmp_path / name).mkdir()
            Image.new("L", (9, 9)).save(tmp_path / name / "deep.png")
        elif name.endswith("txt"):
            (tmp_path / name).write_text("not a frame")
        else:
            Image.new("L", (2, 3), number).save(tmp_path / name)
    assert read_video(tmp_path)[:, 0, 0, 0].tolist() == [3, 2, 4, 1], "9 is 009, .jpg before .png"


def test_equal_frames_of_animated_pictures_are_not_lost(tmp_path):
    frames = numbered(12)[[0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3, 4]]
    for suffix in (".png", ".gif", ".webp"):
        write_video(tmp_path / f"still{suffix}", frames)
        found = number_of(read_video(tmp_path / f"still{suffix}"))
        assert found == [0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3, 4]


def test_odd_sides_are_padded_in_films(tmp_path):
    pytest.importorskip("av")
    frames = numbered(3, (25, 31))
    write_video(tmp_path / "odd.mp4", frames, rate=29.97)
    assert frame_rate(tmp_path / "odd.mp4") == pytest.approx(29.97, 1e-4)
    assert read_video(tmp_path / "odd.mp4").shape == (3, 26, 32, 3)


def test_films_are_turned_upright(films, tmp_path):
    content = bytearray(films[".mp4"].read_bytes())
    # The matrix of the track header of an MP4: a, b, u, c, d, v, x, y, w of (x', y') = ...
    matrix = content.find(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", content, matrix) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30  # shown a quarter turn clockwise
    struct.pack_into(">9i", content, matrix, *turned)
    (tmp_path / "phone.mp4").write_bytes(content)
    frames = read_video(tmp_path / "phone.mp4", count=2)
    assert frames.shape == (2, 32, 24, 3)
    assert (frames[0, 2:6, -6:-2, 0] > 200).all(), "what was upper left is upper right"


def test_a_long_film_takes_constant_memory(tmp_path):
    pytest.importorskip("av")
    size = 96, 128
    long = np.repeat(numbered(10, size), 30, 0)
    write_video(tmp_path / "long.mp4", long)
    chunks = read_chunks(tmp_path / "long.mp4", length=8)
    del long
    next(chunks)
    tracemalloc.start()  # NumPy's arrays are traced
    total = sum(len(chunk) for chunk in chunks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 292
    assert peak < 40 * size[0] * size[1] * 3, "a few chunks, not 300 frames"


def test_broken_films(films, tmp_path):
    def refused(content, message, name="broken.mp4"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=rf"cannot read .*{name}: {message}"):
            read_video(tmp_path / name)

    good = films[".mp4"].read_bytes()
    refused(b"", "the file is empty; copy or download it again")
    for end in (len(good) // 2, len(good) - 50):  # without its index, and within it
        refused(good[:end], "it is an MP4 that is cut off, or was never finished")
    refused(bytes(1000), "no film of a known kind")
    hurt = bytearray(good)
    start = hurt.find(b"mdat") + 1200  # past the settings that x264 writes about itself
    hurt[start : start + 300] = np.random.default_rng(0).bytes(300)
    refused(bytes(hurt), r"frame \d+ is broken")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        list(read_chunks(tmp_path / "broken.mp4", length=4))
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path / "none.mp4")


def test_a_film_that_is_cut_off_says_so(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "cut.avi"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuvj420p"
        for _ in range(30):
            noise = rng.integers(0, 255, (24, 32, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        out.mux(stream.encode())
    assert len(read_video(path)) == 30
    content = path.read_bytes()
    end = content.find(b"00dc")  # of the data that belong to a frame
    for _ in range(14):  # one of them in the header
        end = content.find(b"00dc", end + 1)
    path.write_bytes(content[: end + 300])
    with pytest.raises(VideoError, match="frame 13 is broken: Invalid data"):
        read_video(path)
    path.write_bytes(content[:end])
    message = r"it ends after 13 of the 30 frames that its header promises; copy"
    for count in (None, 4):
        with pytest.raises(VideoError, match=message):
            read_video(path, count=count)
    chunks = read_chunks(path, length=4)
    assert len(next(chunks)) == 4, "what is there can be used"
    with pytest.raises(VideoError, match=message):
        list(chunks)


def test_lists_of_other_files_are_not_followed(films, tmp_path, monkeypatch):
    """FFmpeg would open what they name: other files, or addresses."""
    monkeypatch.chdir(films[".mp4"].parent)  # where it would look for the clip
    lists = [
        "ffconcat version 1.0\nfile clip.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nclip.mp4\n#EXT-X-ENDLIST\n",
    ]
    for number, text in enumerate(lists):
        (tmp_path / f"{number}.mp4").write_text(text)
        with pytest.raises(VideoError, match="no film of a known kind"):
            read_video(tmp_path / f"{number}.mp4")


def test_folders_that_are_no_videos(tmp_path):
    with pytest.raises(VideoError, match="holds no pictures: a video's frames are files right"):
        read_video(tmp_path)
    folder = write_folder(tmp_path / "frames", numbered(4))
    Image.new("RGB", (9, 8)).save(folder / "frame2.png")
    message = r"frame 2 has 8 x 9 pixels \(height x width\), those before it 24 x 32"
    with pytest.raises(VideoError, match=message):
        read_video(folder)
    with pytest.raises(VideoError, match=message):
        list(read_chunks(folder, length=3))
    (folder / "frame1.png").write_bytes((folder / "frame0.png").read_bytes()[:60])
    with pytest.raises(VideoError, match=r"cannot read .*frame1.png: .*; write this frame again"):
        read_video(folder)


def test_what_does_not_fit_into_memory(films, monkeypatch):
    monkeypatch.setattr(video, "MEMORY_LIMIT", 20 * 24 * 32 * 3)
    for kind in ("folder", ".mp4", ".gif"):
        with pytest.raises(VideoError, match="more than 46,080 bytes"):
            read_video(films[kind])
    assert len(read_video(films[".mp4"], count=20)) == 20


def test_without_pyav(films, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **given):
        if name == "av":
            raise ImportError("no av")
        return real(name, *rest, **given)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for use in (lambda: read_video(films[".mp4"]), lambda: next(decode_film(films[".mkv"]))):
        with pytest.raises(VideoError, match=r"without PyAV: pip install 'jaxground\[video\]'"):
            use()
    with pytest.raises(VideoError, match=r"cannot write .*a.mp4 without PyAV.*or choose .png"):
        write_video(tmp_path / "a.mp4", numbered(2))
    write_video(tmp_path / "a.png", numbered(2))
    assert len(read_video(tmp_path / "a.png")) == 2
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert video_suffix() == ".png"


def test_animated_pictures_that_are_broken(films, tmp_path):
    for suffix in (".gif", ".png", ".webp"):
        path = tmp_path / f"cut{suffix}"
        content = films[suffix].read_bytes()
        for share in (0.0, 0.02, 0.5):
            path.write_bytes(content[: int(share * len(content))])
            try:
                found = number_of(read_video(path))
            except VideoError as error:
                assert f"cannot read {path}" in str(error) and "write it again" in str(error)
            else:  # a GIF has no count of its frames, nor an end that must be there
                assert suffix == ".gif" and found == [*range(len(found))] and len(found) < 40


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    Image.new("RGB", (5, 4), (9, 8, 7)).save(tmp_path / "one.png")
    assert read_video(tmp_path / "one.png").shape == (1, 4, 5, 3)


def test_what_is_not_written(tmp_path):
    frames = numbered(2)
    for path, given, error, message in [
        ("a.mov", frames, ValueError, r"suffix '.mov': choose one of .mp4, "),
        ("a.png", frames[0], ValueError, r"shape \(24, 32, 3\): expected \[time"),
        ("a.png", frames / 255, TypeError, "frames are float64: give uint8"),
        ("none/a.png", frames, FileNotFoundError, "none"),
    ]:
        with pytest.raises(error, match=message):
            write_video(tmp_path / path, given)
    with pytest.raises(ValueError, match="rate is 0"):
        write_video(tmp_path / "a.png", frames, rate=0)
    with pytest.raises(ValueError, match="count=0"):
        read_video(tmp_path, count=0)
    with pytest.raises(ValueError, match="length=0, step=1"):
        read_chunks(tmp_path, length=0, step=1)
