"""What training measured: JSON lines, and events for TensorBoard."""

import contextlib
import fcntl
import json
import os
from pathlib import Path

import jax


class Records:
    """Measurements on disk, a line for each; only the first process of a program writes.

    Those after the step that training goes on from are dropped: they will be measured again.
    """

    def __init__(self, folder: Path, *, after: int, tensorboard: bool, write: bool = True):
        """Opens `folder/metrics.jsonl`, and with `tensorboard` a writer for each run."""
        self._file, self._writers = None, {}
        self._folder, self._tensorboard = folder, tensorboard
        if not write:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [r for r in read_records(path) if r["step"] <= after] if path.exists() else []
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a")

    def write(self, name: str, record: dict) -> None:
        """Adds one run's measurements at one step to the files, at once."""
        if self._file is None:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._tensorboard:
            if name not in self._writers:
                from tensorboardX import SummaryWriter

                folder = self._folder / "tensorboard" / name
                self._writers[name] = SummaryWriter(str(folder), purge_step=record["step"])
            for key, value in record.items():
                if isinstance(value, float):
                    self._writers[name].add_scalar(key, value, record["step"])
            self._writers[name].flush()

    def __enter__(self):
        """Returns itself."""
        return self

    def __exit__(self, *_):
        """Closes the files."""
        for file in (self._file, *self._writers.values()):
            if file is not None:
                file.close()


def read_records(path: Path) -> list[dict]:
    """Returns the records of a file of JSON lines; a last line cut off by a kill is none."""
    records = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records


def resume_records(path: Path) -> list[dict]:
    """Returns the records of a file that will be added to; a last line cut off is taken away."""
    records = read_records(path) if path.exists() else []
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records))
    return records


def write_whole(path: Path, text: str) -> None:
    """Writes a file of which nobody, killed or not, ever sees a part."""
    beside = path.with_suffix(".part")
    beside.write_text(text)
    os.replace(beside, path)


def claim(folder: Path, recipe: dict) -> None:
    """Makes a folder of runs of one recipe: all that a training that goes on must share.

    Raises:
      ValueError: It has runs of another recipe, whose checkpoints and results would be mixed in.
    """
    path, text = folder / "recipe.json", json.dumps(recipe, indent=1)
    if path.exists():
        there, here = json.loads(path.read_text()), json.loads(text)
        names = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))
        if names:
            changes = ", ".join(f"{n} {there.get(n)} there, {here.get(n)} now" for n in names)
            raise ValueError(f"{folder} has runs of another recipe: {changes}: give another folder")
    elif jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


@contextlib.contextmanager
def held(folder: Path):
    """Holds a folder for this program: a second one would write over its checkpoints.

    Raises:
      RuntimeError: Another program holds it. A program that ended or was killed holds nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"{folder}: another program is training there") from error
        yield
    finally:
        os.close(opened)
