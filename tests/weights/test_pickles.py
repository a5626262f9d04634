"""The machine must agree with Python's on plain data and refuse everything else, unexecuted."""

import os
import pickle
import pickletools
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_files import Call, Name, Raw, assemble, code

from jaxground.weights import WeightsError, pickles
from jaxground.weights.checkpoints import NAMES, storage

SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
PLAIN = st.recursive(
    SCALARS | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def load(program):
    return pickles.load(program, NAMES, persistent=storage)[0]


@given(PLAIN, st.integers(2, 5))
def test_agrees_with_python_on_plain_data(value, protocol):
    program = pickle.dumps(value, protocol)
    used = {opcode.name for opcode, _, _ in pickletools.genops(program)}
    if used & {"LONG4", "GLOBAL"}:  # protocol 2 has no bytes and calls _codecs.encode
        return
    assert load(program) == value


def test_agrees_on_shared_and_cyclic_values():
    inner = [1]
    shared = load(pickle.dumps([inner, inner], 2))
    assert shared[0] is shared[1]
    inner.append(inner)
    cyclic = load(pickle.dumps(inner, 2))
    assert cyclic[1] is cyclic


def test_reports_where_the_pickle_ends():
    program = pickle.dumps([1, 2], 2)
    assert pickles.load(b"junk" + program + b"tail", {}, persistent=str, start=4) == (
        [1, 2],
        4 + len(program),
    )


def test_reads_what_python_2_wrote():
    # Protocol 2 of Python 2.7: byte strings as keys, an OrderedDict as a list of pairs, a long.
    program = (
        b"\x80\x02ccollections\nOrderedDict\nq\x01]q\x02(]q\x03(U\x06weightq\x04K\x05e"
        b"]q\x05(U\x04biasq\x06\x8a\x01\x07ee\x85q\x07Rq\x08}q\x09U\x09_metadataq\x0aNsb."
    )
    assert load(program) == {"weight": 5, "bias": 7}


class Exploit:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.reduction = function, arguments

    def __reduce__(self):
        return self.reduction


def nested_reduce(command):
    """getattr(__import__('os'), 'system')(command)"""
    module = Call(Name("builtins", "__import__"), ("os",))
    return assemble(Call(Call(Name("builtins", "getattr"), (module, "system")), (command,)))


EXPLOITS = {
    "os.system": lambda command: pickle.dumps(Exploit(os.system, command), 2),
    "protocol 5": lambda command: pickle.dumps(Exploit(os.system, command), 5),
    "eval": lambda command: pickle.dumps(Exploit(eval, f"__import__('os').system({command!r})"), 2),
    "hidden in a dict": lambda command: pickle.dumps({"a": [Exploit(os.system, command)]}, 4),
    "nested REDUCE, getattr": nested_reduce,
    "STACK_GLOBAL": lambda command: assemble(Call(Name("posix", "system"), (command,)), 4),
    "INST": lambda command: b"\x80\x02(" + code(command) + b"ios\nsystem\n.",
    "OBJ": lambda command: b"\x80\x02(cos\nsystem\n" + code(command) + b"o.",
    "BUILD, __setstate__": lambda command: (
        b"\x80\x02cfunctools\npartial\ncos\nsystem\n\x85R"
        + b"(cos\nsystem\n"
        + code((command,))
        + b"}Ntb)R."
    ),
}


@pytest.mark.parametrize("name", EXPLOITS)
def test_executes_no_exploit_that_python_would(name, tmp_path):
    marker = tmp_path / "executed"
    program = EXPLOITS[name](f"touch {marker}")
    with pytest.raises(WeightsError, match="nothing was executed"):
        load(program)
    assert not marker.exists()
    pickle.loads(program)  # the exploit is real
    assert marker.exists()


ORDERED = code(Name("collections", "OrderedDict"))
MALFORMED = {
    "dotted name": assemble(Name("collections", "OrderedDict.__init__.__globals__"), 4),
    "torch.load itself": assemble(Call(Name("torch.serialization", "load"), ("x",))),
    "OBJ of a permitted class": b"\x80\x02(" + ORDERED + b"o.",
    "EXT1": b"\x80\x02\x82\x01.",
    "NEWOBJ": assemble(Raw(b"csubprocess\nPopen\n" + code((["true"],)) + b"\x81")),
    "PERSID": b"\x80\x02Pstorage\n.",
    "NEWOBJ_EX": b"\x80\x04" + ORDERED + b")}\x92.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "GET of protocol 0": b"\x80\x02g0\n.",
    "call of data": assemble(Call("os.system", ("true",))),
    "call of a dtype": assemble(Call(Name("torch", "float32"), ())),
    "call of a storage type": assemble(Call(Name("torch", "FloatStorage"), (1,))),
    "call of torch.Tensor": assemble(Call(Name("torch", "Tensor"), (1,))),
    "arguments that are no tuple": assemble(Call(Name("torch", "Size"), [1])),
    "BUILD on a function": b"\x80\x02" + code(Name("torch", "Size")) + b"}b.",
    "BUILD with slots": b"\x80\x02K\x01" + code((None, {"__code__": 1})) + b"b.",
    "BUILD of __setstate__ on data": b"\x80\x02]" + code({"__setstate__": 1}) + b"b.",
    "tuple as a key": assemble(Raw(b"}K\x01\x85K\x02s")),
    "items for a tuple": assemble(Raw(b")(K\x01K\x02u")),
    "items without partner": assemble(Raw(b"}(K\x01u")),
    "appends to a dict": assemble(Raw(b"}(K\x01e")),
    "pop below a mark": assemble(Raw(b"K\x01(\x85")),
    "no mark": assemble(Raw(b"K\x01t")),
    "empty stack": b"\x80\x02.",
    "memo of nothing": assemble(Raw(b"q\x01")),
    "unknown memo": assemble(Raw(b"h\x07")),
    "protocol 0": pickle.dumps({"a": 1.5}, 0),
    "protocol 6": b"\x80\x06N.",
    "no end": b"\x80\x02N",
    "unending name": b"\x80\x02c" + b"a" * 5000,
    "names that are no text": b"\x80\x04K\x01K\x02\x93.",
    "invalid UTF-8": b"\x80\x02X\x01\0\0\0\xff.",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "8 EiB of text": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b".",
    "16 EiB of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b".",
    "frame beyond the end": b"\x80\x04\x95" + b"\xff" * 7,
    "persistent id that is no storage": assemble(Raw(b"K\x01Q")),
}


@pytest.mark.parametrize("program", MALFORMED.values(), ids=MALFORMED)
def test_refuses(program):
    with pytest.raises(WeightsError, match=r"pickle|expected"):
        load(program)


def test_a_refusal_names_the_global_and_the_remedy():
    with pytest.raises(WeightsError) as caught:
        load(pickle.dumps(Exploit(os.system, "true"), 2))
    assert str(caught.value) == (
        "the pickle names posix.system, which is no part of a state dict; nothing was executed "
        "(if you trust the file, load it in torch and save `model.state_dict()` alone)"
    )


def test_states_change_nothing():
    """BUILD must not reach the records of the table, which all files share."""
    before = dict(NAMES)
    for name in NAMES:
        try:
            load(assemble(Raw(code(Name(*name)) + code({"build": 1, "dtype": 2}) + b"b")))
        except WeightsError:
            pass
    assert before == NAMES


def levels(count):
    """A tuple that holds a tuple twice, which holds a tuple twice ...: 2^count leaves."""
    return b"K\x01" + b"q\x00h\x00\x86" * count


BOMBS = {
    # Hashing or printing the value would take 2^60 steps.
    "exponential tuple as a key": b"\x80\x02}" + levels(60) + b"K\x01s.",
    "exponential tuple as a name": b"\x80\x04" + levels(60) + b"K\x01\x93.",
    "exponential tuple as an id": b"\x80\x02" + levels(60) + b"Q.",
    "exponential tuple called": b"\x80\x02" + levels(60) + b")R.",
    "memo index 4 billion": b"\x80\x02Nr\xff\xff\xff\xff\x85R.",
    "one list copied often": (
        b"\x80\x02("
        + ORDERED
        + b"q\x00]("
        + code(("a", 1)) * 5_000
        + b"e\x85q\x01R"
        + b"h\x00h\x01R" * 5_000
        + b"K\x01s."
    ),
}


@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS)
def test_defuses(program):
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(WeightsError):
        load(program)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 30
    assert peak < 2**26


def test_limits_the_instructions(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 1000)
    assert load(b"\x80\x02" + b"N" * 998 + b".") is None
    with pytest.raises(WeightsError, match="at most 1000 instructions"):
        load(b"\x80\x02" + b"N" * 999 + b".")


def test_survives_every_flipped_byte():
    program = pickle.dumps({"epoch": 3, "names": ["a", "b"], "loss": (0.5, None, b"x")}, 4)
    for index in range(len(program)):
        for mask in (1, 0x80, 0xFF):
            flipped = bytearray(program)
            flipped[index] ^= mask
            try:
                load(bytes(flipped))
            except WeightsError:
                pass


OPERANDS = st.binary(max_size=9)


@given(st.lists(st.tuples(st.sampled_from(pickletools.opcodes), OPERANDS), max_size=40))
def test_survives_any_sequence_of_opcodes(program):
    code = b"".join(opcode.code.encode("latin-1") + operand for opcode, operand in program)
    try:
        load(code)
    except WeightsError:
        pass
