"""Bilinear resampling compared with SciPy, and `AffineResampling` of blocks of a map."""

import backends
import keras
import numpy as np
import pytest
from cases import normal
from keras import ops
from scipy import ndimage

from keras_aoa.layers import AffineResampling
from keras_aoa.layers.resampling import resample

SCIPY = {"zero": "grid-constant", "replicate": "nearest"}
NUMPY = {"zero": "constant", "replicate": "edge"}
STILL = np.array([[1.0, 0, 0], [0, 1, 0]])

borders = pytest.mark.parametrize("border", ["zero", "replicate"])
maps = pytest.mark.parametrize("size", [(5, 7), (4, 1), (1, 1)])
strides = pytest.mark.parametrize("stride", [1, 2, 3])


def sampled(activations, points, border):
    """Values by definition: maps `(n, rows, columns, f)` at points `(n, p, 2)`, (x, y) in cells."""
    images, _, _, features = activations.shape
    result = np.zeros((*points.shape[:2], features))
    for n, f in np.ndindex(images, features):
        y_and_x = points[n, :, ::-1].T
        result[n, :, f] = ndimage.map_coordinates(
            activations[n, :, :, f], y_and_x, order=1, mode=SCIPY[border]
        )
    return result


def moved_points(transforms, stride, block):
    """Transformed points of all blocks of each image, `(n, p, 2)`."""
    images, rows, columns = transforms.shape[:3]
    points = []
    for n, row, column in np.ndindex(images, rows, columns):
        for i, j in np.ndindex(block, block):
            offset = np.array([j - (block - 1) / 2, i - (block - 1) / 2])
            moved = transforms[n, row, column] @ [*offset, 1]
            points.append([moved[0] + column * stride, moved[1] + row * stride])
    return np.reshape(points, (images, -1, 2))


def random_transforms(images, rows, columns, seed=3):
    """Transforms that rotate, shear, scale and shift by some cells."""
    return STILL + 2 * normal(images, rows, columns, 2, 3, seed=seed)


def kept(size, stride):
    return tuple(-(-count // stride) for count in size)


def numpy_of(value):
    (array,) = backends.to_numpy([value])
    return array


def resampled(layer, activations, transforms, stride=1):
    return backends.compiled(lambda *values: layer(*values, stride=stride))(activations, transforms)


def random_points(rows, columns):
    """Points inside the map, just outside its border, on cell centers, and far outside."""
    random = np.random.default_rng(1)
    near = random.uniform(-2, [columns + 1, rows + 1], (2, 40, 2))
    on_cells = random.integers(-2, [columns + 2, rows + 2], (2, 40, 2))
    far = random.normal(size=(2, 20, 2)) * 10.0 ** random.integers(1, 9, (2, 20, 1))
    return np.concatenate([near, on_cells, far], axis=1)


@maps
@borders
def test_interpolation_equals_scipy_inside_and_outside_the_map(size, border):
    activations, points = normal(2, *size, 3), random_points(*size)
    actual = backends.compiled(lambda *values: resample(*values, border))(
        ops.convert_to_tensor(activations), ops.convert_to_tensor(points)
    )
    np.testing.assert_allclose(numpy_of(actual), sampled(activations, points, border), 0, 1e-12)


@borders
def test_gradients_between_cell_centers_equal_central_differences(border):
    activations, points = normal(2, 5, 7, 3), random_points(5, 7)
    points = points[np.newaxis, (np.abs(points % 1 - 0.5) < 0.45).all(axis=-1)]
    activations, upstream = activations[:1], normal(*points.shape[:2], 3, seed=2)

    def expected_loss(activations, points):
        return np.sum(upstream * sampled(activations, points, border))

    def loss(activations, points):
        return ops.sum(ops.multiply(upstream, resample(activations, points, border)))

    actual = backends.gradients(loss, [activations, points])
    inside = ((points > 0) & (points < [6, 4])).all(axis=-1)
    assert inside.sum() > 15 and (~inside).sum() > 15
    backends.assert_gradients(expected_loss, [activations, points], actual)


@borders
def test_the_derivative_on_a_cell_center_is_the_mean_of_the_one_sided_ones(border):
    activations = normal(1, 5, 7, 1)
    x, y = (part.reshape(-1) for part in np.meshgrid(np.arange(-3, 10), np.arange(-3, 8)))
    points = np.stack([x, y], axis=-1)[np.newaxis].astype("float64")
    _, actual = backends.gradients(
        lambda activations, points: ops.sum(resample(activations, points, border)),
        [activations, points],
    )
    around = np.pad(activations[0, :, :, 0], 4, NUMPY[border])
    expected = [
        (around[y + 4, x + 5] - around[y + 4, x + 3]) / 2,
        (around[y + 5, x + 4] - around[y + 3, x + 4]) / 2,
    ]
    np.testing.assert_allclose(actual[0], np.stack(expected, axis=-1), 0, 1e-12)
    assert np.abs(actual[0]).min(axis=-1).max() > 0.1


@borders
@strides
@pytest.mark.parametrize("block", [2, 3])
def test_blocks_are_resampled_at_their_transformed_points(border, stride, block):
    size = (5, 7)
    activations, transforms = normal(2, *size, 3), random_transforms(2, *kept(size, stride))
    layer = AffineResampling(block, border, dtype="float64")
    actual = numpy_of(resampled(layer, activations, transforms, stride))
    assert actual.shape == (2, *kept(size, stride), block, block, 3)
    expected = sampled(activations, moved_points(transforms, stride, block), border)
    np.testing.assert_allclose(actual, expected.reshape(actual.shape), 0, 1e-12)


@maps
@borders
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (-3, 2), (30, -40)])
def test_a_shift_by_whole_cells_slices_the_padded_map(size, border, stride, shift):
    activations = normal(2, *size, 3)
    transforms = np.broadcast_to(STILL, (2, *kept(size, stride), 2, 3)).copy()
    transforms[..., 2] = shift
    layer = AffineResampling(3, border, dtype="float64")
    actual = numpy_of(resampled(layer, activations, transforms, stride))
    margin = 45
    padded = np.pad(activations, [(0, 0), (margin,) * 2, (margin,) * 2, (0, 0)], NUMPY[border])
    for i, j in np.ndindex(3, 3):
        top, left = margin + shift[1] + i - 1, margin + shift[0] + j - 1
        expected = padded[:, top : top + size[0] : stride, left : left + size[1] : stride]
        np.testing.assert_array_equal(actual[:, :, :, i, j], expected)


