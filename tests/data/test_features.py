"""Tests of cached features: they equal the network's output, and training on them is equivalent."""

import contextlib
import dataclasses
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.features import SHARD, FeatureFiles, ImageFeatures
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.models import weights
from keras_aoa.training import epochs, preparation
from keras_aoa.training import loop as training
from keras_aoa.training.frozen import fingerprint, frozen_features
from keras_aoa.utils.errors import UserError

SIDE, COUNT = 16, 9


@pytest.fixture
def images(tmp_path):
    """Noise images and one unreadable file; no caption mentions sides, so all may be mirrored."""
    random, examples = np.random.default_rng(0), []
    for number in range(COUNT):
        path = tmp_path / f"{number}.png"
        pixels = tf.constant(random.integers(0, 256, (SIDE, SIDE, 3)), tf.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
        examples.append(Example(number, str(path), (f"image {number}",)))
    (tmp_path / "4.png").write_text("no picture")
    return Images("train", examples, ImageSettings(SIDE))


class Network:
    """Averages the pixels of 4 x 4 cells and of the image, and counts its calls."""

    def __init__(self, factor=1.0):
        self.calls, self.factor = 0, factor

    def __call__(self, batch):
        self.calls += 1
        cells = tf.nn.avg_pool2d(batch["images"], 4, 4, "VALID") * self.factor
        return {"map": cells, "vector": tf.reduce_mean(cells, (1, 2))}


def files(folder, dtype="float16", **settings):
    return FeatureFiles(folder, settings, dtype)


def batches_of(images, vocabulary, flip=True):
    return CaptionBatches(images, vocabulary, 4, 1, flip=flip, seed=3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_batches_contain_the_features_of_their_images(images, tmp_path, dtype, tolerance):
    network = Network()
    vocabulary = Vocabulary.from_captions(["image"], 1)
    with_pixels = batches_of(images, vocabulary)
    kept = files(tmp_path / "kept", dtype)
    features = ImageFeatures(images, kept, network, with_pixels.mirrored_indices)
    with_features = batches_of(features, vocabulary)
    mirrored = 0
    for epoch in range(3):
        pairs = zip(with_pixels.epoch(epoch), with_features.epoch(epoch), strict=True)
        for pixels, cached in pairs:
            expected = network(pixels)
            for name in ("captions", "index", "flipped", "window"):
                np.testing.assert_array_equal(cached[name], pixels[name])
            for name, values in expected.items():
                assert cached["features"][name].dtype == tf.float32
                np.testing.assert_allclose(cached["features"][name], values, rtol=tolerance)
            mirrored += int(tf.reduce_sum(tf.cast(pixels["flipped"], tf.int32)))
    assert 0 < mirrored < 3 * (COUNT - 1)


def test_evaluation_batches_contain_the_features_of_their_images(images, tmp_path):
    network = Network()
    features = ImageFeatures(images, files(tmp_path / "kept"), network)
    batches = image_batches(images, 3), image_batches(features, 3)
    # With autotuning, the end of a dataset waits for a thread that sleeps.
    assert all(each.options().autotune.enabled is False for each in batches)
    for pixels, cached in zip(*batches, strict=True):
        np.testing.assert_array_equal(cached["index"], pixels["index"])
        assert "images" not in cached
        np.testing.assert_allclose(cached["features"]["map"], network(pixels)["map"], rtol=2**-11)
    assert features.skipped == images.skipped


def test_reading_threads_parse_no_headers(images, tmp_path, monkeypatch):
    """The parser of the headers fails in several threads of some versions of Python."""
    features = ImageFeatures(images, files(tmp_path / "kept"), Network())

    def load(*_, **__):
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(np, "load", load)
    assert len(list(image_batches(features, 3))) == 3


def test_cached_features_are_not_computed_again(images, tmp_path):
    first, second = Network(), Network()
    ImageFeatures(images, files(tmp_path / "kept"), first, images.readable)
    assert first.calls == 2
    ImageFeatures(images, files(tmp_path / "kept"), second, images.readable)
    assert second.calls == 0


def test_another_network_or_dtype_uses_other_files(images, tmp_path):
    for settings in ({}, {"network": "b"}, {"network": "c"}):
        network = Network()
        ImageFeatures(images, files(tmp_path / "kept", **settings), network)
        assert network.calls == 1
    network = Network()
    ImageFeatures(images, files(tmp_path / "kept", "bfloat16"), network)
    assert network.calls == 1


def test_changed_images_and_missing_files_are_computed_again(images, tmp_path):
    ImageFeatures(images, files(tmp_path / "kept"), Network())
    changed = images.examples[0].path
    os.utime(changed, ns=(1, 1))
    network = Network()
    ImageFeatures(images, files(tmp_path / "kept"), network)
    assert network.calls == 1
    for file in (tmp_path / "kept").rglob("*-map.npy"):
        file.unlink()
    network = Network()
    ImageFeatures(images, files(tmp_path / "kept"), network)
    assert network.calls == 1


def test_interrupted_extraction_resumes(images, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_aoa.data.features.SHARD", 3)
    assert SHARD > 3

    class Broken(Network):
        def __call__(self, batch):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        ImageFeatures(images, files(tmp_path / "kept"), Broken())
    network = Network()
    features = ImageFeatures(images, files(tmp_path / "kept"), network)
    assert network.calls == 1
    for pixels, cached in zip(image_batches(images, 8), image_batches(features, 8), strict=True):
        np.testing.assert_allclose(cached["features"]["map"], Network()(pixels)["map"], rtol=2**-11)


def test_layers_of_one_network_use_different_files(squares_settings, squares, tmp_path):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(4, 3, strides=8, padding="same", name="conv_1")(pixels)
    second = keras.layers.Conv2D(4, 3, padding="same", name="conv_2")(first)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(second)
    keras.Model(pixels, [second, pooled]).save(tmp_path / "two.keras")
    settings = dataclasses.replace(
        squares_settings,
        output=str(tmp_path),
        backbone=str(tmp_path / "two.keras"),
        preprocessing="tf",
        vector_layer="pooled",
        feature_cache="float16",
    )
    folders = set()
    for layer in ("conv_1", "conv_2"):
        run, _, images, _ = preparation.prepare_run(
            dataclasses.replace(settings, map_layer=layer, name=layer), contextlib.ExitStack()
        )
        captioner = run.make_captioner()
        features = frozen_features(run, captioner, images)
        for pixels, cached in zip(
            image_batches(images, 4), image_batches(features, 4), strict=True
        ):
            expected = captioner.extract_features(pixels)["map"]
            np.testing.assert_allclose(cached["features"]["map"], expected, 1e-3, 1e-3)
        folders = set((tmp_path / "data").glob("features-*"))
    assert len(folders) == 2


def test_values_too_large_for_float16_are_rejected_by_feature_name(images, tmp_path):
    with pytest.raises(UserError, match="map of train has numbers too large for float16; set "):
        ImageFeatures(images, files(tmp_path / "kept"), Network(1e4))
    ImageFeatures(images, files(tmp_path / "kept", "bfloat16"), Network(1e4))


def test_damaged_files_are_computed_again_and_few_files_are_open(images, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_aoa.data.features.SHARD", 2)
    ImageFeatures(images, files(tmp_path / "kept"), Network())
    damaged = sorted((tmp_path / "kept").rglob("*-map.npy"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    network = Network()
    features = ImageFeatures(images, files(tmp_path / "kept"), network)
    assert network.calls == 1
    opened = len(os.listdir("/proc/self/fd"))
    list(image_batches(features, 3))
    assert len(os.listdir("/proc/self/fd")) <= opened + 8


def test_fingerprint_depends_on_weights_and_layers_but_not_on_names():
    def network(units=3, activation="relu"):
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, activation)])

    plain = fingerprint(network())
    assert fingerprint(network()) == plain
    assert len({plain, fingerprint(network(4)), fingerprint(network(activation="tanh"))}) == 3
    changed = network()
    changed.layers[0].bias.assign([0, 0, 1e-6])
    assert fingerprint(changed) != plain


@pytest.mark.parametrize(
    "run", [pytest.param("trained", marks=pytest.mark.slow), "trained_proposals"]
)
def test_training_on_features_equals_training_on_images(run, request, tmp_path, monkeypatch):
    on_images = request.getfixturevalue(run)  # before the patches, which must not change it
    # Tests in tests/training include the evaluation that follows a training.
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)
    caption_split, on_features = epochs.caption_split, []

    def caption_features(generator, images, *rest):
        if not isinstance(images, ImageFeatures):
            return {}  # `trained` and `trained_proposals` include captions of images
        on_features.append(caption_split(generator, images, *rest))
        return on_features[-1]

    monkeypatch.setattr(epochs, "caption_split", caption_features)
    monkeypatch.setattr(epochs, "validation_cider", lambda *_: 0.5)
    monkeypatch.setattr(epochs.TensorBoard, "validation", lambda *_: None)
    settings = dataclasses.replace(
        on_images.configuration, output=str(tmp_path), feature_cache="float16"
    )
    assert settings.rnn_epochs and settings.joint_epochs and settings.validate_every == 1
    assert on_images.configuration.feature_cache == "none"
    histories = []
    for each in (on_images, training.train(settings)):
        _, metadata = weights.load_arrays(each.last_file)
        histories.append([epoch["loss"] for epoch in metadata["progress"]["history"]])
    np.testing.assert_allclose(histories[1], histories[0], rtol=2e-3)
    assert histories[0][0] != histories[1][0]
    assert [len(captions) for captions in on_features] == [3]
    assert list((tmp_path / "data").glob("features-*/*-map.npy"))
