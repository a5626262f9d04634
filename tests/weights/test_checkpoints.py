"""Which tensors of a checkpoint are the state dict, and under which names."""

import time

import numpy as np
import pytest

from jaxground.weights import WeightsError
from jaxground.weights.checkpoints import state_dict
from jaxground.weights.tensors import Storage, Tensor

F4 = np.dtype(np.float32)


def tensor(name="0"):
    return Tensor(Storage(name, 4, F4), 0, (1,), (1,), F4)


A, B = tensor("a"), tensor("b")


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"w": A, "b": B}, {"w": A, "b": B}),
        # Wrappers, alone or beside what training scripts keep there.
        ({"state_dict": {"w": A}}, {"w": A}),
        ({"model": {"w": A}, "optimizer": {"state": {"0": {"exp_avg": B}}}}, {"w": A}),
        ({"epoch": 3, "best": B, "state_dict": {"w": A}}, {"w": A}),
        ({"model": {"state_dict": {"w": A}}}, {"w": A}),
        # The order of preference is the documented one, not the file's.
        ({"model": {"w": B}, "state_dict": {"w": A}}, {"w": A}),
        # A wrapper without tensors is none.
        ({"model": {"depth": 3}, "net": {"w": A}}, {"w": A}),
        ({"model": {"depth": 3}, "w": A}, {"w": A}),
        # A layer called model is no wrapper.
        ({"model.w": A, "model.b": B}, {"model.w": A, "model.b": B}),
        # Unknown nesting is joined.
        ({"student": {"w": A}, "teacher": {"w": B}}, {"student.w": A, "teacher.w": B}),
        ({"ema": [A, {"w": B}]}, {"ema.0": A, "ema.1.w": B}),
        ([A, B], {"0": A, "1": B}),
        # Other values are dropped.
        ({"w": A, "step": 3, "name": "x", "none": None, "sizes": [1, 2]}, {"w": A}),
        # Prefixes, if all keys carry them.
        ({"module.w": A, "module.b": B}, {"w": A, "b": B}),
        ({"state_dict": {"_orig_mod.module.w": A}}, {"w": A}),
        ({"module.w": A, "b": B}, {"module.w": A, "b": B}),
        ({"module.w": A, "modules.b": B}, {"module.w": A, "modules.b": B}),
    ],
)
def test_finds_the_state_dict(checkpoint, expected):
    found = state_dict(checkpoint)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("checkpoint", [{}, [], None, 3, A, {"w": 1}, {"state_dict": {}}])
def test_refuses_what_has_no_tensors(checkpoint):
    with pytest.raises(WeightsError, match="expected a dict of tensors, found"):
        state_dict(checkpoint)


def test_refuses_two_tensors_of_one_name():
    with pytest.raises(WeightsError, match=r"^'a\.b': expected one tensor of this name"):
        state_dict({"a.b": A, "a": {"b": B}})


def cyclic():
    checkpoint = {"w": A}
    checkpoint["state_dict"] = checkpoint
    return checkpoint


def cyclic_list():
    inner = []
    inner.append(inner)
    return {"w": inner}


def exponential(leaf):
    for _ in range(30):
        leaf = [leaf, leaf]
    return {"model": leaf, "w": A}


def wide():
    inner = [[0]] * 10_000
    return {"state_dict": {"w": [inner] * 10_000}}


@pytest.mark.parametrize(
    "checkpoint",
    [cyclic(), cyclic_list(), exponential([]), exponential(A), wide()],
    ids=["cycle", "list in itself", "2^30 lists", "2^30 tensors", "10^8 lists"],
)
def test_does_not_walk_for_ever(checkpoint):
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"expected at most 262144 values in 32 levels"):
        state_dict(checkpoint)
    assert time.perf_counter() - start < 30