@borders
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_maps_and_transforms_equal_central_differences(border, stride):
    size = (5, 4)
    activations, transforms = normal(2, *size, 3), random_transforms(2, *kept(size, stride))
    points = moved_points(transforms, stride, 3)
    assert np.abs(points - np.round(points)).min() > 5e-4
    upstream = normal(*points.shape[:2], 3, seed=2)
    layer = AffineResampling(3, border, dtype="float64")

    def loss(activations, transforms):
        actual = layer(activations, transforms, stride=stride)
        return ops.sum(ops.multiply(upstream, ops.reshape(actual, upstream.shape)))

    def expected_loss(activations, transforms):
        return np.sum(upstream * sampled(activations, moved_points(transforms, stride, 3), border))

    actual = backends.gradients(loss, [activations, transforms])
    assert (np.abs(actual[1]).max(axis=(0, 1, 2)) > 0.1).all()
    backends.assert_gradients(expected_loss, [activations, transforms], actual)


@pytest.mark.parametrize(
    ("dtype", "policy", "tolerance"),
    [("bfloat16", "mixed_{}", 0.02), ("float16", "mixed_{}", 0.002), ("bfloat16", "{}", 0.02)],
)
def test_half_precision_does_not_displace_points(dtype, policy, tolerance):
    activations = numpy_of(ops.cast(normal(1, 3, 60, 2), dtype))
    transforms = random_transforms(1, 3, 60)
    transforms[..., 0, 2] += np.linspace(30, -30, 60)  # bfloat16 resolves only eighths here
    actual = resampled(AffineResampling(dtype=policy.format(dtype)), activations, transforms)
    assert keras.backend.standardize_dtype(actual.dtype) == dtype
    expected = sampled(activations, moved_points(transforms, 1, 3), "zero")
    actual = numpy_of(ops.cast(actual, "float64"))
    np.testing.assert_allclose(actual, expected.reshape(actual.shape), 0, tolerance)


def test_a_functional_model_accepts_maps_of_any_size():
    inputs = [keras.Input((None, None, 2)), keras.Input((None, None, 2, 3))]
    symbolic = AffineResampling()(*inputs, stride=2)
    assert tuple(symbolic.shape) == (None, None, None, 3, 3, 2)
    model = keras.Model(inputs, symbolic)
    for size in ((4, 7), (5, 3)):
        values = [normal(2, *size, 2), random_transforms(2, *kept(size, 2))]
        values = [value.astype("float32") for value in values]
        expected = numpy_of(resampled(AffineResampling(), *values, 2))
        np.testing.assert_allclose(model.predict(values, verbose=0), expected, 0, 1e-5)
