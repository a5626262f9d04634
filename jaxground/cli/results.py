"""The three files of an explanation: where they go, whether they are there, how they are written.

A result is the raw map (`.npz`), the picture (`.png`) and the record (`.json`), written in this
order, each under a temporary name first. A record therefore means that all three are whole,
whatever happened to the process, and a map beside a picture means that the picture is ours.
"""

import collections
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jaxground.cli.errors import UserError

SUFFIXES = ".npz", ".png", ".json"


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
      todo: Path without suffix of the results of each photograph still to explain.
      finished: Likewise, of those that are explained already.
    """

    todo: dict[Path, Path]
    finished: dict[Path, Path]


def plan(
    photos: Sequence[Path],
    output: Path | None,
    name: str,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Plan:
    """Returns which photographs are to be explained, and where to.

    A result is called after its photograph and `name`. Photographs that would share a file, in
    this run or with the result of an earlier one, get a digest of their path besides.

    Args:
      photos: Paths of the photographs.
      output: Folder of the results; `None` puts each beside its photograph.
      name: What to call this explanation: the method and the targets.
      settings: What decides a result besides the photograph, as kept in the records.
      overwrite: Explain again what is finished.

    Raises:
      UserError: A folder is in the way, or a finished result was made with other settings.
    """
    folders = {photo: output or photo.parent for photo in photos}
    bases = {photo: f"{_slug(photo.stem, 80)}.{_slug(name, 120)}" for photo in photos}
    shared = collections.Counter((folders[photo], bases[photo]) for photo in photos)
    result = Plan({}, {})
    for photo in photos:
        stem = folders[photo] / bases[photo]
        record = _record(stem)
        others = record is not None and _source(record) != identity(photo)
        if shared[folders[photo], bases[photo]] > 1 or others:
            digest = hashlib.sha256(os.fsencode(identity(photo))).hexdigest()[:8]
            stem = stem.with_name(f"{stem.name}.{digest}")
            record = _record(stem)
        if record is None or overwrite:
            result.todo[photo] = stem
            continue
        _compare(stem, record.get("settings", {}), settings)
        result.finished[photo] = stem
    return result


def write(stem: Path, contents: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    """Writes the files of one result, each whole or not at all.

    Args:
      stem: Path of the files without suffix.
      contents: By suffix, what writes into an open file; the record comes last.
    """
    _path(stem, ".json").unlink(missing_ok=True)  # from here on the old result is not whole
    for suffix in contents:
        temporary = stem.with_name(f".jaxground-{secrets.token_hex(8)}{suffix}")
        try:
            with open(temporary, "xb") as file:
                contents[suffix](file)
            os.replace(temporary, _path(stem, suffix))
        finally:
            temporary.unlink(missing_ok=True)


def is_result(path: Path) -> bool:
    """Returns whether a picture is one of ours, not a photograph."""
    return path.suffix == ".png" and _path(path.with_suffix(""), ".npz").exists()


def identity(photo: Path) -> str:
    """Returns what the record of a photograph knows it by."""
    return str(photo.resolve())


def _path(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def try_folder(folder: Path) -> None:
    """Makes a folder and tries to write into it.

    Raises:
      UserError: One or the other fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(prefix=".jaxground-", dir=folder).close()
    except OSError as error:
        reason = (
            "a file is in the way" if folder.exists() and not folder.is_dir() else error.strerror
        )
        raise UserError(
            f"cannot write into {folder}: {reason}; choose another folder with --output"
        ) from error


def _record(stem: Path) -> dict[str, Any] | None:
    """Returns the record of a whole result, `None` where there is none."""
    for path in (_path(stem, suffix) for suffix in SUFFIXES):
        if path.is_dir():
            raise UserError(f"a folder is in the way: {path}; choose another --output")
        if not path.exists():
            return None
    try:
        record = json.loads(_path(stem, ".json").read_text("utf-8"))
    except ValueError:  # not ours, or damaged: explain again
        return None
    return record if isinstance(record, dict) else None


def _source(record: Mapping[str, Any]) -> str | None:
    """Returns the path of what a record is about, a photograph or a video."""
    found = record.get("photograph", record.get("video"))
    return found.get("path") if isinstance(found, dict) else None


def _compare(stem: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(
                f"{_path(stem, '.json')} was made with {name} {_show(before.get(name))}, "
                f"not {_show(value)}; give --overwrite, or another --output"
            )


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


def _slug(text: str, limit: int) -> str:
    """Returns a text as part of a file name: no separator, no odd character, not too many bytes."""
    safe = re.sub(r"[^\w.+-]+", "_", text)
    return safe.encode()[:limit].decode(errors="ignore") or "_"
