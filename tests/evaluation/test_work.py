"""How the work is cut up: by data and settings alone, and so that there is something to share."""

import numpy as np
import pytest

from jaxground.data import Dataset, Example, Instance
from jaxground.evaluation import work

CLASSES = {"cat": (0,), "dog": (1,)}
PIXELS = np.zeros((4, 4, 3), np.uint8)


def photographs(count, sizes=((20, 30),)):
    cat = Instance("cat", (0.0, 0.0, 2.0, 2.0))
    examples = [
        Example(f"{i}", None, sizes[i % len(sizes)], (cat,), lambda: PIXELS) for i in range(count)
    ]
    return Dataset("pets", examples, ("cat", "dog"))


def rows(count, batch_size, **options):
    found = work.batches(photographs(count, **options), CLASSES, work.Fit(8), batch_size)
    assert [batch.number for batch in found] == list(range(len(found)))
    keys = [task.example.key for batch in found for task in batch.tasks]
    assert sorted(keys, key=int) == [str(i) for i in range(count)], "each once"
    assert all(len(batch.tasks) <= batch.length <= batch_size for batch in found)
    return [len(batch.tasks) for batch in found], {batch.length for batch in found}


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [
        (6, 8, [1] * 6),  # few: each for itself, so that six processes have work
        (10, 8, [2] * 5),
        (64, 8, [8] * 8),
        (65, 8, [8] * 8 + [1]),
        (66, 64, [9] * 7 + [3]),
        (33, 4, [4] * 8 + [1]),
    ],
)
def test_small_jobs_have_batches_to_share(count, batch_size, expected):
    found, lengths = rows(count, batch_size)
    assert found == expected
    assert len(lengths) == 1, "one program"


def test_batches_of_a_shape_are_equally_full():
    found, lengths = rows(27, 8, sizes=((20, 30), (20, 30), (30, 20)))
    assert found == [4, 4, 4, 4, 2, 3, 3, 3]  # eighteen wide ones, nine upright ones
    assert lengths == {3, 4}


def test_parts_are_all_of_it_whatever_their_number():
    found = work.batches(photographs(20), CLASSES, work.Fit(8), 8)
    for processes in (1, 3, 7, 12):
        parts = [work.share(found, process, processes) for process in range(processes)]
        assert [batch.number for part in parts for batch in part] == list(range(len(found)))
    assert all(work.share(found, process, 7) for process in range(7)), "none has nothing to do"


def test_batches_of_one_program_are_of_one_shape():
    found = work.batches(photographs(60, ((20, 30), (30, 20))), CLASSES, work.Fit(8), 5)
    shapes = {(batch.size, batch.length) for batch in found}
    assert len({batch.program for batch in found}) == len(shapes) == 2
