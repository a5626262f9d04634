"""From files to batches: whole photographs, one length of batch per size."""

import numpy as np
import pytest
from PIL import Image

from jaxground.cli.photographs import batches, input_size, load
from jaxground.data.images import ImageError
from jaxground.models import Preprocess

PREPROCESS = Preprocess(size=40, crop=32, mean=(0, 0, 0), std=(1, 1, 1))


def photograph(path, height, width, colour=(10, 20, 30)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


def collect(paths, **options):
    failures = []
    found = list(
        batches(
            paths,
            PREPROCESS,
            failed=lambda path, error: failures.append((path, error)),
            **{"short": None, "batch_size": 3, **options},
        )
    )
    return found, failures


def test_by_default_photographs_of_all_sizes_share_batches_of_one_length(tmp_path):
    paths = [photograph(tmp_path / f"{i}.png", 20 + i, 90 - i) for i in range(7)]
    found, failures = collect(paths)
    assert not failures
    assert [length for length, _ in found] == [3, 3, 3]
    assert [photo.path for _, batch in found for photo in batch] == paths
    assert {photo.input.shape for _, batch in found for photo in batch} == {(32, 32, 3)}
    assert found[0][1][2].size == (22, 88)


def test_with_a_size_the_aspect_is_kept_and_each_size_has_one_length(tmp_path):
    sizes = [(40, 60), (60, 40), (400, 600), (40, 61), (80, 120), (80, 120)]
    paths = [photograph(tmp_path / f"{i}.png", *size) for i, size in enumerate(sizes)]
    found, _ = collect(paths, short=20)
    shapes = {}
    for length, batch in found:
        for photo in batch:
            shapes.setdefault(photo.input.shape[:2], set()).add(length)
    assert shapes == {(20, 30): {3}, (30, 20): {1}}
    assert sum(len(batch) for _, batch in found) == 6


def test_the_corners_of_the_photograph_are_corners_of_the_input(tmp_path):
    pixels = np.zeros((60, 300, 3), np.uint8)
    pixels[:30, :40], pixels[30:, -40:] = (255, 0, 0), (0, 0, 255)  # lost to a centre crop
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    for short in (None, 24):
        photo = load(tmp_path / "wide.png", PREPROCESS, short)
        np.testing.assert_allclose(photo.input[0, 0], [1, 0, 0], atol=0.02)
        np.testing.assert_allclose(photo.input[-1, -1], [0, 0, 1], atol=0.02)


def test_the_input_of_a_square_photograph_is_the_networks_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    preprocess = Preprocess()
    photo = load(tmp_path / "square.png", preprocess, None)
    np.testing.assert_array_equal(photo.input, preprocess(pixels, crop=False))


def test_a_large_photograph_is_reduced_but_stays_sharp_enough(tmp_path):
    path = photograph(tmp_path / "panorama.jpg", 500, 6000)
    photo = load(path, Preprocess(), 400)
    assert photo.size == (500, 6000)
    assert photo.input.shape == (400, 4800, 3)
    assert min(photo.pixels.shape[:2]) >= 400
    assert max(load(path, Preprocess(), None).pixels.shape) == 2688  # 224 pixels high


def test_unreadable_files_are_told_and_the_rest_goes_on(tmp_path):
    good = [photograph(tmp_path / f"{i}.png", 30, 30) for i in range(2)]
    whole = photograph(tmp_path / "whole.png", 300, 300).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])  # its header is fine
    (tmp_path / "letter.png").write_text("dear reader")
    bad = [tmp_path / "cut.png", tmp_path / "letter.png", tmp_path / "absent.png"]
    found, failures = collect([good[0], *bad, good[1]])
    assert [photo.path for _, batch in found for photo in batch] == good
    assert {path for path, _ in failures} == set(bad)


def test_a_photograph_too_long_and_thin_is_refused():
    with pytest.raises(ImageError, match=r"100000 x 1 pixels is too long and thin"):
        input_size(PREPROCESS, (1, 100_000), 300)
    assert input_size(PREPROCESS, (1, 100_000), None) == (32, 32)
