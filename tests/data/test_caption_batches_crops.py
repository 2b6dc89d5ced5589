"""Tests of random crops of training images: their position, size and side effects."""

import cv2
import numpy as np
import pytest

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images
from keras_aoa.data.text.vocabulary import Vocabulary

SIZE, COUNT = 64, 24


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images in which red increases to the right and green downward, so color shows position."""
    folder = tmp_path_factory.mktemp("ramps")
    ramp = np.rint(np.linspace(0, 255, 128)).astype(np.uint8)
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:, :, 2], picture[:, :, 1] = ramp[None], ramp[:, None]
    cv2.imwrite(str(folder / "ramp.png"), picture)
    examples = [Example(n, str(folder / "ramp.png"), ("a ramp",)) for n in range(COUNT)]
    return Images("train", examples, ImageSettings(SIZE))


def batch_of(images, epoch=0, **settings):
    vocabulary = Vocabulary(["a", "ramp"])
    count = len(images.examples)
    batches = CaptionBatches(images, vocabulary, count, captions_per_image=1, **settings)
    (batch,) = batches.epoch(epoch).as_numpy_iterator()
    return batch


@pytest.mark.parametrize("flip", [False, True])
def test_the_window_maps_each_pixel_of_a_crop_to_the_image(images, flip):
    batch = batch_of(images, crop=0.3, flip=flip)
    assert batch["flipped"].any() == flip
    centers = (np.arange(SIZE) + 0.5) / SIZE
    inner = slice(4, -4)  # bilinear weights are cut off at the border
    for pixels, (x0, y0, x1, y1), flipped in zip(
        batch["images"], batch["window"], batch["flipped"], strict=True
    ):
        x = x0 + (1 - centers if flipped else centers) * (x1 - x0)
        y = y0 + centers * (y1 - y0)
        np.testing.assert_allclose(pixels[32, inner, 0] / 255, x[inner], atol=0.02)
        np.testing.assert_allclose(pixels[inner, 32, 1] / 255, y[inner], atol=0.02)


def test_crops_have_the_configured_area_and_cover_the_image(images):
    # More images instead of more epochs, because each epoch creates another dataset.
    many = Images("train", images.examples * 20, ImageSettings(16))
    windows = batch_of(many, crop=0.3)["window"]
    assert windows.min() >= 0
    assert windows.max() <= 1
    width, height = (windows[:, 2:] - windows[:, :2]).T
    area = width * height
    assert 0.2 < area.min() < 0.35
    assert area.max() > 0.9
    assert 0.5 < area.mean() < 0.75
    assert abs(windows.mean() - 0.5) < 0.03
    assert np.exp(-0.31) < (width / height).min() < 0.85
    assert 1.15 < (width / height).max() < np.exp(0.31)


def test_crops_keep_order_and_captions_and_differ_by_epoch(images):
    whole, cut = batch_of(images), batch_of(images, crop=0.5)
    np.testing.assert_array_equal(cut["index"], whole["index"])
    np.testing.assert_array_equal(cut["captions"], whole["captions"])
    np.testing.assert_array_equal(cut["window"], batch_of(images, crop=0.5)["window"])
    assert not np.array_equal(cut["window"], batch_of(images, crop=0.5, epoch=1)["window"])
    np.testing.assert_array_equal(whole["window"], np.tile([0, 0, 1, 1], (COUNT, 1)))
