"""Where results go, and that a record means that all three files are whole."""

import json
from pathlib import Path

import pytest

from jaxground.cli import results
from jaxground.cli.errors import UserError

SETTINGS = {"model": "vgg16", "tap": "pool4", "targets": [[340]]}
NAME = "excitation_backprop.zebra"


def finish(stem: Path, photo: Path, settings=SETTINGS):
    record = {"photograph": {"path": results.identity(photo)}, "settings": settings}
    results.write(
        stem,
        {
            ".npz": lambda file: file.write(b"map"),
            ".png": lambda file: file.write(b"picture"),
            ".json": lambda file: file.write(json.dumps(record).encode()),
        },
    )


def plan(photos, output, settings=SETTINGS, **options):
    return results.plan(photos, output, NAME, settings, overwrite=False, **options)


def test_results_are_called_after_photograph_and_explanation(tmp_path):
    photo = tmp_path / "my photo.v2.jpg"
    assert plan([photo], None).todo == {photo: tmp_path / f"my_photo.v2.{NAME}"}
    output = tmp_path / "out"
    assert plan([photo], output).todo == {photo: output / f"my_photo.v2.{NAME}"}


def test_a_finished_result_is_kept_and_overwritten_on_demand(tmp_path):
    photo = tmp_path / "a.jpg"
    (stem,) = plan([photo], tmp_path).todo.values()
    finish(stem, photo)
    assert plan([photo], tmp_path) == results.Plan({}, {photo: stem})
    again = results.plan([photo], tmp_path, NAME, SETTINGS, overwrite=True)
    assert again == results.Plan({photo: stem}, {})


@pytest.mark.parametrize("suffix", results.SUFFIXES)
def test_a_result_with_a_file_missing_is_not_finished(tmp_path, suffix):
    photo = tmp_path / "a.jpg"
    (stem,) = plan([photo], tmp_path).todo.values()
    finish(stem, photo)
    stem.with_name(stem.name + suffix).unlink()
    assert plan([photo], tmp_path).todo == {photo: stem}


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_damaged_record_is_not_finished(tmp_path, text):
    photo = tmp_path / "a.jpg"
    (stem,) = plan([photo], tmp_path).todo.values()
    finish(stem, photo)
    stem.with_name(stem.name + ".json").write_text(text)
    assert plan([photo], tmp_path).todo == {photo: stem}


def test_a_result_made_otherwise_is_refused_with_what_differs(tmp_path):
    photo = tmp_path / "a.jpg"
    (stem,) = plan([photo], tmp_path).todo.values()
    finish(stem, photo)
    with pytest.raises(
        UserError, match=r'\.json was made with tap "pool4", not "pool5"; give --ov'
    ):
        plan([photo], tmp_path, {**SETTINGS, "tap": "pool5"})


def test_photographs_of_one_name_do_not_collide(tmp_path):
    photos = [tmp_path / "a" / "cat.jpg", tmp_path / "b" / "cat.jpg", tmp_path / "b" / "cat.png"]
    todo = plan(photos, tmp_path).todo
    assert len(set(todo.values())) == 3
    assert plan(photos[::-1], tmp_path).todo == todo  # whatever their order
    for photo, stem in todo.items():
        finish(stem, photo)
    assert plan(photos, tmp_path).finished == todo


def test_a_name_taken_by_an_earlier_photograph_is_left_to_it(tmp_path):
    first, second = tmp_path / "a" / "cat.jpg", tmp_path / "b" / "cat.jpg"
    (stem,) = plan([first], tmp_path).todo.values()
    finish(stem, first)
    (other,) = plan([second], tmp_path).todo.values()
    assert other != stem
    finish(other, second)
    assert plan([second], tmp_path).finished == {second: other}
    assert plan([first], tmp_path).finished == {first: stem}


@pytest.mark.parametrize("stem", ["ふ" * 100, "x" * 250, "..", "-rf", "a/b"[1:]])
def test_any_name_makes_a_file_name(tmp_path, stem):
    (path,) = plan([tmp_path / f"{stem}.jpg"], tmp_path).todo.values()
    finish(path, tmp_path / f"{stem}.jpg")
    assert path.parent == tmp_path


def test_an_interrupted_write_leaves_no_record_and_no_litter(tmp_path):
    photo = tmp_path / "a.jpg"
    (stem,) = plan([photo], tmp_path).todo.values()
    finish(stem, photo)

    def interrupt(file):
        file.write(b"half")
        raise KeyboardInterrupt

    contents = {".npz": lambda file: file.write(b"new"), ".png": interrupt}
    with pytest.raises(KeyboardInterrupt):
        results.write(stem, contents)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{stem.name}.npz", f"{stem.name}.png"]
    assert stem.with_name(stem.name + ".png").read_bytes() == b"picture"  # the old one, whole
    assert plan([photo], tmp_path).todo == {photo: stem}


def test_results_are_ordinary_files(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    finish(tmp_path / "a", tmp_path / "a.jpg")
    assert (tmp_path / "a.png").stat().st_mode == ordinary.stat().st_mode


def test_our_pictures_are_told_from_photographs(tmp_path):
    finish(tmp_path / f"a.{NAME}", tmp_path / "a.jpg")
    (tmp_path / "photo.png").touch()
    assert results.is_result(tmp_path / f"a.{NAME}.png")
    assert not results.is_result(tmp_path / "photo.png")


def test_folders_that_cannot_be_written_to_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: a file is in the way; choose another folder with"):
        results.try_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write into .*file/deeper"):
        results.try_folder(tmp_path / "file" / "deeper")
    with pytest.raises(UserError, match="cannot write into /proc"):
        results.try_folder(Path("/proc/jaxground"))
    results.try_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_in_the_way_of_a_file_is_refused(tmp_path):
    photo = tmp_path / "a.jpg"
    (tmp_path / f"a.{NAME}.json").mkdir()
    for suffix in (".npz", ".png"):
        (tmp_path / f"a.{NAME}{suffix}").touch()
    with pytest.raises(UserError, match="a folder is in the way"):
        plan([photo], tmp_path)
