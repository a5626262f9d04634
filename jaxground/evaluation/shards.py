"""The files of a run: settings, and records that survive a kill at any moment.

A folder has one `settings.json`, written before anything else, and one file of records for each
process. A record is one line with its checksum, flushed to the disk before the next is begun: a
line that was cut off is known as such and dropped, all others count, whoever wrote them.
"""

import contextlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"
_HEAD = '{"crc32":"%08x","record":'


class SettingsError(ValueError):
    """A folder whose results were made with other settings."""


def agree(folder: Path, settings: Mapping[str, Any]) -> None:
    """Makes a folder this run's, or makes sure that it is.

    Raises:
      SettingsError: It has results of other settings; the message says what differs.
      OSError: It cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    text = json.dumps(settings, indent=2, allow_nan=False) + "\n"
    temporary = folder / f".{SETTINGS}-{secrets.token_hex(8)}"
    try:
        _write(temporary, text.encode())
        try:
            os.link(temporary, path)  # the first process wins; the others compare
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not path.exists():
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    try:
        before = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SettingsError(f"{path} is damaged: remove {folder}, or choose another") from error
    now = json.loads(text)
    differences = list(_differences(before, now))
    if differences:
        listed = "\n  ".join(differences)
        raise SettingsError(
            f"{folder} has results of other settings; choose another folder, or remove it:\n"
            f"  {listed}"
        )


def replace(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        _write(temporary, content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(folder: Path) -> list[Any]:
    """Returns all whole records in a folder, in no particular order."""
    return [
        record
        for path in sorted(folder.glob("records-*.jsonl"))
        for _, record in _records(path.read_bytes())
    ]


class Shard:
    """The file of records of one process, open for appending.

    Use it in a `with` statement: while it is open, no other process may open it.
    """

    def __init__(self, folder: Path, process: int, processes: int) -> None:
        """Opens the file, and cuts off what an earlier process left unfinished.

        Args:
          folder: Where, see `agree`.
          process: Number of this process, from 0.
          processes: How many share the work.

        Raises:
          BlockingIOError: Another process has it open.
          OSError: It cannot be written to.
        """
        self._file = open(_path(folder, process, processes), "a+b")
        try:
            _lock(self._file)
            self._file.seek(0)
            whole = [end for end, _ in _records(self._file.read())]
            self._file.truncate(whole[-1] if whole else 0)
            _sync_folder(folder)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Any) -> None:
        """Writes a record; when this returns it is on the disk."""
        self._file.write(line(record))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Shard":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._file.close()


def is_open(folder: Path, process: int, processes: int) -> bool:
    """Returns whether a process has a file of records open: to ask before anything slow.

    Args:
      folder: Where.
      process: Number of the process, from 0.
      processes: How many share the work.

    Example:
      >>> is_open(Path("nowhere"), 0, 1)
      False
    """
    try:
        with open(_path(folder, process, processes), "rb") as file:
            _lock(file)
    except BlockingIOError:
        return True
    except OSError:  # not there, or not ours to read: whoever opens it is told
        return False
    return False


def line(record: Any) -> bytes:
    r"""Returns a record as a line of JSON with its checksum.

    Example:
      >>> line({"a": 1})
      b'{"crc32":"561bacaf","record":{"a":1}}\n'
    """
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return (_HEAD % zlib.crc32(body)).encode() + body + b"}\n"


def _path(folder: Path, process: int, processes: int) -> Path:
    return folder / f"records-{process + 1}-of-{processes}.jsonl"


def _records(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yields the whole records of a file, each with where its line ends."""
    end = 0
    for text in content.splitlines(keepends=True):
        end += len(text)
        body = text[len(_HEAD % 0) : -2]
        head = (_HEAD % zlib.crc32(body)).encode()
        if text.startswith(head) and text.endswith(b"}\n"):
            yield end, json.loads(body)


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            inner = f"{path}.{name}" if path else name
            yield from _differences(before.get(name), now.get(name), inner)
    elif before != now:
        yield f"{path}: {_short(before)} there, {_short(now)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _lock(file) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: there two processes of one number are the user's to avoid
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Makes sure that the name of a new file is on the disk as well."""
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
