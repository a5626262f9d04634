"""The wire format, against an encoder written from the specification."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxground.weights import WeightsError, protobuf
from jaxground.weights.protobuf import Budget


def varint(value):
    value %= 2**64
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def array(raw):
    return np.frombuffer(raw, np.uint8)


def parse(raw, budget=10**6):
    return [
        (f.number, f.wire, f.integer, f.payload.tobytes())
        for f in protobuf.fields(array(raw), Budget(budget))
    ]


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varints_round_trip(value, tail):
    raw = varint(value)
    assert protobuf.varint(array(raw + tail), 0) == (value, len(raw))


def encode(field):
    number, wire, value = field
    tag = varint(number << 3 | wire)
    if wire == 0:
        return tag + varint(value)
    if wire == 2:
        return tag + varint(len(value)) + value
    return b"".join(tag + item for item in value)


NUMBERS = st.integers(1, 2**20)
FIELD = st.one_of(
    st.tuples(NUMBERS, st.just(0), st.integers(0, 2**64 - 1)),
    st.tuples(NUMBERS, st.just(2), st.binary(max_size=300)),
    st.tuples(
        NUMBERS, st.just(5), st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=9)
    ),
    st.tuples(
        NUMBERS, st.just(1), st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=9)
    ),
)


@given(st.lists(FIELD, max_size=8))
def test_messages_round_trip(message):
    expected = []
    for number, wire, value in message:
        if wire in (1, 5):
            previous = expected[-1] if expected else (0, 0, 0, b"")
            if previous[:2] == (number, wire):  # two runs in a row are one
                expected[-1] = (*previous[:3], previous[3] + b"".join(value))
            else:
                expected.append((number, wire, 0, b"".join(value)))
        else:
            expected.append((number, wire, value if wire == 0 else 0, value if wire == 2 else b""))
    assert parse(b"".join(map(encode, message))) == expected


def test_a_long_run_is_one_field():
    values = np.arange(100_000, dtype="<f4")
    raw = b"".join(b"\x2d" + value.tobytes() for value in values)
    ((number, wire, _, payload),) = parse(raw, budget=1)
    assert (number, wire) == (5, 5)
    np.testing.assert_array_equal(np.frombuffer(payload, "<f4"), values)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08",
        b"\x08" + b"\x80" * 10,
        b"\x12\x05abc",
        b"\x12" + b"\xff" * 9 + b"\x01",
        b"\x2d\0\0\0",
        b"\x29\0\0\0\0\0\0\0",
        b"\x00\x01",
        b"\x0b\x0c",
        b"\x0e\x00",
        b"\x80",
    ],
    ids=[
        "no varint",
        "endless varint",
        "short bytes",
        "exabytes",
        "short float",
        "short double",
        "field 0",
        "groups",
        "wire type 6",
        "short tag",
    ],
)
def test_refuses_malformed_messages(raw):
    with pytest.raises(WeightsError, match="malformed message"):
        parse(raw)


def test_limits_the_number_of_fields():
    assert len(parse(b"\x08\x00" * 10, budget=10)) == 10
    with pytest.raises(WeightsError, match="at most 262144 fields, found more"):
        parse(b"\x08\x00" * 11, budget=10)
