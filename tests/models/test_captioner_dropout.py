"""Dropout of the captioner: each part it applies to, only in training, repeated by its seed."""

import keras
import numpy as np
import pytest
import tiny

from keras_aoa.data.text.vocabulary import PAD

IMAGES = tiny.make_images(2)
CAPTIONS = np.array([[[1, 4, 6, 7, 2], [1, 3, 2, 0, 0]], [[1, 5, 5, 4, 6], [0] * 5]], "int32")
INPUTS = {"images": IMAGES, "captions": CAPTIONS}


def test_only_training_applies_dropout_and_its_seed_repeats_it():
    plain = tiny.make_captioner()
    first, again, other = (
        tiny.make_captioner(dropout=0.4, region_dropout=0.2, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first(INPUTS), plain(INPUTS))
    np.testing.assert_array_equal(plain(INPUTS, training=True), plain(INPUTS))
    one, two = first(INPUTS, training=True), first(INPUTS, training=True)
    assert np.abs(one - two).max() > 0.01
    np.testing.assert_array_equal(one, again(INPUTS, training=True))
    assert np.abs(one - other(INPUTS, training=True)).max() > 0.01
    assert (np.asarray(one)[CAPTIONS[:, :, 1:] == PAD] == 0).all()


@pytest.mark.parametrize("image_first", [False, True])
def test_dropout_of_the_image_vector_changes_the_first_state_and_no_region(image_first):
    captioner = tiny.make_captioner("word_region", dropout=0.5, image_first=image_first)
    plain, training = captioner.encode(IMAGES), captioner.encode(IMAGES, training=True)
    np.testing.assert_array_equal(training.memory.regions, plain.memory.regions)
    assert np.abs(np.asarray(training.state) - plain.state).max() > 0.01


PARTS = {  # shape of what is dropped, rate
    "image vector": ((2, tiny.VECTOR), 0.4),
    "words": ((2, 2, 4, tiny.EMBEDDING), 0.4),
    "states": ((2, 2, 4, tiny.UNITS), 0.4),
    "regions": ((2, tiny.REGIONS, tiny.FEATURES), 0.2),
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_dropped_with_its_rate_and_changes_the_log_probabilities(part, monkeypatch):
    """Dropout that drops the whole of one part and nothing of the others shows each part."""
    captioner = tiny.make_captioner(dropout=0.4, region_dropout=0.2)
    dropped = []

    def drop(values, rate, *_, **__):
        dropped.append((tuple(values.shape), rate))
        return values * 0 if dropped[-1] == PARTS[part] else values

    expected = np.asarray(captioner(INPUTS))
    monkeypatch.setattr(keras.random, "dropout", drop)
    found = np.asarray(captioner(INPUTS, training=True))
    assert sorted(dropped) == sorted(PARTS.values())
    assert np.abs(found - expected).max() > 0.05


def test_region_dropout_drops_a_feature_in_all_regions_of_an_image():
    captioner = tiny.make_captioner(region_dropout=0.5, seed=1)
    kept = np.asarray(captioner.encode(IMAGES).memory.regions)
    dropped = np.asarray(captioner.encode(IMAGES, training=True).memory.regions)
    factors = dropped / kept
    np.testing.assert_allclose(
        factors, np.broadcast_to(factors[:, :1], factors.shape), rtol=1e-4, atol=1e-4
    )
    assert set(np.round(factors.ravel(), 3)) == {0, 2}
    assert (factors[0, 0] != factors[1, 0]).any()


def test_an_image_vector_at_each_step_is_dropped_and_the_first_state_stays_zero():
    captioner = tiny.make_captioner("baseline", dropout=0.5, image_each_step=True)
    plain, training = captioner.encode(IMAGES), captioner.encode(IMAGES, training=True)
    assert plain.memory.step_gates.shape == (2, 1, 3 * tiny.UNITS)
    assert np.abs(np.asarray(training.memory.step_gates) - plain.memory.step_gates).max() > 0.01
    assert not np.asarray(plain.state).any() and not np.asarray(training.state).any()


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_steps_and_whole_captions_have_the_same_dropout(variant, monkeypatch):
    """Sampling runs step by step, and the gradient of its samples over whole captions."""
    monkeypatch.setattr("keras_aoa.models.captioner.with_noise", lambda memory, *_: memory)
    captioner = tiny.make_captioner(variant, weights=1, dropout=0.4, region_dropout=0.2)
    seed = np.array(captioner.seeds.state)
    encoded = captioner.encode(IMAGES, training=True)
    words, states = captioner.dropout_masks(2, 2, 4)
    state, attended = (np.repeat(part, 2, axis=1) for part in (encoded.state, encoded.attended))
    log_probs = []
    for step in range(4):
        state, attended, own, _ = captioner.decode_step(
            CAPTIONS[:, :, step],
            state,
            attended,
            encoded.memory,
            (words[:, :, step], states[:, :, step]),
        )
        target = CAPTIONS[:, :, step + 1, None]
        log_probs.append(np.take_along_axis(np.asarray(own), target, axis=2)[..., 0])
    found = np.where(CAPTIONS[:, :, 1:] == PAD, 0, np.stack(log_probs, axis=2))
    captioner.seeds.state.assign(seed)
    expected = captioner(INPUTS, training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - captioner(INPUTS)).max() > 0.01
