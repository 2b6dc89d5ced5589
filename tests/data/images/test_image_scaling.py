"""Tests of scaling and cropping, and of the window that maps input pixels to the image."""

import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.data.images.preprocessing import ImageSettings, prepare, to_original, window
from keras_aoa.utils.errors import UserError


def triangle_weights(length, size):
    """Return antialiased bilinear weights `(size, length)`: triangles two output pixels wide."""
    scale = max(length / size, 1)
    centers = (np.arange(size) + 0.5) * length / size
    distance = np.abs(np.arange(length) + 0.5 - centers[:, None]) / scale
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(50, 81), (90, 40), (32, 32), (9, 20)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_scaling_matches_its_definition(shape, fit):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    part = image
    if fit == "crop":
        side = min(shape)
        top, left = ((length - side) // 2 for length in shape)
        part = image[top : top + side, left : left + side]
    rows, columns = (triangle_weights(length, 32) for length in part.shape[:2])
    expected = np.einsum("yi,ijc,xj->yxc", rows, part, columns)
    np.testing.assert_allclose(prepare(image, ImageSettings(32, fit)), expected, atol=0.501)


def test_values_are_whole_numbers_from_0_to_255():
    picture = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
    prepared = prepare(picture, ImageSettings(33)).numpy()
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, prepared.astype(np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (3, 100000)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_extreme_shapes_work(shape, fit):
    prepared = prepare(np.full((*shape, 3), 77, np.uint8), ImageSettings(64, fit))
    np.testing.assert_array_equal(prepared, np.full((64, 64, 3), 77))
    x0, y0, x1, y1 = window(*shape, ImageSettings(64, fit)).numpy()
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


@pytest.mark.parametrize("shape", [(100, 151), (200, 64), (80, 80)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_window_maps_each_input_pixel_to_the_image(shape, fit):
    height, width = shape
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    image = np.stack([x, y, y], axis=2) * 255
    prepared = prepare(image.astype(np.float32), ImageSettings(32, fit)).numpy() / 255
    centers = (np.arange(32) + 0.5) / 32
    points = np.stack(np.meshgrid(centers, centers), axis=2)
    mapped = to_original(points, window(height, width, ImageSettings(32, fit)).numpy())
    inner = slice(2, -2)  # the triangle is cut off at the border
    np.testing.assert_allclose(mapped[inner, inner], prepared[inner, inner, :2], atol=0.005)


def test_window_of_crop_is_the_central_square():
    np.testing.assert_allclose(window(100, 200, ImageSettings()), [0.25, 0, 0.75, 1])
    np.testing.assert_allclose(window(300, 100, ImageSettings()), [0, 1 / 3, 1, 2 / 3])
    np.testing.assert_allclose(window(300, 100, ImageSettings(fit="stretch")), [0, 0, 1, 1])


def test_corners_map_equally_as_arrays_and_tensors_with_one_window_per_image():
    random = np.random.default_rng(2)
    corners, windows = random.random((2, 5, 4, 2)), random.random((2, 4))
    for kind in (np.asarray, tf.constant):
        mapped = to_original(kind(corners), kind(windows)[:, None, None])
        for i in range(2):
            np.testing.assert_allclose(mapped[i], to_original(corners[i], windows[i]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "image size: expected a whole number of pixels from 16 to 4096, received 0"),
        ({"size": 224.0}, r"received 224\.0"),
        ({"fit": "fill"}, "expected 'crop' or 'stretch' or 'pad', received 'fill'"),
    ],
)
def test_invalid_settings_are_rejected(arguments, message):
    with pytest.raises(UserError, match=message):
        ImageSettings(**arguments)
