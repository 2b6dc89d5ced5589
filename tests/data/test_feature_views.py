"""Cached features of several views of each image: their pixels, choice, size and settings."""

import collections
import types

import numpy as np
import pytest
import tensorflow as tf
from test_features import COUNT, Network, files

from keras_aoa.data import features as module
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.features import SHARD, ImageFeatures
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError

SIDE, VIEWS = 32, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Noise images whose captions mention no sides, so all may be mirrored."""
    folder, random, examples = tmp_path_factory.mktemp("noise"), np.random.default_rng(0), []
    for number in range(COUNT):
        path = folder / f"{number}.png"
        pixels = tf.constant(random.integers(0, 256, (SIDE, SIDE, 3)), tf.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
        examples.append(Example(number, str(path), (f"image {number}",)))
    return Images("train", examples, ImageSettings(SIDE))


def batches_of(images, seed=3):
    vocabulary = Vocabulary.from_captions(["image"], 1)
    return CaptionBatches(images, vocabulary, COUNT, 1, flip=True, crop=0.4, seed=seed)


@pytest.fixture(scope="module")
def cached(images, tmp_path_factory):
    """Batches of cached features, and the views."""
    batches = batches_of(images)
    views = batches.fixed_views(VIEWS)
    kept = files(tmp_path_factory.mktemp("kept"), "bfloat16")
    batches.set_source(ImageFeatures(images, kept, Network(), batches.mirrored_indices, views))
    return batches, views


def test_features_are_those_of_the_pixels_in_the_window(images, cached):
    batches, views = cached
    used = collections.Counter()
    for epoch in range(8):
        (batch,) = batches.epoch(epoch)
        assert not {"crop", "view"} & set(batch)
        columns = {name: batch[name].numpy() for name in ("index", "flipped")}
        (pixels,) = images.batches(columns | {"crop": batch["window"].numpy()}, COUNT)
        whole = tf.reduce_all(batch["window"] == [0.0, 0, 1, 1], axis=1)
        (uncut,) = images.batches(columns, COUNT)
        seen = tf.where(whole[:, None, None, None], uncut["images"], pixels["images"])
        for name, expected in Network()({"images": seen}).items():
            np.testing.assert_allclose(batch["features"][name], expected, rtol=2**-7)
        for index, window in zip(columns["index"], batch["window"].numpy(), strict=True):
            (view,) = np.flatnonzero((np.abs(views[:, index] - window) < 1e-6).all(axis=1))
            used[int(view)] += 1
    assert set(used) == set(range(VIEWS))
    assert min(used.values()) > COUNT


def test_the_first_view_is_the_whole_image_and_views_do_not_depend_on_the_seed(images):
    views = batches_of(images).fixed_views(VIEWS)
    assert views.shape == (VIEWS, COUNT, 4)
    np.testing.assert_array_equal(views[0], np.tile([0, 0, 1, 1], (COUNT, 1)))
    assert len(np.unique(views[1:].reshape(-1, 4), axis=0)) == (VIEWS - 1) * COUNT
    np.testing.assert_array_equal(views, batches_of(images, seed=4).fixed_views(VIEWS))
    np.testing.assert_array_equal(views[:2], batches_of(images).fixed_views(2))


def test_pixels_follow_the_features_with_new_crops_in_each_epoch(images, cached):
    batches, views = cached
    features = batches._images
    batches.set_source(images)
    (batch,) = batches.epoch(0)
    batches.set_source(features)
    windows = batch["window"].numpy()
    assert not (np.abs(views[:, batch["index"].numpy()] - windows) < 1e-6).all(axis=2).any()


def test_the_size_of_large_features_is_printed_first_and_must_fit(
    images, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(module, "SHARD", 4)
    batches = batches_of(images)
    mirrored, views = batches.mirrored_indices, batches.fixed_views(VIEWS)
    kept = files(tmp_path, "bfloat16")
    network = Network()

    def image_bytes():
        assert not network.calls
        return 10**9

    usage = types.SimpleNamespace(free=10**9)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=rf"expected {6 * COUNT}\.0 GB of free .* received 1\.0 GB"):
        ImageFeatures(images, kept, network, mirrored, views, image_bytes)
    usage.free = 10**12
    ImageFeatures(images, kept, network, mirrored, views, image_bytes)
    assert f"caching features of {6 * COUNT} images, {6 * COUNT}.0 GB" in capsys.readouterr().out
    ImageFeatures(images, kept, network, mirrored, views, lambda: pytest.fail("nothing is missing"))
    assert SHARD > 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_cache": "float16", "crop": 0.5}, "cached_views, crop: .* received 1 views"),
        ({"feature_cache": "float16", "cached_views": 2}, r"received 2 views and crop 1\.0"),
        ({"crop": 0.5, "cached_views": 2}, "cached_views: needs a feature cache"),
        ({"feature_cache": "float16", "cached_views": 0}, "cached_views: expected at least 1"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Configuration(**changes)
    Configuration(feature_cache="float16", crop=0.5, cached_views=4)
