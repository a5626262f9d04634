"""Caffe models of both generations, encoded here from caffe.proto; and anything but."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_protobuf import varint

from jaxground import weights
from jaxground.weights import WeightsError

FLOAT = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)


def number(field, value):
    return varint(field << 3) + varint(value)


def part(field, raw):
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def blob(array, *, legacy=False, packed=True, diff=False):
    """A BlobProto: fields 1-4 or 7 for the shape, 5 or 8 for the data, 6 for the gradient."""
    if legacy:
        sizes = [1] * (4 - array.ndim) + list(array.shape)
        raw = b"".join(number(field, size) for field, size in enumerate(sizes, 1))
    elif packed:
        raw = part(7, part(1, b"".join(map(varint, array.shape))))
    else:
        raw = part(7, b"".join(number(1, size) for size in array.shape))
    field, wire = (8, 1) if array.dtype == np.float64 else (5, 5)
    if packed:
        raw += part(field, array.tobytes())
    else:
        raw += b"".join(varint(field << 3 | wire) + value.tobytes() for value in array.reshape(-1))
    return raw + (part(6, array.astype(np.float32).tobytes()) if diff else b"")


def layer(name, *blobs, v1=False, kind="Convolution"):
    """A LayerParameter or a V1LayerParameter, as a field of the network."""
    if v1:
        return part(2, part(4, name.encode()) + number(5, 4) + b"".join(part(6, b) for b in blobs))
    raw = part(1, name.encode()) + part(2, kind.encode()) + part(3, b"data") + part(4, b"out")
    raw += varint(5 << 3 | 5) + bytes(4)  # loss_weight
    return part(100, raw + b"".join(part(7, b) for b in blobs))


def network(*layers):
    return part(1, b"net") + b"".join(layers)


@pytest.fixture
def read(tmp_path):
    def function(raw):
        (tmp_path / "net.caffemodel").write_bytes(raw)
        return weights.read(tmp_path / "net.caffemodel")

    return function


def test_reads_layers_by_name_and_index(read):
    found = read(
        network(
            layer("data", kind="Data"),
            layer("conv1/7x7_s2", blob(FLOAT, diff=True), blob(FLOAT[:, 0, 0, 0])),
            layer("relu1", kind="ReLU"),
            layer("scale", blob(np.array([0.5], np.float32))),
        )
    )
    assert list(found) == ["conv1/7x7_s2/0", "conv1/7x7_s2/1", "scale/0"]
    np.testing.assert_array_equal(found["conv1/7x7_s2/0"], FLOAT, strict=True)
    np.testing.assert_array_equal(found["conv1/7x7_s2/1"], FLOAT[:, 0, 0, 0], strict=True)
    assert not found["scale/0"].flags.writeable


def test_legacy_shapes_stay_four_dimensional(read):
    found = read(network(layer("fc6", blob(FLOAT[0, 0], legacy=True), v1=True)))
    np.testing.assert_array_equal(found["fc6/0"], FLOAT[0, 0][None, None], strict=True)


def test_legacy_shapes_and_doubles_win_as_in_caffe(read):
    both = part(7, part(1, varint(2))) + blob(np.ones((1, 2)), legacy=True)
    both += part(5, np.float32(7).tobytes() * 2)
    np.testing.assert_array_equal(
        read(network(layer("a", both)))["a/0"], np.ones((1, 1, 1, 2)), strict=True
    )


ARRAYS = st.builds(
    lambda shape, double: (
        np.random.default_rng(1).normal(size=shape).astype("<f8" if double else "<f4")
    ),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.tuples(
            st.lists(st.tuples(ARRAYS, st.booleans(), st.booleans()), max_size=3), st.booleans()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_networks_round_trip(read, layers):
    expected, raw = {}, []
    for name, (blobs, v1) in layers.items():
        encoded = []
        for index, (array, legacy, packed) in enumerate(blobs):
            shape = (1,) * (4 - array.ndim) + array.shape if legacy else array.shape
            expected[f"{name}/{index}"] = array.reshape(shape)
            encoded.append(blob(array, legacy=legacy, packed=packed))
        raw.append(layer(name, *encoded, v1=v1))
    if not expected:
        return
    found = read(network(*raw))
    assert list(found) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].shape == array.shape


HOSTILE = {
    "shape of terabytes": blob(FLOAT).replace(
        part(7, part(1, bytes([4, 3, 2, 2]))), part(7, part(1, varint(2**39)))
    ),
    "product wraps": part(7, part(1, varint(2**39) * 2)) + part(5, FLOAT.tobytes()),
    "negative size": part(7, part(1, varint(-1) + varint(-48))) + part(5, FLOAT.tobytes()),
    "negative legacy size": number(1, -1) + part(5, FLOAT.tobytes()),
    "zero times a negative size": part(7, part(1, varint(0) + varint(-1))),
    "zero times a negative legacy size": number(1, 0) + number(2, -1),
    "33 sizes": part(7, part(1, b"\x01" * 33)) + part(5, FLOAT[0, 0, 0, :1].tobytes()),
    "too few data": part(7, part(1, b"\x31")) + part(5, FLOAT.tobytes()),
    "too many data": part(7, part(1, b"\x2f")) + part(5, FLOAT.tobytes()),
    "no shape": part(5, FLOAT.tobytes()),
    "no data": part(7, part(1, b"\x30")),
    "a fraction of a float": part(7, part(1, b"\x01")) + part(5, b"abc"),
    "data that are an integer": part(7, part(1, b"\x01")) + number(5, 7),
    "one legacy size of four": number(1, 48) + part(5, FLOAT.tobytes()),
    "endless size": part(7, part(1, b"\xff" * 11)) + part(5, FLOAT.tobytes()),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("v1", [False, True])
def test_refuses_hostile_blobs(read, raw, v1):
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"net\.caffemodel: 'conv/0': (expected|malformed)"):
        read(network(layer("conv", raw, v1=v1)))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_refuses_layers_of_2013(read):
    with pytest.raises(WeightsError, match="upgrade_net_proto_binary"):
        read(network(part(2, part(1, part(1, b"conv1")))))


def test_refuses_a_layer_twice(read):
    one = layer("fc", blob(FLOAT))
    with pytest.raises(WeightsError, match="'fc/0': expected one layer of this name"):
        read(network(one, one))


def test_refuses_an_untrained_network(read):
    with pytest.raises(WeightsError, match="expected layers with blobs, found none"):
        read(network(layer("conv1"), layer("conv2", v1=True)))


def test_refuses_names_that_are_no_text(read):
    with pytest.raises(WeightsError, match="expected the name of a layer"):
        read(network(part(100, part(1, b"\xff") + part(7, blob(FLOAT)))))


def test_gives_up_on_tiny_fields_in_seconds(read):
    """Runs of one float between other fields, the slowest to parse, end by the budget."""
    start = time.perf_counter()
    tiny = varint(5 << 3 | 5) + bytes(4) + number(1, 1)
    with pytest.raises(WeightsError, match="at most 262144 fields"):
        read(network(layer("conv", tiny * 150_000)))
    assert time.perf_counter() - start < 60


def test_survives_every_flipped_byte_and_truncation(read):
    raw = network(
        layer("conv", blob(FLOAT[0]), blob(FLOAT[0, 0, 0], legacy=True)),
        layer("fc", blob(FLOAT[0, 0].astype(np.float64), packed=False), v1=True),
    )
    errors = 0
    for index in range(len(raw)):
        for changed in (1, 0x80, 0xFF):
            flipped = bytearray(raw)
            flipped[index] ^= changed
            try:
                assert sum(array.nbytes for array in read(flipped).values()) < 1000
            except WeightsError:
                errors += 1
    assert errors > len(raw) / 2
    for length in range(len(raw)):
        try:
            assert len(read(raw[:length])) < 3  # a whole layer may be missing, unnoticed
        except WeightsError:
            pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"\x0a", b"\x12", b"\xa2\x06", b"\x1a"]))
def test_survives_anything(read, raw, start):
    try:
        read(start + raw)
    except WeightsError:
        pass
