"""Training of hard attention: sampled regions, the gradient of REINFORCE, and its baseline."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny
from processes import ROOT, TWO_CPUS
from steps import SGD, arrays

from keras_aoa.models.teacher_forcing import DecodedCaptions, decode_captions, with_noise
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.extra_losses import EXTRA_LOSSES
from keras_aoa.training.trainer import Trainer

CAPTIONS = np.array([[[1, 4, 2, 0], [1, 6, 5, 2]], [[1, 7, 7, 2], [0] * 4]], np.int32)
BATCH = {"images": tiny.make_images(2), "captions": CAPTIONS}
SETTINGS = Configuration(
    variant="hard", dropout=0, learning_rate=0.5, clip_norm=1e9, hard_reinforce=1.0
)


def test_regions_are_sampled_from_the_attention():
    captioner = tiny.make_captioner("hard", weights=2)
    images, copies = tiny.make_images(1), 4000
    captions = np.tile(np.array([[[1, 4, 2]]], np.int32), (1, copies, 1))
    encoded = captioner.encode(images)
    outputs = captioner.decode(encoded, {"captions": captions}, training=True).outputs
    outputs = np.asarray(outputs).reshape(copies, 2, -1)
    probs = outputs[0, 0, -1 - tiny.REGIONS : -1]
    assert np.sum(probs > 0.1) > 1
    first = np.bincount(outputs[:, 0, -1].astype(int), minlength=tiny.REGIONS)
    error = np.sqrt(probs * (1 - probs) / copies)
    assert (np.abs(first / copies - probs) < 4 * error + 1e-6).all()
    # Steps have different noise, and only training has any.
    assert 0.05 < np.mean(outputs[:, 0, -1] == outputs[:, 1, -1]) < 0.95
    outputs = np.asarray(captioner.decode(encoded, {"captions": captions}).outputs)
    assert (outputs.reshape(copies, 2, -1)[:, 0, -1] == np.argmax(probs)).all()


def sequences(steps):
    """Noise `(1, 1, t, r)` that selects each sequence of regions."""
    for chosen in itertools.product(range(tiny.REGIONS), repeat=steps):
        yield 1e6 * np.eye(tiny.REGIONS)[list(chosen)][None, None]


def test_the_mean_gradient_is_that_of_the_expected_log_likelihood(in_float64):
    """The mean over all sequences of regions, each weighted by its probability."""
    captioner = tiny.make_captioner("hard", weights=1)
    captions = np.array([[[1, 4, 2]]], np.int32)
    batch = {"captions": captions, "baseline": tf.constant(-1.3, tf.float64)}
    features = captioner.extract_features({"images": tiny.make_images(1).astype("float64")})
    variables = captioner.cell.trainable_variables

    def decoded(noise):
        encoded = captioner.encode_features(features)
        encoded = encoded._replace(memory=encoded.memory._replace(noise=noise))
        result = decode_captions(captioner, encoded, captions)
        log_probs = captioner.attention.choice_log_probs(result.outputs, encoded.memory)
        return encoded, result, tf.exp(tf.reduce_sum(log_probs))

    total, mean = 0.0, [0.0] * len(variables)
    for noise in sequences(2):
        with tf.GradientTape() as tape:
            encoded, result, prob = decoded(tf.constant(noise))
            loss = EXTRA_LOSSES["hard_reinforce"](captioner, batch, encoded, result)
            loss -= tf.reduce_sum(result.log_probs)
        gradients = tape.gradient(loss, [v.value for v in variables])
        gradients = [0.0 if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]
        mean = [old + float(prob) * new for old, new in zip(mean, gradients, strict=True)]
        total += float(prob)
    assert total == pytest.approx(1, abs=1e-9)

    @tf.function(autograph=False)
    def weighted(noise):
        _, result, prob = decoded(noise)
        return prob * tf.reduce_sum(result.log_probs)

    def expected_log_likelihood():
        return sum(float(weighted(tf.constant(noise))) for noise in sequences(2))

    step, random, slopes = 1e-5, np.random.default_rng(0), {}
    for variable, gradient in zip(variables, mean, strict=True):
        start = np.array(variable.value)
        direction, values = random.normal(size=start.shape), []
        for sign in (1, -1):
            variable.assign(start + sign * step * direction)
            values.append(expected_log_likelihood())
        variable.assign(start)
        slope = slopes[variable.name] = -(values[0] - values[1]) / (2 * step)
        found = np.sum(direction * gradient)
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-8), variable.name
    assert abs(slopes["score_hidden"]) > 1e-3, "only REINFORCE trains the choice of regions"


def test_the_losses_skip_padding():
    captioner = tiny.make_captioner("hard")
    encoded = captioner.encode(BATCH)
    encoded = encoded._replace(memory=with_noise(encoded.memory, CAPTIONS, captioner.seeds))
    outputs = decode_captions(captioner, encoded, CAPTIONS).outputs
    probs = np.asarray(captioner.attention.region_probs(outputs, encoded.memory))
    probs = probs.reshape(2, 2, 3, -1)
    chosen = np.asarray(outputs)[..., -1].reshape(2, 2, 3).astype(int)
    rewards = np.random.default_rng(0).normal(size=(2, 2, 3)).astype("float32")
    entropy, gradient = 0.0, np.zeros_like(probs)
    for n, c, t in np.ndindex(2, 2, 3):
        if CAPTIONS[n, c, t + 1]:
            prob, region = probs[n, c, t], chosen[n, c, t]
            entropy -= np.sum(prob * np.log(prob))
            gradient[n, c, t, region] -= (rewards[n, c].sum() + 2.5) / prob[region]
    batch = {**BATCH, "baseline": tf.constant(-2.5)}
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        decoded = DecodedCaptions(tf.constant(rewards), outputs)
        loss = EXTRA_LOSSES["hard_reinforce"](captioner, batch, encoded, decoded)
    assert float(loss) == 0, "the reported loss remains that of the words"
    found = tape.gradient(loss, outputs)[..., -1 - tiny.REGIONS : -1]
    np.testing.assert_allclose(found, gradient.reshape(found.shape), rtol=1e-4)
    found = EXTRA_LOSSES["hard_entropy"](captioner, batch, encoded, decoded)
    assert float(found) == pytest.approx(-entropy, rel=1e-4)


def make_trainer(**changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return Trainer(tiny.make_captioner("hard"), settings, 5, SGD)


def without_noise(monkeypatch):
    monkeypatch.setattr("keras_aoa.models.captioner.with_noise", lambda memory, *_: memory)


def baseline(trainer):
    (name,) = (name for name in trainer.state() if name.startswith("baseline"))
    return float(trainer.state()[name])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_baseline_is_the_moving_average_of_the_captions_log_likelihood(accumulate, monkeypatch):
    without_noise(monkeypatch)
    trainer = make_trainer(accumulate=accumulate)
    expected = 0.0
    for _ in range(2):
        log_probs = np.asarray(trainer.captioner(BATCH))
        expected = 0.9 * expected + 0.1 * log_probs.sum() / 3  # the batch has three captions
        batches = [BATCH]
        if accumulate == 2:
            batches = [{name: part[i : i + 1] for name, part in BATCH.items()} for i in (0, 1)]
        trainer.step(batches, 1)
        assert baseline(trainer) == pytest.approx(expected, rel=1e-5)
    other = make_trainer(accumulate=accumulate)
    other.restore(trainer.state(), trainer.steps, "test")
    assert baseline(other) == pytest.approx(expected, rel=1e-5)


def test_a_step_uses_the_baseline_of_the_step_before_and_both_weights(monkeypatch):
    without_noise(monkeypatch)
    trainer = make_trainer(hard_entropy=0.3, hard_reinforce=0.7)
    trainer._baseline.value.assign(-4.0)
    captioner = trainer.captioner
    variables = [variable.value for variable in trainer.own_variables]
    batch = {**BATCH, "baseline": tf.constant(-4.0)}
    with tf.GradientTape() as tape:
        encoded = captioner.encode(BATCH)
        decoded = captioner.decode(encoded, BATCH)
        loss = -tf.reduce_sum(decoded.log_probs)
        for name, weight in {"hard_reinforce": 0.7, "hard_entropy": 0.3}.items():
            loss += weight * EXTRA_LOSSES[name](captioner, batch, encoded, decoded)
    gradients = tape.gradient(loss, variables)
    before = arrays(trainer.own_variables)
    metrics, _ = trainer.step(BATCH, 1)
    assert metrics["loss"] == pytest.approx(float(loss) / 8, rel=1e-5)
    for old, new, gradient in zip(before, arrays(trainer.own_variables), gradients, strict=True):
        move = -0.5 * tf.convert_to_tensor(gradient).numpy() / 8
        np.testing.assert_allclose(new - old, move, rtol=1e-2, atol=1e-6)


def test_other_variants_have_no_baseline_and_no_such_loss():
    trainer = Trainer(tiny.make_captioner("soft"), SETTINGS, 5, SGD)
    assert not [name for name in trainer.state() if name.startswith("baseline")]
    for name in ("hard_reinforce", "hard_entropy"):
        assert EXTRA_LOSSES[name](trainer.captioner, BATCH, None, None) == 0


# Two steps of two batches on one device or two replicas, without noise, in float64.
STEPS = """
import json, sys
import numpy as np
import keras
import tensorflow as tf
sys.path[:0] = ["tests/support", "tests/training"]
import tiny
from steps import SGD
from test_reinforce import BATCH, SETTINGS
from keras_aoa.models import captioner
from keras_aoa.training.trainer import Trainer
import dataclasses

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
captioner.with_noise = lambda memory, *_: memory
mirrored = sys.argv[1] == "mirrored"
devices = ["CPU:0", "CPU:1"] if mirrored else ["CPU:0"]
strategy = tf.distribute.MirroredStrategy(devices) if mirrored else tf.distribute.get_strategy()
with strategy.scope():
    settings = dataclasses.replace(SETTINGS, accumulate=2, clip_norm=0.1)
    trainer = Trainer(tiny.make_captioner("hard"), settings, 5, SGD)
