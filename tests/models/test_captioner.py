"""Tests the captioner against its definition, trained with plain `fit`, saved, and at limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner

from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.layers import GridRegions
from keras_aoa.models.build import make_cell
from keras_aoa.models.captioner import Captioner
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import caption_loss, word_count

IMAGES = tiny.make_images(2)
CAPTIONS = np.array(
    [
        [[1, 4, 6, 7, 2], [1, 3, 2, 0, 0], [1, 2, 0, 0, 0]],
        [[1, 5, 5, 4, 6], [1, 7, 4, 2, 0], [0, 0, 0, 0, 0]],
    ],
    "int32",
)
INPUTS = {"images": IMAGES, "captions": CAPTIONS}
TWO_STEPS = {"images": IMAGES, "captions": CAPTIONS[:, :, :3]}
# Weights of the scores of regions. A choice of one region has no gradient without REINFORCE.
SCORES = ("hidden_region", "hidden_state", "hidden_bias", "score_hidden")
every_variant = pytest.mark.parametrize("variant", tiny.VARIANTS)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def copy_weights(source, target):
    """Copy all weights of a captioner to another, except the seed."""
    for weight, value in zip(target.weights, source.weights, strict=True):
        if weight is not target.seeds.state:
            weight.assign(value)
    return target


def gradients(captioner, inputs, training=False):
    """Return the loss and its gradients in all trainable weights."""
    with tf.GradientTape() as tape:
        loss = caption_loss(captioner(inputs, training=training), inputs["captions"])
    return loss, tape.gradient(loss, captioner.trainable_weights)


@pytest.mark.parametrize(
    ("variant", "image"),
    [
        *((variant, image) for variant in tiny.VARIANTS for image in ("state", "image_first")),
        *((variant, "image_each_step") for variant in ("baseline", "full", "soft")),
    ],
)
def test_log_probabilities_follow_the_definition_and_are_0_at_padding(variant, image):
    captioner = tiny.kept_captioner(variant, **({} if image == "state" else {image: True}))
    results = np.asarray(captioner(INPUTS))
    assert results.shape == (2, 3, 4)
    for image, captions, rows in zip(IMAGES, CAPTIONS, results, strict=True):
        reference = ReferenceCaptioner(captioner, image)
        for caption, log_probs in zip(captions, rows, strict=True):
            words = caption[1:][caption[1:] != PAD]
            expected = [reference.predict(words[:i])[0][word] for i, word in enumerate(words)]
            assert_close(log_probs[: len(words)], expected)
            assert (log_probs[len(words) :] == 0).all()
            assert (log_probs[: len(words)] < 0).all()


@every_variant
def test_training_and_search_compute_the_same_log_probabilities(variant):
    captioner = tiny.kept_captioner(variant)
    encoded = captioner.encode(IMAGES)
    in_training = np.asarray(captioner(INPUTS))
    state, attended = np.repeat(encoded.state, 3, axis=1), np.repeat(encoded.attended, 3, axis=1)
    for step in range(CAPTIONS.shape[2] - 1):
        fed, target = CAPTIONS[:, :, step], CAPTIONS[:, :, step + 1]
        state, attended, log_probs, region_probs = captioner.decode_step(
            tf.constant(fed), state, attended, encoded.memory
        )
        assert region_probs.shape == (2, 3, tiny.REGIONS)
        in_search = np.take_along_axis(np.asarray(log_probs), target[:, :, None], axis=2)[..., 0]
        is_word = target != PAD
        assert_close(in_training[:, :, step][is_word], in_search[is_word])


@pytest.fixture(scope="module")
def eight():
    """A captioner fitted to eight images, the images, one caption per image, and the losses."""
    random = np.random.default_rng(0)
    captions = np.full((8, 1, 6), PAD, "int32")
    for caption in captions[:, 0]:
        length = random.integers(3, 5)
        caption[: length + 2] = START, *random.integers(4, 20, length), STOP
    images = tiny.make_images(8, seed=5)
    keras.utils.set_random_seed(0)
    captioner = tiny.make_captioner(weights=None, words=20, units=24, embedding=16, features=12)
    captioner.compile(keras.optimizers.Adam(0.02))
    copies = {"images": np.tile(images, (20, 1, 1, 1)), "captions": np.tile(captions, (20, 1, 1))}
    history = captioner.fit(copies, batch_size=8, epochs=4, shuffle=False, verbose=0)
    return captioner, images, captions, history.history["loss"]


def test_fit_lowers_the_loss_and_reports_the_mean_over_words(eight):
    captioner, images, captions, losses = eight
    assert losses[-1] < 0.02 < 0.2 < losses[0]
    others = {"images": images[::-1], "captions": captions}
    log_probs = np.asarray(captioner(others))
    expected = -log_probs.sum() / (captions[:, :, 1:] != PAD).sum()
    assert expected > 1
    assert captioner.evaluate(others, batch_size=8, verbose=0) == pytest.approx(expected, 1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_fitted_captioner_repeats_its_training_captions_exactly(eight, beam):
    captioner, images, captions, _ = eight
    assert len({tuple(caption) for caption in captions[:, 0]}) == 8
    result = search(captioner, captioner.encode(images), beam=beam, max_words=5)
    np.testing.assert_array_equal(result.ids[:, 0], captions[:, 0, 1:])


def test_saving_and_loading_a_fitted_captioner_keeps_its_outputs_and_optimizer(eight, tmp_path):
    captioner, images, captions, _ = eight
    captioner.save(tmp_path / "captioner.keras")
    loaded = keras.models.load_model(tmp_path / "captioner.keras")
    inputs = {"images": images, "captions": captions}
    np.testing.assert_array_equal(loaded(inputs), captioner(inputs))
    assert int(loaded.optimizer.iterations) == int(captioner.optimizer.iterations) == 80


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("baseline", {"dropout": 0.4}),
        ("conditional", {"region_dropout": 0.3, "seed": 7}),
        ("full", {"image_first": True}),
        ("hard", {"seed": 5}),
        ("review", {}),
        ("baseline", {"image_each_step": True, "dropout": 0.4}),
        ("word_region", {"concepts": "attributes", "concept_count": 4}),
        ("soft", {"concepts": "topics", "concept_count": 4}),
        ("semantic", {}),
    ],
)
def test_a_saved_captioner_keeps_its_settings_and_weights(variant, settings, tmp_path):
    captioner = tiny.make_captioner(variant, **settings)
    captioner.save(tmp_path / "captioner.keras")
    loaded = keras.models.load_model(tmp_path / "captioner.keras")
    np.testing.assert_array_equal(loaded(TWO_STEPS), captioner(TWO_STEPS))
    for name in ("dropout", "region_dropout", "image_first", "image_each_step", "concepts", "seed"):
        assert getattr(loaded, name) == getattr(captioner, name)
    found, expected = (each(TWO_STEPS, training=True) for each in (loaded, captioner))
    np.testing.assert_array_equal(found, expected)


def test_precomputed_features_replace_images():
    captioner = tiny.kept_captioner()
    features = captioner.backbone(IMAGES)
    log_probs = captioner({"features": features, "captions": CAPTIONS})
    np.testing.assert_array_equal(log_probs, captioner(INPUTS))


def test_features_and_image_vector_are_scaled_to_feature_length():
    plain, scaled = (tiny.make_captioner(weights=1, feature_length=n) for n in (0.0, 3.0))
    images = tiny.make_images(2)
    captions = np.array([[[1, 4, 5, 2]], [[1, 6, 2, 0]]])
    features = {name: np.asarray(value) for name, value in plain.backbone(images).items()}
    scaled_features = {
        name: 3 * value / np.linalg.norm(value, axis=-1, keepdims=True)
        for name, value in features.items()
    }
    log_probs = scaled({"features": features, "captions": captions})
    expected = plain({"features": scaled_features, "captions": captions})
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(log_probs - plain({"features": features, "captions": captions})).max() > 0.01


@pytest.mark.parametrize("from_scratch", [False, True])
def test_batch_normalization_updates_its_statistics_only_from_scratch(from_scratch):
    pixels = keras.Input((None, None, 3))
    activations = keras.layers.Conv2D(tiny.FEATURES, 4, strides=6)(pixels)
    normalized = keras.layers.BatchNormalization()(activations)
    vector = keras.layers.GlobalAveragePooling2D()(normalized)
    backbone = keras.Model(pixels, {"map": normalized, "vector": vector})
    cell = make_cell(tiny.UNITS, tiny.FEATURES, tiny.WORDS, tiny.EMBEDDING)
    captioner = Captioner(backbone, GridRegions(), cell, from_scratch=from_scratch)
    captioner.build()
    captioner(
        {"images": tiny.make_images(2), "captions": np.array([[[1, 4, 2]]] * 2)}, training=True
    )
    mean = backbone.layers[2].moving_mean
    assert (np.abs(np.asarray(mean.value)).max() > 0) == from_scratch


def test_the_stride_of_a_call_overrides_that_of_the_layer():
    captioner = tiny.kept_captioner()
    cells = np.asarray(captioner.backbone(IMAGES)["map"])
    for stride, count in ((None, 4), (1, 9), (2, 4), (3, 1)):
        encoded = captioner.encode(IMAGES, stride=stride)
        assert encoded.boxes.shape == (2, count, 4, 2)
        assert encoded.mask.shape == (2, count)
        expected = cells[:, :: stride or 2, :: stride or 2].reshape(2, count, tiny.FEATURES)
        np.testing.assert_array_equal(encoded.memory.regions, expected)


@every_variant
def test_the_initial_loss_is_the_logarithm_of_the_number_of_words(variant):
    keras.utils.set_random_seed(0)
    captioner = tiny.make_captioner(
        variant, weights=None, words=60, units=32, embedding=32, features=16
    )
    captions = np.random.default_rng(0).integers(2, 60, (2, 16, 4))
    loss = caption_loss(captioner({"images": IMAGES, "captions": captions}), captions)
    assert float(loss) == pytest.approx(np.log(58), abs=0.15)


@every_variant
def test_every_weight_has_a_gradient_except_those_of_a_frozen_backbone(variant):
    captioner = tiny.make_captioner(variant, dropout=0.1)
    own = {w.path for w in (*captioner.cell.weights, *captioner.image_projection.weights)}
    backbone_weights = {w.path for w in captioner.backbone.weights}
    for trainable in (True, False):
        captioner.backbone.trainable = trainable
        learning = {w.path for w in captioner.trainable_weights}
        assert learning == (own | backbone_weights if trainable else own)
        _, values = gradients(captioner, TWO_STEPS, training=True)
        for weight, gradient in zip(captioner.trainable_weights, values, strict=True):
            assert gradient is not None, weight.path
            learns = np.abs(tf.convert_to_tensor(gradient)).max() > 0
            assert learns != (variant == "hard" and weight.name in SCORES), weight.path


@pytest.mark.parametrize("variant", ["conditional", "full"])
def test_padding_changes_neither_loss_nor_gradients(variant):
    captioner = tiny.kept_captioner(variant)
    longer = {"images": IMAGES, "captions": np.pad(CAPTIONS, ((0, 0), (0, 2), (0, 3)))}
    loss, expected = gradients(captioner, INPUTS)
    longer_loss, longer_gradients = gradients(captioner, longer)
    assert_close(longer_loss, loss)
    for gradient, other in zip(expected, longer_gradients, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(other), tf.convert_to_tensor(gradient), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("variant", ["conditional", "full"])
def test_captions_and_images_of_a_batch_do_not_influence_each_other(variant):
    captioner = tiny.kept_captioner(variant)
    together = np.asarray(captioner(INPUTS))
    for image, caption in np.ndindex(2, 3):
        single = captioner(
            {
                "images": IMAGES[image : image + 1],
                "captions": CAPTIONS[image : image + 1, caption : caption + 1],
            }
        )
        assert_close(together[image, caption], single[0, 0])


@pytest.mark.parametrize("variant", ["baseline", "conditional", "full"])
def test_mixed_precision_returns_float32_close_to_full_precision(variant):
    full = tiny.kept_captioner(variant)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        mixed = copy_weights(full, tiny.make_captioner(variant))
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.cell.compute_dtype == mixed.backbone.compute_dtype == "bfloat16"
    log_probs, expected = np.asarray(mixed(INPUTS)), np.asarray(full(INPUTS))
    assert log_probs.dtype == np.float32
    # Only the factors of products are rounded, by at most 1/256; states and logarithms are not.
    start = mixed.encode(IMAGES)
    step = mixed.decode_step(tf.constant([[1], [1]]), *start[1:3], start.memory)
    for values in (log_probs[log_probs != 0], step[0], step[2]):
        rounded = tf.cast(tf.cast(values, "bfloat16"), "float32")
        assert np.mean(np.asarray(values) != rounded) > 0.9
    difference = np.abs(log_probs - expected)
    assert 0 < difference.mean() < 0.005 and difference.max() < 0.03
    loss, values = gradients(mixed, INPUTS)
    expected_loss, expected = gradients(full, INPUTS)
    assert float(loss) == pytest.approx(float(expected_loss), abs=0.01)
    values, expected = (
        np.concatenate([np.ravel(tf.cast(tf.convert_to_tensor(g), "float32")) for g in each])
        for each in (values, expected)
    )
    assert np.linalg.norm(values - expected) < 0.03 * np.linalg.norm(expected)


def test_the_loss_is_the_mean_over_words_that_are_neither_start_nor_padding():
    captions = np.array([[[1, 5, 2], [1, 2, 0]]])
    log_probs = np.array([[[-1.0, -2.0], [-4.5, 0.0]]], "float32")
    assert float(word_count(captions)) == 3
    assert float(caption_loss(log_probs, captions)) == 2.5
    assert float(caption_loss(log_probs, captions, words=15.0)) == 0.5
    assert float(caption_loss(log_probs * 0, captions * 0)) == 0
