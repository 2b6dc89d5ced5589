"""`TransformerRegions`: boxes, transforms, features and gradients."""

import backends
import keras
import numpy as np
import pytest
from backends import compiled
from cases import normal, randomize
from keras import ops
from test_resampling import NUMPY, borders, moved_points, numpy_of, sampled

from keras_aoa.layers import GridRegions, TransformerRegions
from keras_aoa.layers.resampling import anchor_centers, block_offsets, transformed

FILTER = normal(3, 3, 5, 4, seed=11), normal(4, seed=12)


def make(channels=5, dtype="float64", **arguments):
    layer = TransformerRegions(dtype=dtype, **arguments)
    layer.build((None, None, None, channels))
    return layer


def make_random(channels=5, dtype="float64", **arguments):
    """A layer with random weights and with transforms some cells away from the initial ones."""
    layer = make(channels, dtype, **arguments)
    initial = numpy_of(layer.localization.bias)
    randomize(layer).localization.bias.assign(initial + normal(*initial.shape, seed=7))
    return layer


def set_transform(layer, *rows):
    """Give every region the same transform for any map."""
    layer.localization.kernel.assign(np.zeros(layer.localization.kernel.shape))
    layer.localization.bias.assign(np.reshape(rows, -1))


def expected_transforms(named, activations, stride, rotation=True):
    """Transforms by definition: two convolutions of the unit-length map, region by region."""
    lengths = np.sqrt(np.maximum((activations**2).sum(axis=-1, keepdims=True), 1e-8))
    padded = np.pad(activations / lengths, [(0, 0), (1, 1), (1, 1), (0, 0)])
    images, rows, columns, _ = activations.shape
    result = np.zeros((images, -(-rows // stride), -(-columns // stride), 2, 3))
    for n, row, column in np.ndindex(result.shape[:3]):
        top, left = row * stride, column * stride
        patch = padded[n, top : top + 3, left : left + 3]
        hidden = np.einsum("ijf,ijfg->g", patch, named["hidden kernel"]) + named["hidden bias"]
        hidden = np.maximum(hidden, 0)
        numbers = hidden @ named["localization kernel"][0, 0] + named["localization bias"]
        if not rotation:
            a, x, d, y = numbers
            numbers = [a, 0, x, 0, d, y]
        result[n, row, column] = np.reshape(numbers, (2, 3))
    return result


def expected_features(named, activations, stride, border, rotation=True):
    transforms = expected_transforms(named, activations, stride, rotation)
    points = moved_points(transforms, stride, 3)
    patches = sampled(activations, points, border)
    patches = patches.reshape(len(activations), -1, 3, 3, activations.shape[-1])
    return np.einsum("nrijf,ijfg->nrg", patches, named["kernel"]) + named["bias"]


def variables(layer):
    """The layer's weights, by name."""
    return {
        "kernel": layer.kernel,
        "bias": layer.bias,
        "hidden kernel": layer.hidden.kernel,
        "hidden bias": layer.hidden.bias,
        "localization kernel": layer.localization.kernel,
        "localization bias": layer.localization.bias,
    }


def named_weights(layer):
    return {name: numpy_of(variable) for name, variable in variables(layer).items()}


@pytest.mark.parametrize(
    ("size", "stride"), [((6, 6), 1), ((6, 6), 2), ((5, 7), 2), ((5, 7), 3), ((1, 3), 2)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_identity_transforms_equal_the_grid_of_a_convolution(size, stride, dtype, tolerance):
    activations = normal(2, *size, 5, dtype=dtype)
    convolution = keras.layers.Conv2D(4, 3, padding="same", activation="relu", dtype=dtype)
    convolution.build(activations.shape)
    convolution.set_weights(FILTER)
    layer = make(dtype=dtype, stride=stride, anchor_scale=1, features=4, activation="relu")
    layer.set_filter(convolution.kernel, convolution.bias)
    expected = compiled(GridRegions(stride, 3, dtype=dtype))(compiled(convolution)(activations))
    actual = compiled(layer)(activations)
    assert 0.1 < np.mean(numpy_of(actual.features) > 0) < 0.9
    assert actual.features.dtype == expected.features.dtype
    features = numpy_of(actual.features)
    np.testing.assert_allclose(features, numpy_of(expected.features), 0, tolerance)
    np.testing.assert_allclose(numpy_of(actual.boxes), numpy_of(expected.boxes), 0, 1e-6)
    assert numpy_of(actual.mask).shape == features.shape[:2] and numpy_of(actual.mask).all()


def test_set_filter_without_bias_sets_the_bias_to_zeros():
    layer = make_random(features=4)
    layer.set_filter(FILTER[0])
    np.testing.assert_array_equal(numpy_of(layer.kernel), FILTER[0])
    np.testing.assert_array_equal(numpy_of(layer.bias), 0)


@borders
@pytest.mark.parametrize(
    ("size", "stride", "anchor_scale"), [((6, 6), 1, 0.7), ((5, 7), 2, 2), ((1, 4), 3, 1)]
)
def test_initial_features_equal_the_grid_of_the_map(border, size, stride, anchor_scale):
    activations = normal(2, *size, 5)
    expected = numpy_of(compiled(GridRegions(stride, dtype="float64"))(activations).features)
    options = {"anchor_scale": anchor_scale, "border": border}
    layer, other = make(stride=stride, **options), make(rotation=False, **options)
    for call in (layer, lambda values: other(values, stride=stride)):
        features = numpy_of(compiled(call)(activations).features)
        np.testing.assert_allclose(features, expected, 0, 1e-13)


@borders
@pytest.mark.parametrize("shift", [(2, 0), (0, -1), (-3, 2), (50, -60)])
def test_a_shift_by_whole_cells_slices_the_padded_map(border, shift):
    activations = normal(2, 5, 7, 5)
    layer = make(stride=2, border=border)
    set_transform(layer, [1, 0, shift[0]], [0, 1, shift[1]])
    padded = np.pad(activations, [(0, 0), (60, 60), (60, 60), (0, 0)], NUMPY[border])
    top, left = 60 + shift[1], 60 + shift[0]
    expected = padded[:, top : top + 5 : 2, left : left + 7 : 2].reshape(2, -1, 5)
    np.testing.assert_array_equal(numpy_of(compiled(layer)(activations).features), expected)


@pytest.mark.parametrize(
    ("border", "rotation", "stride"),
    [("zero", True, 1), ("replicate", True, 2), ("zero", False, 2)],
)
def test_transforms_and_features_match_the_definition(border, rotation, stride):
    activations = normal(2, 5, 4, 5)
    layer = make_random(
        stride=stride, border=border, rotation=rotation, features=4, localization_width=6
    )
    named = named_weights(layer)
    actual = numpy_of(compiled(layer.transforms)(activations))
    expected = expected_transforms(named, activations, stride, rotation)
    assert expected[:, :, :, 0, 0].std() > 0.05
    np.testing.assert_allclose(actual, expected, 0, 1e-12)
    features = numpy_of(compiled(layer)(activations).features)
    expected = expected_features(named, activations, stride, border, rotation)
    np.testing.assert_allclose(features, expected, 0, 1e-12)


def test_boxes_are_upright_without_rotation():
    layer = make_random(rotation=False)
    transforms = numpy_of(compiled(layer.transforms)(normal(2, 5, 4, 5)))
    np.testing.assert_array_equal(transforms[..., 0, 1], 0)
    np.testing.assert_array_equal(transforms[..., 1, 0], 0)
    assert (transforms[..., [0, 0, 1, 1], [0, 2, 1, 2]].std(axis=(0, 1, 2)) > 0.05).all()
    boxes = numpy_of(compiled(layer)(normal(2, 5, 4, 5)).boxes)
    np.testing.assert_array_equal(boxes[:, :, 0, 1], boxes[:, :, 1, 1])
    np.testing.assert_array_equal(boxes[:, :, 1, 0], boxes[:, :, 2, 0])


@pytest.mark.parametrize("rotation", [True, False])
def test_gradients_of_the_map_and_every_weight_equal_central_differences(rotation):
    activations, stride = normal(2, 4, 3, 3), 2
    layer = make_random(3, stride=stride, rotation=rotation, features=2, localization_width=4)
    named = named_weights(layer)
    points = moved_points(expected_transforms(named, activations, stride, rotation), stride, 3)
    assert np.abs(points - np.round(points)).min() > 5e-4
    upstream = normal(2, 4, 2, seed=2)

    def loss(activations):
        return ops.sum(ops.multiply(upstream, layer(activations).features))

    def expected_loss(activations, *values):
        values = dict(zip(named, values, strict=True))
        actual = expected_features(values, activations, stride, "zero", rotation)
        return np.sum(upstream * actual)

    actual = backends.gradients(loss, [activations], variables(layer).values())
    assert all(np.abs(gradient).max() > 0.01 for gradient in actual)
    backends.assert_gradients(expected_loss, [activations, *named.values()], actual)


@pytest.mark.parametrize(
    ("border", "anchor_scale", "own_filter"),
    [("zero", 2.0, True), ("zero", 2.0, False), ("replicate", 2.0, False), ("zero", 1.0, False)],
)
def test_initial_transforms_receive_gradients(border, anchor_scale, own_filter):
    layer = make(border=border, anchor_scale=anchor_scale, features=4)
    if not own_filter:
        layer.set_filter(*FILTER)
    actual = backends.gradients(
        lambda activations: ops.sum(ops.sin(layer(activations).features)),
        [normal(2, 5, 4, 5)],
        variables(layer).values(),
    )
    activations, kernel, bias, *hidden, kernel_of_numbers, numbers = actual
    for gradient in (activations, kernel, bias, kernel_of_numbers):
        assert np.abs(gradient).max() > 0.1
    # With the center filter only a shift has an effect: rotating or scaling keeps the center.
    learnt = np.abs(numbers.reshape(2, 3)[:, 2:] if own_filter else numbers)
    assert (learnt > 0.01).all()
    assert all((gradient == 0).all() for gradient in hidden)


def rotation_matrix(degrees, scale=1.0):
    angle = np.deg2rad(degrees)
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        (np.eye(2), [(-1.5, -1.5), (1.5, -1.5), (1.5, 1.5), (-1.5, 1.5)]),
        (np.diag([2.0, 0.5]), [(-3, -0.75), (3, -0.75), (3, 0.75), (-3, 0.75)]),
        (rotation_matrix(90), [(1.5, -1.5), (1.5, 1.5), (-1.5, 1.5), (-1.5, -1.5)]),
        (rotation_matrix(45, np.sqrt(2)), [(0, -3), (3, 0), (0, 3), (-3, 0)]),
        (np.array([[1, 0.5], [0, 1]]), [(-2.25, -1.5), (0.75, -1.5), (2.25, 1.5), (-0.75, 1.5)]),
    ],
)
def test_boxes_are_affine_transforms_of_the_anchor_boxes(matrix, corners):
    layer = make(stride=2)
    shift = np.array([0.3, -2.1])
    set_transform(layer, [*matrix[0], shift[0]], [*matrix[1], shift[1]])
    expected = []
    for row, column in np.ndindex(3, 4):
        center = np.array([2 * column + 0.5, 2 * row + 0.5])
        expected.append((center + shift + corners) / [7, 5])
    boxes = numpy_of(compiled(layer)(normal(2, 5, 7, 5)).boxes)
    np.testing.assert_allclose(boxes, [expected, expected], 0, 1e-6)


def test_boxes_surround_the_sampled_points():
    layer, activations = make_random(stride=2), normal(2, 5, 7, 5)
    transforms = compiled(layer.transforms)(activations)
    points = moved_points(numpy_of(transforms), 2, 3).reshape(2, 12, 9, 2)
    flat = ops.reshape(transforms, (2, 12, 2, 3))
    offsets, centers = block_offsets(3, "float64"), anchor_centers(5, 7, 2, "float64")
    sampled_at = numpy_of(compiled(transformed)(offsets, centers, flat))
    np.testing.assert_allclose(sampled_at, points, 0, 1e-12)
    corners = numpy_of(compiled(layer)(activations).boxes) * [7, 5] - 0.5
    np.testing.assert_allclose(corners.mean(axis=2), points[:, :, 4], 0, 1e-5)
    arms = points[:, :, [0, 2, 8, 6]] - points[:, :, 4:5]  # end at cell centers, not at corners
    np.testing.assert_allclose(corners, points[:, :, 4:5] + 1.5 * arms, 0, 1e-5)


@pytest.mark.parametrize("rotation", [True, False])
def test_a_box_moved_to_a_bright_square_covers_exactly_the_square(rotation):
    activations = np.zeros((1, 8, 9, 1))
    activations[0, 4:7, 2:5] = 1
    layer = make(1, rotation=rotation)
    layer.set_filter(np.ones((3, 3, 1, 1)))
    shift = np.array([3 - 6, 5 - 1])  # from the cell in row 1, column 6 to the square's center
    rows = ([1, 0, shift[0]], [0, 1, shift[1]]) if rotation else ([1, shift[0]], [1, shift[1]])
    set_transform(layer, *rows)
    regions = compiled(layer)(activations)
    box = numpy_of(regions.boxes)[0, 1 * 9 + 6] * [9, 8]
    np.testing.assert_allclose(box, [(2, 4), (5, 4), (5, 7), (2, 7)], 0, 1e-5)
    features = numpy_of(regions.features)[0, :, 0]
    assert features[1 * 9 + 6] == 9 and np.sum(features == 9) == 1
    boxes = numpy_of(regions.boxes)[0] * [9, 8]
    overlaps = np.minimum(boxes[:, 2], [5, 7]) - np.maximum(boxes[:, 0], [2, 4])
    overlaps = np.maximum(overlaps, 0).prod(axis=-1)
    assert (overlaps == 0).sum() > 40
    np.testing.assert_allclose(features, overlaps, 0, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "policy"), [("bfloat16", "mixed_{}"), ("float16", "mixed_{}"), ("bfloat16", "{}")]
)
def test_half_precision_keeps_boxes_in_float32(dtype, policy):
    activations = numpy_of(ops.cast(normal(1, 3, 60, 2), dtype)).astype("float32")
    exact, layer = (make(2, kind) for kind in ("float32", policy.format(dtype)))
    for each in (exact, layer):
        set_transform(each, [1.2345, 0.1357, -0.4321], [0.2468, 0.8765, 0.1234])
    expected, actual = exact(activations), compiled(layer)(activations)
    dtypes = [keras.backend.standardize_dtype(part.dtype) for part in actual]
    assert dtypes == [dtype, "float32", "bool"]
    np.testing.assert_allclose(numpy_of(actual.boxes), numpy_of(expected.boxes), 0, 1e-7)
    features = numpy_of(ops.cast(actual.features, "float32"))
    tolerance = {"bfloat16": 0.02, "float16": 0.002}[dtype]
    np.testing.assert_allclose(features, numpy_of(expected.features), 0, tolerance)


def test_a_functional_model_accepts_maps_of_any_size():
    inputs = keras.Input((None, None, 5))
    layer = make_random(dtype="float32", stride=2, features=4)
    symbolic = layer(inputs)
    model = keras.Model(inputs, list(symbolic))
    shapes = [(None, None, 4), (None, None, 4, 2), (None, None)]
    assert [tuple(part.shape) for part in symbolic] == shapes
    for size in ((6, 6), (5, 8)):
        values = normal(2, *size, 5, dtype="float32")
        actual = model.predict(values, verbose=0)
        for part, other in zip(actual, compiled(layer)(values), strict=True):
            np.testing.assert_allclose(part, numpy_of(other), 0, 1e-5)
