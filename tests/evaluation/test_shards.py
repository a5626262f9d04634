"""Records that survive a kill: torn lines, damaged lines, other people's settings."""

import json

import pytest

from jaxground.evaluation import shards

SETTINGS = {"methods": {"grad_cam": {"tap": "fire9"}}, "seed": 0}


def fill(folder, records, process=0, processes=1):
    with shards.Shard(folder, process, processes) as shard:
        for record in records:
            shard.append(record)


def test_records_come_back_whoever_wrote_them(tmp_path):
    fill(tmp_path, [{"batch": 0, "text": "line\nbreak \u2028 \ud800"}, {"batch": 1}], 0, 2)
    fill(tmp_path, [{"batch": 2}], 1, 2)
    found = sorted(shards.read(tmp_path), key=lambda record: record["batch"])
    assert found == [{"batch": 0, "text": "line\nbreak \u2028 \ud800"}, {"batch": 1}, {"batch": 2}]


def test_a_line_cut_off_anywhere_is_dropped_and_the_next_one_counts(tmp_path):
    fill(tmp_path, [{"batch": 0}, {"batch": 1, "x": [1.5, None]}])
    (path,) = tmp_path.glob("records-*")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert shards.read(tmp_path) == [{"batch": 0}]
        fill(tmp_path, [{"batch": 2}])
        assert shards.read(tmp_path) == [{"batch": 0}, {"batch": 2}]


def test_a_damaged_line_is_dropped_and_the_others_count(tmp_path):
    fill(tmp_path, [{"batch": i, "value": 0.25} for i in range(3)])
    (path,) = tmp_path.glob("records-*")
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75", 1))
    assert [record["batch"] for record in shards.read(tmp_path)] == [1, 2]
    fill(tmp_path, [{"batch": 0}])
    assert [record["batch"] for record in shards.read(tmp_path)] == [1, 2, 0]


def test_one_part_has_one_writer(tmp_path):
    with shards.Shard(tmp_path, 0, 2):
        with shards.Shard(tmp_path, 1, 2):
            pass
        with pytest.raises(BlockingIOError):
            shards.Shard(tmp_path, 0, 2)


def test_whether_a_part_is_being_done_can_be_asked_beforehand(tmp_path):
    assert not shards.is_open(tmp_path, 0, 2)
    with shards.Shard(tmp_path, 0, 2):
        assert shards.is_open(tmp_path, 0, 2)
        assert not shards.is_open(tmp_path, 1, 2)
    assert not shards.is_open(tmp_path, 0, 2)
    with shards.Shard(tmp_path, 0, 2) as shard:  # asking leaves no lock behind
        shard.append({"batch": 0})
    assert not list(tmp_path.glob("*2-of-2*")), "asking makes no file"


def test_other_settings_are_refused_by_name(tmp_path):
    shards.agree(tmp_path, SETTINGS)
    shards.agree(tmp_path, SETTINGS)
    other = {"methods": {"grad_cam": {"tap": "fire5"}, "cam": {}}, "seed": 0}
    with pytest.raises(shards.SettingsError) as caught:
        shards.agree(tmp_path, other)
    text = str(caught.value)
    assert 'methods.grad_cam.tap: "fire9" there, "fire5" now' in text
    assert "methods.cam: null there, {} now" in text and "seed" not in text
    assert [path.name for path in tmp_path.iterdir()] == [shards.SETTINGS]
    assert json.loads((tmp_path / shards.SETTINGS).read_text()) == SETTINGS


def test_damaged_settings_are_refused(tmp_path):
    (tmp_path / shards.SETTINGS).write_text('{"meth')
    with pytest.raises(shards.SettingsError, match="damaged"):
        shards.agree(tmp_path, SETTINGS)


def test_nothing_but_numbers_is_written(tmp_path):
    with shards.Shard(tmp_path, 0, 1) as shard, pytest.raises(ValueError):
        shard.append({"value": float("nan")})
    assert shards.read(tmp_path) == []
