"""Maps against SciPy, Pillow and by-hand definitions that share no code with ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from jaxground import maps as M

# One program for a shape, not one for each of its operations.
resize = jax.jit(M.resize, static_argnums=1, static_argnames="method")
smooth = jax.jit(M.smooth, static_argnums=1)
normalise, peak = jax.jit(M.normalise), jax.jit(M.peak)
boxes = jax.jit(M.boxes, static_argnums=2)

FLOATS = st.floats(-5, 5, width=16)  # differences stay clear of float32 subnormals
MAPS = hnp.arrays(np.float32, st.sampled_from([(1, 5), (4, 3)]), elements=FLOATS)


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# resize -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(14, 14), (5, 7), (31, 9), (3, 40), (1, 1)])
def test_linear_resize_is_scipys_map_coordinates_at_half_pixel_centres(size):
    values = random_maps(6, 8)
    rows, columns = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, (6, 8), strict=True))
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = ndimage.map_coordinates(values, grid, order=1, mode="nearest")
    np.testing.assert_allclose(resize(values, size, method="linear"), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("method", "filter_"),
    [("linear", Image.Resampling.BILINEAR), ("cubic", Image.Resampling.BICUBIC)],
)
def test_enlarging_is_pillows_resize_inside(method, filter_):
    values = random_maps(7, 9)
    expected = np.asarray(Image.fromarray(values).resize((45, 56), filter_))
    inside = np.s_[16:-16, 10:-10]  # Pillow drops the neighbours beyond the border: leave it out
    ours = resize(values, (56, 45), method=method)
    np.testing.assert_allclose(ours[inside], expected[inside], atol=5e-6)


def keys_kernel(s):
    """Keys 1981, equation (8) with a = -1/2, written as the paper has it."""
    s = abs(s)
    if s < 1:
        return 1.5 * s**3 - 2.5 * s**2 + 1
    return -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0.0


@pytest.mark.parametrize("length", [3, 5, 6, 17])
def test_cubic_resize_is_the_keys_convolution_with_replicated_edges(length):
    values = random_maps(1, 5)[0]
    padded = np.pad(values.astype(np.float64), 10, mode="edge")
    centres = (np.arange(length) + 0.5) * 5 / length - 0.5
    expected = [sum(keys_kernel(c - k) * padded[k + 10] for k in range(-10, 15)) for c in centres]
    np.testing.assert_allclose(resize(values[None], (1, length))[0], expected, atol=2e-6)
    np.testing.assert_allclose(resize(values[:, None], (length, 1))[:, 0], expected, atol=2e-6)


@pytest.mark.parametrize("method", ["cubic", "linear"])
def test_resize_keeps_constants_flips_and_its_own_size(method):
    values = random_maps(2, 6, 5)
    np.testing.assert_array_equal(M.resize(values, (6, 5), method=method), values)
    big = resize(values, (13, 17), method=method)
    flipped = resize(values[:, ::-1, ::-1], (13, 17), method=method)
    np.testing.assert_allclose(flipped[:, ::-1, ::-1], big, atol=1e-6)
    flat = resize(jnp.full((4, 3), 2.5), (9, 9), method=method)
    np.testing.assert_allclose(flat, 2.5, rtol=1e-6)


def test_each_map_is_resized_to_its_own_picture():
    values = random_maps(3, 2, 6, 5)
    values[1, 1, 2, 3] = np.nan
    sizes = np.array([[9, 17], [13, 8], [30, 4]])
    found = np.asarray(jax.jit(M.resize_each, static_argnums=2)(values, sizes[:, None], (20, 17)))
    assert found.shape == (3, 2, 20, 17)
    for ours, maps, (height, width) in zip(found, values, sizes, strict=True):
        expected = resize(maps, (height, width))[:, :20]
        np.testing.assert_allclose(ours[:, :height, :width], expected, atol=1e-6)
        assert np.isnan(ours[:, height:]).all() and np.isnan(ours[:, :, width:]).all()
    assert np.isfinite(found[0, :, :9]).all()


def test_resize_batches_and_jits_and_differentiates():
    values = jnp.asarray(random_maps(2, 3, 4, 4))
    big = jax.jit(lambda v: M.resize(v, (8, 9)))(values)
    assert big.shape == (2, 3, 8, 9)
    np.testing.assert_allclose(big[1, 2], resize(values[1, 2], (8, 9)), atol=1e-6)
    total = jax.grad(lambda v: M.resize(v, (8, 8), method="linear").sum())
    gradient = jax.jit(total)(values[0, 0])
    np.testing.assert_allclose(gradient, 4.0, atol=1e-5)  # each pixel is read by four


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32, jnp.bool_, jnp.float16])
def test_narrow_maps_come_back_in_float32(dtype):
    values = jnp.asarray([[0, 1], [1, 0]], dtype)
    for result in (resize(values, (3, 3)), smooth(values), normalise(values)):
        assert result.dtype == jnp.float32
    assert peak(values).tolist() == [0, 1]
    assert boxes(np.asarray(values)[:1], 1.0).tolist() == [1, 0, 2, 1]


def test_nan_stays_near_where_it_was():
    values = random_maps(8, 8)
    values[0, 0] = np.nan
    assert np.isnan(resize(values, (16, 16))).sum() < 40
    assert np.isnan(smooth(values, 0.5)).sum() == 9  # radius two, kept at the corner
    assert np.isnan(normalise(values)).sum() == 1


# smooth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "sigma"), [((20, 31), 1.5), ((5, 40), 3.0), ((1, 1), 2.0)])
def test_smooth_is_scipys_gaussian_with_the_edge_replicated(shape, sigma):
    values = random_maps(2, *shape)
    expected = [
        ndimage.gaussian_filter(v.astype(np.float64), sigma, mode="nearest", truncate=4.0)
        for v in values
    ]
    np.testing.assert_allclose(smooth(values, sigma), expected, atol=2e-6)


def test_the_default_sigma_is_two_hundredths_of_the_longer_side():
    values = random_maps(50, 100)
    np.testing.assert_array_equal(M.smooth(values), M.smooth(values, 2.0))
    np.testing.assert_array_equal(M.smooth(values, 0), values)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_width_is_refused(sigma):
    with pytest.raises(ValueError, match="standard deviation in pixels"):
        M.smooth(jnp.ones((3, 3)), sigma)


# normalise, peak --------------------------------------------------------------------------------


@given(MAPS)
@settings(deadline=None, max_examples=30)
def test_normalised_maps_run_from_zero_to_one_and_keep_their_order(values):
    shown = np.asarray(normalise(values))
    if values.min() == values.max():
        assert (shown == 0).all()
        return
    assert shown.min() == 0
    assert 1 - 1e-6 < shown.max() <= 1
    assert shown.reshape(-1)[values.argmax()] == shown.max()
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(shown.reshape(-1)[order]) >= 0).all()


def test_normalise_leaves_nan_and_clips_infinities():
    shown = normalise(jnp.array([[jnp.nan, 0.0, 2.0, jnp.inf, -jnp.inf]]))
    np.testing.assert_array_equal(shown, [[np.nan, 0, 1, 1, 0]])
    assert np.isnan(normalise(jnp.full((2, 2), jnp.nan))).all()


@given(MAPS)
@settings(deadline=None, max_examples=30)
def test_peak_is_numpys_first_argmax(values):
    expected = np.unravel_index(np.argmax(values), values.shape)
    assert tuple(peak(values).tolist()) == tuple(int(i) for i in expected)


def test_peak_of_flat_nan_and_batched_maps():
    assert peak(jnp.zeros((3, 4))).tolist() == [0, 0]
    assert peak(jnp.full((3, 4), jnp.nan)).tolist() == [0, 0]
    assert peak(jnp.array([[jnp.nan, -3.0, -2.0]])).tolist() == [0, 2]
    assert jax.jit(M.peak)(jnp.asarray(random_maps(2, 3, 4, 5))).shape == (2, 3, 2)


# boxes ------------------------------------------------------------------------------------------


def box_by_hand(values, threshold, rule):
    """The three rules read aloud, one pixel at a time; half-open box of what is left."""
    flat = values.reshape(-1).astype(np.float64)
    kept = np.zeros(flat.shape, bool)
    if rule == "energy":
        total, so_far = flat.sum(), 0.0
        for index in sorted(range(len(flat)), key=lambda i: (-flat[i], i)):
            so_far += flat[index]
            if so_far >= threshold * total:
                break
            kept[index] = True
    elif rule == "mean":
        kept = flat >= threshold * flat.mean()
    else:
        kept = flat - flat.min() >= threshold * (flat.max() - flat.min())
    rows, columns = np.nonzero((kept & (flat > 0)).reshape(values.shape))
    if not len(rows):
        return [0, 0, values.shape[1], values.shape[0]]
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("rule", ["mean", "min_max", "energy"])
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.6, 0.95, 1.5])
def test_boxes_are_those_found_by_hand(rule, threshold):
    # Multiples of 1/8, few of them: sums are exact in float32 and ties are frequent.
    values = np.random.default_rng(3).integers(-4, 20, (40, 5, 6)).astype(np.float32) / 8
    values[:20] = np.maximum(values[:20], 0) ** 2
    found = boxes(values, threshold, rule)
    np.testing.assert_array_equal(found, [box_by_hand(v, threshold, rule) for v in values])


def test_the_pixel_that_crosses_the_energy_is_dropped():
    values = jnp.array([[4.0, 3.0, 2.0, 1.0]])
    assert boxes(values, 0.71, "energy").tolist() == [0, 0, 2, 1]
    assert boxes(values, 0.70, "energy").tolist() == [0, 0, 1, 1]  # 7 of 10 reaches 0.7
    assert boxes(values, 0.30, "energy").tolist() == [0, 0, 4, 1]  # nothing left


@pytest.mark.parametrize("rule", ["mean", "min_max", "energy"])
def test_empty_zero_constant_and_nan_maps_give_the_whole_picture(rule):
    for values in (np.zeros((3, 5)), np.full((3, 5), np.nan), -np.ones((3, 5))):
        assert boxes(values, 0.5, rule).tolist() == [0, 0, 5, 3]
    assert boxes(np.ones((3, 5)), 2.0, "mean").tolist() == [0, 0, 5, 3]


@pytest.mark.parametrize("rule", ["mean", "min_max", "energy"])
def test_nan_pixels_neither_enter_a_box_nor_move_the_threshold(rule):
    values = np.array([[0, 0, 0, 9, 5.0]], np.float32)
    holed = np.insert(values, 0, np.nan, axis=1)
    x0, _, x1, _ = boxes(values, 0.8, rule).tolist()
    assert boxes(holed, 0.8, rule).tolist() == [x0 + 1, 0, x1 + 1, 1]


def test_boxes_threshold_before_they_resize():
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    # Survivors spread by bilinear interpolation: half a cell on every side of the pixel's cell.
    assert M.boxes(values, 0.5, "min_max", size=(40, 80)).tolist() == [30, 5, 70, 25]
    everywhere = resize(values + 0.4, (40, 80), method="linear")
    assert boxes(everywhere, 0.9, "min_max").tolist() != [30, 5, 70, 25]


def test_boxes_are_those_of_the_resized_map_in_pictures_of_any_size():
    values = np.maximum(random_maps(4, 5, 6), 0)
    sizes = np.array([[5, 6], [17, 40], [100, 64], [4, 5]])
    found = jax.jit(lambda v, s: M.boxes(v, 2.5, "mean", size=s))(values, sizes)
    for box, kept, size in zip(found.tolist(), values, sizes.tolist(), strict=True):
        kept = np.where(kept >= 2.5 * kept.mean(), kept, 0)
        rows, columns = np.nonzero(np.asarray(resize(kept, tuple(size), method="linear")) > 0)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_batch_jit_and_take_a_threshold_per_map():
    values = jnp.abs(jnp.asarray(random_maps(3, 2, 6, 7)))
    thresholds = jnp.array([0.5, 1.5, 2.5])[:, None]
    found = jax.jit(M.boxes)(values, thresholds)
    assert found.shape == (3, 2, 4)
    assert found.dtype == jnp.int32
    for i, threshold in enumerate((0.5, 1.5, 2.5)):
        assert found[i, 1].tolist() == boxes(values[i, 1], threshold).tolist()
    one, many = (
        jax.make_jaxpr(lambda v: M.boxes(v, 0.5, "energy"))(v) for v in (values[:1], values)
    )
    assert len(one.eqns) == len(many.eqns)  # no loop over maps


# bad input --------------------------------------------------------------------------------------


def test_an_empty_batch_gives_empty_answers():
    none = jnp.zeros((0, 2, 4, 5))
    assert resize(none, (7, 8)).shape == (0, 2, 7, 8)
    assert smooth(none, 1.0).shape == normalise(none).shape == (0, 2, 4, 5)
    assert peak(none).shape == (0, 2, 2)
    for rule in ("mean", "min_max", "energy"):
        assert boxes(none, 0.5, rule).shape == (0, 2, 4)


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3, 0)])
def test_what_is_no_map_is_refused_with_its_shape(shape):
    for function in (M.normalise, M.peak, M.smooth, lambda m: M.boxes(m, 0.5)):
        with pytest.raises(ValueError, match=r"expected \[\.\.\., height, width\]"):
            function(jnp.zeros(shape))


def test_unknown_choices_name_the_known_ones():
    with pytest.raises(ValueError, match="rule is 'median': choose one of mean, min_max, energy"):
        M.boxes(jnp.ones((2, 2)), 0.5, "median")
    with pytest.raises(ValueError, match="method is 'spline': choose one of cubic, linear"):
        M.resize(jnp.ones((2, 2)), (3, 3), method="spline")
    with pytest.raises(ValueError, match="resized to 0x3"):
        M.resize(jnp.ones((2, 2)), (0, 3))