batch = {**BATCH, "images": BATCH["images"].astype("float64")}
reverse = {name: part[::-1] for name, part in batch.items()}
losses = []
for _ in range(2):
    batches = [batch, {"images": reverse["images"], "captions": reverse["captions"]}]
    if mirrored:
        batches = [
            strategy.experimental_distribute_values_from_function(
                lambda context, b=b: {
                    k: tf.constant(v[context.replica_id_in_sync_group :][:1]) for k, v in b.items()
                }
            )
            for b in batches
        ]
    losses.append(trainer.step(batches, 1)[0]["loss"])
state = {name: np.asarray(value).ravel().tolist() for name, value in trainer.state().items()}
print(json.dumps([losses, state]))
"""


@pytest.mark.slow
def test_two_replicas_have_the_baseline_and_the_weights_of_one_device():
    results = []
    for kind in ("one", "mirrored"):
        result = subprocess.run(
            [sys.executable, "-c", TWO_CPUS + STEPS, kind], capture_output=True, text=True, cwd=ROOT
        )
        assert result.returncode == 0, result.stderr
        results.append(json.loads(result.stdout.strip().splitlines()[-1]))
    (losses, state), (others, other) = results
    assert others == pytest.approx(losses, rel=1e-6)
    assert state.keys() == other.keys()
    for name, values in state.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-6, atol=1e-8, err_msg=name)
    assert any(name.startswith("baseline") for name in state)
