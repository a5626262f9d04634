"""Zip archives that lie about their records, as torch and NumPy containers."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_files import assemble, state, write_zip

from jaxground import weights
from jaxground.weights import WeightsError, archives

VALUE, STORAGES = state({"w": np.arange(4, dtype=np.float32)})


def test_reads_a_stored_record_wherever_it_lies(tmp_path):
    """Names, extra fields and padding before the data vary: torch pads records to 64 bytes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for size in (0, 1, 5000):
            record = zipfile.ZipInfo(f"name-{size}")
            record.extra = b"FB" + (size % 50).to_bytes(2, "little") + bytes(size % 50)
            archive.writestr(record, bytes(range(256)) * size)
    with open(path, "rb") as file, archives.opened(file) as archive:
        for name, record in archives.records(archive).items():
            size = int(name.removeprefix("name-"))
            assert archives.stored(file, record).tobytes() == bytes(range(256)) * size


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_a_name_twice(tmp_path):
    path = write_zip(tmp_path / "a", VALUE, STORAGES, records=[("archive/data/0", bytes(16))])
    with pytest.raises(WeightsError, match="each record once, found 'archive/data/0' twice"):
        weights.read(path)


def test_refuses_two_pickles(tmp_path):
    path = write_zip(tmp_path / "a", VALUE, STORAGES, records=[("b/data.pkl", assemble({}))])
    with pytest.raises(WeightsError, match=r"one record named \*/data.pkl, found 2"):
        weights.read(path)


def test_refuses_a_missing_record(tmp_path):
    with pytest.raises(WeightsError, match="'w': expected storage '0' in the file, found none"):
        weights.read(write_zip(tmp_path / "a", VALUE, {}))


def test_refuses_compressed_storages(tmp_path):
    """A kilobyte would become a megabyte: torch.save never compresses."""
    path = tmp_path / "a"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", assemble(VALUE))
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(WeightsError, match="uncompressed, as torch"):
        weights.read(path)


def test_refuses_a_compressed_pickle_before_unpacking_it(tmp_path):
    path = tmp_path / "a"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**27))
    with pytest.raises(WeightsError, match="at most 67108864 bytes of pickle, found 134217728"):
        weights.read(path)


def patched(path, name, offset, value):
    """Overwrites four bytes of a record's entry in the directory."""
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(name) - 46
    assert raw[entry : entry + 4] == b"PK\1\2"
    raw[entry + offset : entry + offset + 4] = value.to_bytes(4, "little")
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("size", [2**31, 2**32 - 2])
def test_refuses_declared_sizes_beyond_the_file(tmp_path, size):
    path = write_zip(tmp_path / "a", VALUE, STORAGES)
    for offset in (20, 24):
        patched(path, b"archive/data/0", offset, size)
    with pytest.raises(WeightsError, match=r"[Oo]verlap"):
        weights.read(path)


def test_refuses_records_that_share_their_bytes(tmp_path):
    """Ten thousand names for one record would multiply a file by ten thousand."""
    storages = {str(index): bytes(400) for index in range(20)}
    path = write_zip(tmp_path / "a", VALUE, storages)
    raw = path.read_bytes()
    start = raw.index(b"PK\3\4", raw.index(b"archive/byteorder"))
    end = raw.index(b"PK\3\4", raw.index(b"archive/data/0"))
    with zipfile.ZipFile(path) as archive:
        offsets = {r.filename: r.header_offset for r in archive.infolist()}
    directory = raw[raw.index(b"PK\1\2") :]
    for name, offset in offsets.items():
        if "/data/" in name:
            directory = directory.replace(
                offset.to_bytes(4, "little") + name.encode(), bytes(4) + name.encode()
            )
    body = raw[:end]
    cut = len(raw) - len(directory) - len(body)
    tail = bytearray(directory)
    where = len(tail) - 22 + 16
    tail[where : where + 4] = (int.from_bytes(tail[where : where + 4], "little") - cut).to_bytes(
        4, "little"
    )
    assert start < end
    path.write_bytes(body + tail)
    with pytest.raises(WeightsError, match="overlap"):
        weights.read(path)


def test_refuses_records_that_are_not_where_the_directory_says(tmp_path):
    """Also when no checksum would tell: zero is how torch says that it computed none."""
    path = write_zip(tmp_path / "a", VALUE, STORAGES)
    patched(path, b"archive/data/0", 16, 0)
    patched(path, b"archive/data/0", 42, 4)
    with pytest.raises(WeightsError, match="expected record 'archive/data/0' at byte 4, found"):
        weights.read(path)


def test_refuses_a_record_that_leaves_the_file(tmp_path):
    """Without a checksum, the missing end would be whatever the memory held."""
    path = write_zip(tmp_path / "a", VALUE, {}, records=[("archive/data/0", STORAGES["0"])])
    raw = path.read_bytes()
    size = len(raw) - raw.index(STORAGES["0"]) + 1
    patched(path, b"archive/data/0", 16, 0)
    for offset in (20, 24):
        patched(path, b"archive/data/0", offset, size)
    with open(path, "rb") as file, archives.opened(file) as archive:
        record = archives.records(archive)["archive/data/0"]
        with pytest.raises(WeightsError, match=f"expected {size} bytes .* found {size - 1}"):
            archives.stored(file, record)


def test_refuses_directories_without_end(tmp_path):
    """Entries of 47 bytes become Python objects of a kilobyte each."""
    entry = b"PK\1\2".ljust(28, b"\0") + b"\1\0".ljust(18, b"\0") + b"x"
    count = archives.MAX_DIRECTORY // len(entry) + 1
    end = b"PK\5\6" + bytes(8) + (count * len(entry)).to_bytes(4, "little") + bytes(6)
    (tmp_path / "a").write_bytes(b"PK\3\4" + entry * count + end)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"a directory of 83\d+ bytes"):
        weights.read(tmp_path / "a")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_refuses_encrypted_records(tmp_path):
    path = write_zip(tmp_path / "a", VALUE, STORAGES)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"archive/data/0") - 46
    raw[entry + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="'archive/data/0' encrypted"):
        weights.read(path)


def test_malformed_turns_the_exceptions_of_zipfile_into_ours():
    with pytest.raises(WeightsError, match="malformed zip archive"):
        archives.opened(io.BytesIO(b"PK\3\4 and no more"))
