"""`GridRegions` and `MeanRegion`: features, boxes and masks."""

import backends
import keras
import numpy as np
import pytest
from cases import normal
from keras import ops

from keras_aoa.layers import GridRegions, MeanRegion

maps = pytest.mark.parametrize("size", [(6, 6), (4, 7), (1, 1)])
strides = pytest.mark.parametrize("stride", [1, 2, 3])


def activations(rows, columns, features=5):
    return normal(2, rows, columns, features, dtype="float32")


def boxes_of(size, **arguments):
    (boxes,) = backends.to_numpy([GridRegions(**arguments)(activations(*size)).boxes])
    return boxes


@maps
@strides
def test_a_stride_keeps_every_nth_row_and_column(size, stride):
    values = activations(*size)
    expected = values[:, ::stride, ::stride].reshape(2, -1, 5)
    for regions in (GridRegions(stride)(values), GridRegions()(values, stride=stride)):
        features, mask = (ops.convert_to_numpy(part) for part in (regions.features, regions.mask))
        np.testing.assert_array_equal(features, expected)
        assert mask.shape == expected.shape[:2] and mask.dtype == bool and mask.all()


@maps
@strides
@pytest.mark.parametrize("block", [1, 3])
def test_box_corners_of_a_block_run_clockwise_from_the_top_left(size, stride, block):
    rows, columns = size
    expected = []
    for row in range(0, rows, stride):
        for column in range(0, columns, stride):
            left, top = column + 0.5 - block / 2, row + 0.5 - block / 2
            right, bottom = left + block, top + block
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            expected.append([(x / columns, y / rows) for x, y in corners])
    boxes = boxes_of(size, stride=stride, block=block)
    np.testing.assert_allclose(boxes, [expected, expected], 1e-6, 1e-7)
    assert (boxes.min() < 0) == (block > 1)


@maps
def test_boxes_tile_the_image(size):
    rows, columns = size
    boxes = boxes_of(size)[0].reshape(rows, columns, 4, 2)
    np.testing.assert_array_equal(boxes[:, :-1, 1], boxes[:, 1:, 0])
    np.testing.assert_array_equal(boxes[:-1, :, 3], boxes[1:, :, 0])
    np.testing.assert_array_equal(boxes[0, 0, 0], [0, 0])
    np.testing.assert_array_equal(boxes[-1, -1, 2], [1, 1])


def test_a_functional_model_accepts_maps_of_any_size():
    inputs = keras.Input((None, None, 5))
    symbolic = GridRegions(2)(inputs)
    model = keras.Model(inputs, list(symbolic))
    assert [tuple(part.shape) for part in symbolic] == [
        (None, None, 5),
        (None, None, 4, 2),
        (None, None),
    ]
    for size, count in (((6, 6), 9), ((5, 8), 12)):
        values = activations(*size)
        actual = model.predict(values, verbose=0)
        expected = GridRegions(2)(values)
        for part, other in zip(actual, expected, strict=True):
            assert part.shape[1] == count
            np.testing.assert_allclose(part, ops.convert_to_numpy(other), 1e-6)


def test_symbolic_shapes_and_dtypes_equal_the_eager_ones():
    for stride in (1, 2, 3):
        layer = GridRegions(stride)
        symbolic = layer(keras.Input((7, 4, 5), batch_size=2))
        values = layer(activations(7, 4))
        for part, value in zip(symbolic, values, strict=True):
            assert tuple(part.shape) == tuple(value.shape)
            assert part.dtype == keras.backend.standardize_dtype(value.dtype)


@maps
@strides
def test_the_mean_region_averages_the_grid_and_covers_the_whole_map(size, stride):
    values = normal(2, *size, 5)
    cells = [
        (row, column) for row, column in np.ndindex(size) if row % stride + column % stride == 0
    ]
    expected = [[sum(image[cell] for cell in cells) / len(cells)] for image in values]
    for regions in (
        MeanRegion(stride, dtype="float64")(values),
        MeanRegion(dtype="float64")(values, stride=stride),
    ):
        features, boxes, mask = (ops.convert_to_numpy(part) for part in regions)
        np.testing.assert_allclose(features, expected, 1e-12)
        np.testing.assert_array_equal(boxes, [[[(0, 0), (1, 0), (1, 1), (0, 1)]]] * 2)
        assert boxes.dtype == "float32"
        np.testing.assert_array_equal(mask, [[True], [True]])


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.004), ("float16", 0.0005)])
@pytest.mark.parametrize("policy", ["{}", "mixed_{}"])
def test_the_mean_region_is_accurate_in_half_precision(dtype, tolerance, policy):
    values = 1000 + 10 * activations(20, 20)
    features = MeanRegion(dtype=policy.format(dtype))(values).features
    assert keras.backend.standardize_dtype(features.dtype) == dtype
    (actual,) = backends.to_numpy([ops.cast(features, "float32")])
    np.testing.assert_allclose(actual[:, 0], values.mean(axis=(1, 2), dtype="float64"), tolerance)


def test_the_mean_region_accepts_maps_of_any_size_in_a_functional_model():
    inputs = keras.Input((None, None, 5))
    symbolic = MeanRegion(2)(inputs)
    assert [tuple(part.shape) for part in symbolic] == [(None, 1, 5), (None, 1, 4, 2), (None, 1)]
    model = keras.Model(inputs, list(symbolic))
    for size in ((6, 6), (5, 8)):
        values = activations(*size)
        features, boxes, mask = model.predict(values, verbose=0)
        np.testing.assert_allclose(features[:, 0], values[:, ::2, ::2].mean(axis=(1, 2)), 0, 1e-6)
        assert boxes.shape == (2, 1, 4, 2) and mask.all()
