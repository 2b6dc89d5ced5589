"""Tests of images padded to a square, the input of networks that pool object proposals."""

import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.data.images.preprocessing import (
    PADDING,
    ImageSettings,
    from_original,
    prepare,
    to_original,
    window,
)

SETTINGS = ImageSettings(32, "pad")
# Size (height, width) of an image and of its scaled version: short side 32, long side at most 48.
SIZES = {
    (60, 80): (32, 43),
    (80, 60): (43, 32),
    (50, 50): (32, 32),
    (8, 10): (32, 40),
    (64, 96): (32, 48),
    (64, 160): (19, 48),
    (160, 64): (48, 19),
    (1, 500): (1, 48),
    (500, 1): (48, 1),
    (1, 1): (32, 32),
    (2, 3): (32, 48),
}
every_size = pytest.mark.parametrize(("size", "scaled"), SIZES.items())


def noise(height, width):
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_the_side_is_one_and_a_half_times_the_size():
    assert SETTINGS.side == 48
    assert ImageSettings(300, "pad").side == 450
    assert ImageSettings(33, "pad").side == 50
    assert ImageSettings(32, "stretch").side == ImageSettings(32).side == 32


@every_size
def test_scaling_keeps_the_aspect_ratio_and_pads_the_rest(size, scaled):
    image = noise(*size)
    prepared = prepare(image, SETTINGS).numpy()
    assert prepared.shape == (48, 48, 3) and prepared.dtype == np.float32
    resized = tf.image.resize(image, scaled, method="bilinear", antialias=True)
    np.testing.assert_array_equal(prepared[: scaled[0], : scaled[1]], np.round(resized))
    rest = np.ones((48, 48), bool)
    rest[: scaled[0], : scaled[1]] = False
    np.testing.assert_array_equal(prepared[rest], np.tile(PADDING, (rest.sum(), 1)))
    assert (prepared == prepared.astype(np.uint8)).all(), "the cache stores uint8"
    ratio = (scaled[1] / size[1]) / (scaled[0] / size[0])
    assert abs(ratio - 1) < 0.5 / min(scaled) + 0.01 or min(size) == 1


@every_size
def test_the_window_is_the_inverse_of_the_scaling(size, scaled):
    seen = window(*size, SETTINGS).numpy()
    np.testing.assert_allclose(seen, [0, 0, 48 / scaled[1], 48 / scaled[0]], rtol=1e-6)
    whole = from_original(np.array([[0.0, 0.0, 1.0, 1.0]]), seen)
    np.testing.assert_allclose(whole * 48, [[0, 0, scaled[1], scaled[0]]], rtol=1e-6)
    assert whole.dtype == np.float32


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@every_size
def test_mapping_boxes_to_the_window_and_back_is_the_identity(size, scaled, fit):
    seen = window(*size, ImageSettings(32, fit)).numpy()
    boxes = np.sort(np.random.default_rng(0).random((20, 2, 2)), axis=1)
    there = from_original(boxes.reshape(20, 4), seen)
    np.testing.assert_allclose(to_original(there.reshape(20, 2, 2), seen), boxes, atol=1e-5)
    # By definition, a window's left edge is 0 and its right edge is 1.
    np.testing.assert_allclose(from_original(seen[None], seen), [[0, 0, 1, 1]], atol=1e-6)


def test_graph_mode_with_unknown_size_gives_the_same_result():
    graph = tf.function(
        lambda image: prepare(image, SETTINGS),
        [tf.TensorSpec((None, None, 3), tf.uint8)],
        autograph=False,
    )
    for size in SIZES:
        image = noise(*size)
        np.testing.assert_array_equal(graph(image), prepare(image, SETTINGS))
