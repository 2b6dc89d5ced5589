"""Self-critical training against its definition, by enumeration of all captions."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner, all_captions
from steps import SGD, arrays

from keras_aoa.data.text.vocabulary import PAD, START, STOP, Vocabulary
from keras_aoa.models.sampling import sample_captions
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.reward import CaptionReward
from keras_aoa.training.self_critical import (
    mean_of_others,
    policy_loss,
    sample,
    sampled_log_probs,
)
from keras_aoa.training.stopping import why_diverged
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.errors import UserError

VOCABULARY = Vocabulary(["red", "dog", "runs", "far"])
REFERENCES = [["red dog runs", "dog runs far"], ["far far", "red runs"], ["dog", "red dog far"]]
BATCH = {
    "images": tiny.make_images(3),
    "index": np.array([2, 0, 1], np.int32),
    "captions": np.array([[[START, 4, STOP]], [[START, 5, STOP]], [[PAD] * 3]], np.int32),
}
SETTINGS = Configuration(
    rnn_epochs=1,
    reward_epochs=1,
    max_words=4,
    dropout=0.5,
    average=0,
    reward_learning_rate=0.5,
    clip_norm=1e9,
)


def gradients(captioner, *losses):
    """Gradients of each `loss(log_probs)` in the decoder's weights, for an image's captions."""
    captions = all_captions(2)[None]
    features = captioner.extract_features({"images": tiny.make_images(1).astype("float64")})
    variables = captioner.cell.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        log_probs = captioner({"features": features, "captions": captions})
        values = [loss(log_probs) for loss in losses]
    each = [tape.gradient(value, [variable.value for variable in variables]) for value in values]
    return [[np.array(tf.convert_to_tensor(gradient)) for gradient in found] for found in each]


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_the_mean_gradient_is_that_of_the_expected_reward(variant, in_float64):
    captioner = tiny.make_captioner(variant)
    rewards = np.random.default_rng(0).uniform(0, 3, (1, len(all_captions(2))))

    def expected_reward(log_probs):
        return -tf.reduce_sum(tf.exp(tf.reduce_sum(log_probs, axis=2)) * rewards)

    def mean_loss(advantages):
        # The mean of the gradients of all captions, weighted by the probability of each.
        def loss(log_probs):
            probs = tf.exp(tf.reduce_sum(log_probs, axis=2))
            assert float(tf.reduce_sum(probs)) == pytest.approx(1, abs=1e-9)
            return policy_loss(log_probs, advantages, probs)

        return loss

    advantages = rewards, rewards - 1.7, np.full_like(rewards, 2.0)
    expected, *means, of_equal = gradients(captioner, expected_reward, *map(mean_loss, advantages))
    assert max(np.abs(gradient).max() for gradient in expected) > 0.01
    for mean in means:  # a baseline does not change the mean
        for found, right in zip(mean, expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-9)
    for found in of_equal:
        np.testing.assert_allclose(found, 0, atol=1e-9)


def test_the_mean_of_other_samples_is_a_baseline_that_does_not_change_the_mean(in_float64):
    captioner = tiny.make_captioner()
    count = len(all_captions(2))
    rewards = np.random.default_rng(0).uniform(0, 3, count)
    pairs = np.stack(np.meshgrid(range(count), range(count), indexing="ij"), -1).reshape(-1, 2)
    advantages = rewards[pairs] - np.asarray(mean_of_others(tf.constant(rewards[pairs])))
    np.testing.assert_allclose(advantages[:, 0], rewards[pairs[:, 0]] - rewards[pairs[:, 1]])

    def mean_loss(log_probs):
        probs = tf.stop_gradient(tf.exp(tf.reduce_sum(log_probs, axis=2)))[0]
        both = tf.reduce_prod(tf.gather(probs, pairs), axis=1)
        each = tf.gather(log_probs[0], pairs)
        return policy_loss(each, advantages, both[:, None] / 2)

    def expected_reward(log_probs):
        return -tf.reduce_sum(tf.exp(tf.reduce_sum(log_probs, axis=2)) * rewards)

    for found, right in zip(*gradients(captioner, mean_loss, expected_reward), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("variant", [*tiny.VARIANTS, "semantic"])
def test_log_probs_at_a_temperature_are_their_definition(variant, in_float64):
    captioner, image = tiny.make_captioner(variant), tiny.make_images(1).astype("float64")
    captions, reference = all_captions(2), ReferenceCaptioner(captioner, image[0])
    encoded = captioner.encode(image)
    found = np.asarray(sampled_log_probs(captioner, encoded, captions[None], 0.4))[0]
    assert np.exp(found.sum(axis=1)).sum() == pytest.approx(1, abs=1e-9)
    for caption, log_probs in zip(captions, found, strict=True):
        words = [int(word) for word in caption[1:] if word != PAD]
        for step, word in enumerate(words):
            powers = np.exp(reference.predict(tuple(words[:step]))[0]) ** (1 / 0.4)
            assert log_probs[step] == pytest.approx(np.log(powers[word] / powers.sum()), abs=1e-9)
        assert (log_probs[len(words) :] == 0).all()


def test_samples_at_a_temperature_have_these_probabilities():
    captioner, count = tiny.make_captioner(weights=3), 5000
    encoded, captions = captioner.encode(tiny.make_images(1)), all_captions(2)
    log_probs = sampled_log_probs(captioner, encoded, captions[None], 0.4)
    probs = np.exp(np.sum(np.asarray(log_probs), axis=2))[0]
    uniform = np.random.default_rng(1).random((1, count, 2), "float32")
    sampled = np.asarray(sample_captions(captioner, encoded, uniform, temperature=0.4))[0]
    shares = (sampled[:, None] == captions).all(axis=2).mean(axis=0)
    assert shares.sum() == pytest.approx(1)
    errors = np.sqrt(probs * (1 - probs) / count)
    assert (np.abs(shares - probs) < 4 * errors + 1e-3).all()


def test_log_probs_at_a_temperature_are_never_positive_in_bfloat16():
    policy, captions = keras.config.dtype_policy(), all_captions(2)
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        captioner = tiny.make_captioner("soft", weights=3)
    finally:
        keras.config.set_dtype_policy(policy)
    for weight in captioner.cell.trainable_variables:
        weight.assign(4 * weight)
    encoded = captioner.encode(tiny.make_images(1))
    found = np.asarray(sampled_log_probs(captioner, encoded, captions[None], 0.2), "float64")
    assert found.max() <= 0
    assert np.exp(found.sum(axis=2)).sum() == pytest.approx(1, abs=0.02)


def test_samples_at_a_very_low_temperature_are_the_most_probable_words():
    captioner = tiny.make_captioner(weights=3)
    encoded = captioner.encode(tiny.make_images(2))
    uniform = np.random.default_rng(1).random((2, 3, 4), "float32")
    sampled = np.asarray(sample_captions(captioner, encoded, uniform, temperature=1e-4))
    other = np.asarray(sample_captions(captioner, encoded, 1 - uniform, temperature=1e-4))
    np.testing.assert_array_equal(sampled, other)
    ended = np.cumsum(sampled == STOP, axis=2)[:, :, :-1] > 0
    np.testing.assert_array_equal(sampled[:, :, 1:] == PAD, ended)


def make_trainer(**changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    reward = CaptionReward(REFERENCES, VOCABULARY, settings.reward_cider, settings.reward_bleu)
    captioner = tiny.make_captioner(
        dropout=settings.dropout,
        region_dropout=settings.dropout,
        label_smoothing=settings.label_smoothing,
    )
    return Trainer(captioner, settings, 5, SGD, reward)


def samples_of(trainer, batch, step=0):
    features = trainer.captioner.extract_features(batch)
    inputs = {**batch, "features": features}
    return inputs, sample(trainer.captioner, inputs, step, trainer.reward, trainer.configuration)


@pytest.mark.parametrize(
    ("baseline", "temperature"), [("samples", 1.0), ("samples", 0.5), ("greedy", 1.0)]
)
def test_a_step_follows_the_advantages_of_its_samples(baseline, temperature):
    trainer = make_trainer(
        reward_baseline=baseline,
        reward_samples=3,
        reward_bleu=2.0,
        reward_temperature=temperature,
    )
    captioner, count = trainer.captioner, 2 * 3  # the third image only fills up the batch
    trainer.steps = 5  # the first step of stage 3
    seed = np.array(captioner.seeds.state)
    inputs, samples = samples_of(trainer, BATCH, trainer.steps)
    captions = np.asarray(samples.captions)
    index = np.repeat(BATCH["index"], 3)
    rewards = trainer.reward(index, captions[:, :, 1:].reshape(9, -1)).reshape(3, 3)
    np.testing.assert_allclose(samples.rewards, rewards, rtol=1e-5)
    if baseline == "samples":
        expected = rewards - (rewards.sum(1, keepdims=True) - rewards) / 2
        np.testing.assert_allclose(samples.advantages, expected, rtol=1e-4, atol=1e-5)
    else:
        shifts = rewards - np.asarray(samples.advantages)
        np.testing.assert_allclose(shifts, shifts[:, :1].repeat(3, 1), atol=1e-5)
        assert np.ptp(shifts[:, 0]) > 0.01

    before = arrays(trainer.own_variables)
    captioner.seeds.state.assign(seed)  # the gradient has the dropout masks of the samples
    with tf.GradientTape() as tape:
        if temperature == 1:
            log_probs = captioner({**inputs, "captions": captions}, training=True)
        else:
            encoded = captioner.encode(inputs, training=True)
            log_probs = sampled_log_probs(captioner, encoded, captions, temperature)
        weights = np.asarray(samples.advantages)[:2, :, None]
        loss = -tf.reduce_sum(weights * log_probs[:2]) / count
    expected = tape.gradient(loss, [variable.value for variable in trainer.own_variables])
    captioner.seeds.state.assign(seed)
    metrics, stopped = trainer.step(BATCH, 3)
    assert not stopped
    assert (np.array(captioner.seeds.state) != seed).any(), "the next step has other masks"
    moved = zip(arrays(trainer.own_variables), before, expected, strict=True)
    assert np.abs(rewards[:2] - rewards[:2].mean(1, keepdims=True)).max() > 0.1
    for new, old, gradient in moved:
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        np.testing.assert_allclose(new - old, -0.5 * gradient, rtol=1e-3, atol=1e-6)

    words = captions[:2, :, 1:]
    length = (words > STOP).sum(2)
    spoken = np.asarray(log_probs[:2]).sum(2) / (words != PAD).sum(2)
    assert metrics == pytest.approx(
        {
            "loss": float(loss),
            "reward": rewards[:2].mean(),
            "length": length.mean(),
            "entropy": -spoken.mean(),
            "bad_endings": trainer.reward.ends_badly(words.reshape(6, -1)).mean(),
        },
        rel=1e-4,
        abs=1e-5,
    )


def test_samples_depend_on_step_and_image_but_not_on_the_rest_of_the_batch():
    trainer = make_trainer(dropout=0.0)
    _, together = samples_of(trainer, BATCH)
    part = {name: values[1:2] for name, values in BATCH.items()}
    _, alone = samples_of(trainer, part)
    np.testing.assert_array_equal(alone.captions[0], together.captions[1])
    np.testing.assert_allclose(alone.advantages[0], together.advantages[1], atol=1e-6)
    _, later = samples_of(trainer, BATCH, step=1)
    assert (np.asarray(later.captions) != np.asarray(together.captions)).any()
    trainer.captioner.seed += 1
    _, other = samples_of(trainer, BATCH)
    assert (np.asarray(other.captions) != np.asarray(together.captions)).any()


def test_samples_have_the_configured_temperature():
    for temperature, equal in ((1.0, False), (1e-4, True)):
        trainer = make_trainer(dropout=0.0, reward_temperature=temperature)
        captions = np.asarray(samples_of(trainer, BATCH)[1].captions)
        assert (captions == captions[:, :1]).all() == equal


def test_label_smoothing_does_not_change_stage_3():
    tf.config.run_functions_eagerly(True)  # faster for a single step
    try:
        plain, smoothed = (make_trainer(label_smoothing=share) for share in (0, 0.5))
        metrics = [trainer.step(BATCH, 3)[0] for trainer in (plain, smoothed)]
    finally:
        tf.config.run_functions_eagerly(False)
    assert metrics[0] == metrics[1]
    for one, other in zip(arrays(plain.own_variables), arrays(smoothed.own_variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rewards_rise():
    trainer = make_trainer(reward_learning_rate=0.3, reward_epochs=20, dropout=0.0)
    rewards = [trainer.step(BATCH, 3)[0]["reward"] for _ in range(60)]
    assert np.mean(rewards[-10:]) > 1.5 * np.mean(rewards[:10])


def test_the_decay_begins_anew_in_stage_3():
    trainer = make_trainer(decay="cosine", warmup_steps=2, joint_epochs=1, reward_epochs=2)
    factors = {}
    for trainer.steps in (0, 1, 5, 9, 10, 15, 20):
        factors[trainer.steps] = trainer.rate_factor()
    expected = {0: 0.5, 1: 0.976, 5: 0.5, 9: 0.024, 10: 1.0, 15: 0.5, 20: 0.0}
    assert factors == pytest.approx(expected, abs=1e-3)


GOOD = {"reward": 0.8, "length": 10.0, "entropy": 0.9, "bad_endings": 0.02}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bad_endings": 0.51}, "51 % of the sampled captions are cut off"),
        ({"reward": 0.39}, "the mean reward fell from 0.800 to 0.390"),
        ({"length": 4.9}, "shrank from 10.0 to 4.9 words"),
        ({"entropy": 0.004}, r"nearly equal \(entropy 0.0040"),
    ],
)
def test_a_divergence_is_named(changes, words):
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, **GOOD}]
    assert why_diverged(GOOD, history) == why_diverged(GOOD, []) == ""
    assert re.search(words, why_diverged({**GOOD, **changes}, history))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rnn_epochs": 0}, "needs a captioner that was trained before"),
        ({"reward_samples": 1}, "at least 2 samples per image, received 1"),
        ({"reward_cider": 0.0}, "both are 0"),
        ({"reward_bleu": -1.0}, "reward_bleu: expected at least 0"),
        ({"reward_learning_rate": 0.0}, "more than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(SETTINGS, **changes)
