"""The training step against its definition in NumPy: clipping, averages and learning rates."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny
from steps import SGD, arrays

from keras_aoa.models.teacher_forcing import caption_loss
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.schedule import count_plateaus
from keras_aoa.training.trainer import Trainer

BATCH = {
    "images": tiny.make_images(2),
    "captions": np.array([[[1, 4, 6, 2], [1, 7, 2, 0]], [[1, 5, 5, 2], [0] * 4]], np.int32),
}
SETTINGS = Configuration(
    dropout=0, average=0, learning_rate=0.5, backbone_learning_rate=0.25, clip_norm=1e9
)


def make_trainer(steps_per_epoch=5, **changes):
    """A trainer of a tiny captioner with `SETTINGS` and changes."""
    settings = dataclasses.replace(SETTINGS, **changes)
    return Trainer(tiny.make_captioner(), settings, steps_per_epoch, SGD)


def raw_gradients(trainer):
    """The gradient of the loss in each weight of the captioner and of the backbone."""
    variables = trainer.own_variables + trainer.backbone_variables
    with tf.GradientTape() as tape:
        loss = caption_loss(trainer.captioner(BATCH, training=True), BATCH["captions"])
    found = tape.gradient(loss, [variable.value for variable in variables])
    return [np.array(tf.convert_to_tensor(gradient)) for gradient in found], float(loss)


def length(arrays):
    return np.sqrt(sum(np.square(array).sum() for array in arrays))


@pytest.mark.parametrize(("joint", "clip_norm"), [(False, 1e9), (True, 0.01)])
def test_a_step_follows_the_gradient_of_the_batch_scaled_to_the_clip_norm(joint, clip_norm):
    trainer = make_trainer(clip_norm=clip_norm, warmup_steps=4)
    gradients, expected_loss = raw_gradients(trainer)
    own = len(trainer.own_variables)
    norm = length(gradients if joint else gradients[:own])
    assert 0.02 < norm < 1e9, "only one of the two is clipped"
    before = arrays(trainer.own_variables + trainer.backbone_variables)
    metrics, _ = trainer.step(BATCH, 2 if joint else 1)
    after = arrays(trainer.own_variables + trainer.backbone_variables)
    assert metrics["loss"] == pytest.approx(expected_loss, rel=1e-5)
    # The first of four steps of warmup has a quarter of each rate.
    rates = [0.5 / 4] * own + [0.25 / 4 if joint else 0] * (len(gradients) - own)
    moved = [new - old for old, new in zip(before, after, strict=True)]
    for move, rate, gradient in zip(moved, rates, gradients, strict=True):
        expected = -rate * min(1, clip_norm / norm) * gradient
        np.testing.assert_allclose(move, expected, rtol=1e-2, atol=3e-7)
    if joint:
        scaled = [move / rate for move, rate in zip(moved, rates, strict=True)]
        assert length(scaled) == pytest.approx(clip_norm, rel=1e-3)


def test_averages_follow_the_weights_faster_in_the_first_steps():
    trainer = make_trainer(average=0.2)
    expected = {name: np.array(trainer.trained[name].value) for name in trainer.averages}
    assert expected
    for share in (1 / 10, 2 / 11, 0.2):  # min(average, (1 + step) / (10 + step))
        trainer.step(BATCH, 1)
        for name, average in expected.items():
            current = np.array(trainer.trained[name].value)
            expected[name] = share * average + (1 - share) * current
            found = np.array(trainer.averages[name].value)
            np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)
    found = trainer.evaluated_weights()
    assert found.keys() == trainer.trained.keys()
    for name, average in expected.items():
        np.testing.assert_allclose(found[name], average, rtol=1e-5, atol=1e-6)
    words = "cell/000/word_kernel"
    assert np.abs(found[words] - np.array(trainer.trained[words].value)).max() > 1e-3


def test_evaluated_weights_are_set_only_during_the_call():
    trainer = make_trainer(average=0.9)
    for value in trainer.averages.values():
        value.assign(np.array(value.value) + 1)
    own = {name: np.array(variable.value) for name, variable in trainer.trained.items()}
    averages = trainer.evaluated_weights()
    for name in trainer.averages:
        np.testing.assert_array_less(own[name] + 0.5, averages[name], err_msg=name)

    def assert_weights(expected):
        for name, variable in trainer.trained.items():
            np.testing.assert_array_equal(variable.value, expected[name], err_msg=name)

    def fail():
        assert_weights(averages)
        raise KeyboardInterrupt

    assert trainer.with_evaluated_weights(lambda: assert_weights(averages) or "result") == "result"
    assert_weights(own)
    with pytest.raises(KeyboardInterrupt):
        trainer.with_evaluated_weights(fail)
    assert_weights(own)


def test_without_averages_the_weights_themselves_are_evaluated():
    trainer = make_trainer()
    for name, array in trainer.evaluated_weights().items():
        np.testing.assert_array_equal(array, trainer.trained[name].value)


def test_the_backbone_gets_its_averages_before_stage_3():
    trainer = make_trainer(joint_epochs=1, average=0.9)
    own = {name: np.array(variable.value) for name, variable in trainer.trained.items()}
    for value in trainer.averages.values():
        value.assign(np.array(value.value) + 1)
    trainer.use_averaged_backbone()
    changed = {
        name
        for name, variable in trainer.trained.items()
        if np.abs(np.array(variable.value) - own[name]).max() > 0
    }
    assert changed == {name for name in trainer.averages if name.startswith("backbone/")}
    for name in changed:
        np.testing.assert_array_equal(trainer.trained[name].value, trainer.averages[name].value)


def test_a_backbone_that_the_loss_does_not_depend_on_stays_unchanged():
    concepts = {"concepts": "attributes", "concept_count": 4}
    settings = dataclasses.replace(SETTINGS, joint_epochs=1, concept_loss=0.0, **concepts)
    trainer = Trainer(tiny.make_captioner("baseline", **concepts), settings, 1, SGD)
    before, own = (arrays(v) for v in (trainer.backbone_variables, trainer.own_variables))
    trainer.step({**BATCH, "concepts": np.zeros((2, 4), bool)}, 2)
    for old, new in zip(before, arrays(trainer.backbone_variables), strict=True):
        np.testing.assert_array_equal(new, old)
    pairs = zip(own, arrays(trainer.own_variables), strict=True)
    moved = [np.abs(new - old).max() for old, new in pairs]
    assert max(moved) > 1e-3


# --- schedules ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduled():
    """A trainer of 100 steps; tests set its configuration and step."""
    return make_trainer(steps_per_epoch=20)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({}, {0: 1, 50: 1, 99: 1}),
        ({"decay": "cosine"}, {0: 1, 25: (1 + np.sqrt(0.5)) / 2, 50: 0.5, 100: 0, 120: 0}),
        ({"warmup_steps": 10}, {0: 0.1, 4: 0.5, 9: 1, 10: 1, 99: 1}),
        (
            {"decay": "cosine", "warmup_steps": 100},
            {0: 0.01, 49: 0.25 * (1 + np.cos(np.pi * 0.49)), 50: 0.51 / 2, 100: 0},
        ),
        # Two epochs are 40 steps.
        (
            {"decay": "step", "decay_factor": 0.1, "decay_epochs": 2, "warmup_steps": 10},
            {4: 0.5, 9: 1, 39: 1, 40: 0.1, 79: 0.1, 80: 0.01},
        ),
    ],
)
def test_the_learning_rate_rises_during_warmup_and_decays_to_zero(scheduled, settings, factors):
    scheduled.configuration = dataclasses.replace(
        SETTINGS, rnn_epochs=2, joint_epochs=3, **{"warmup_steps": 0, "decay": "none", **settings}
    )
    found = {}
    for scheduled.steps in factors:
        found[scheduled.steps] = scheduled.rate_factor()
    assert found == pytest.approx(factors, abs=1e-12)


def test_the_learning_rate_falls_with_each_plateau(scheduled):
    scheduled.configuration = dataclasses.replace(
        SETTINGS, rnn_epochs=5, decay="plateau", decay_factor=0.2, warmup_steps=10
    )
    for plateaus, factor in enumerate((1, 0.2, 0.04)):
        scheduled.plateaus = plateaus
        for scheduled.steps, warmup in ((4, 0.5), (60, 1)):
            assert scheduled.rate_factor() == pytest.approx(factor * warmup, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "plateaus"),
    [
        ([], 0),
        ([5, 4], 0),
        ([5, 4, 5], 1),  # an equal score has not risen
        ([5, 4, 3, 2, 1], 2),
        ([5, 4, 6, 5, 7], 0),
        ([5, 4, 4, 6, 1, 1, 1], 2),
        ([5, None, 4, None, 3, None], 1),  # epochs that were not validated do not count
    ],
)
def test_a_plateau_is_a_number_of_validations_without_a_higher_score(scores, plateaus):
    settings = dataclasses.replace(SETTINGS, decay="plateau", decay_epochs=2, rnn_epochs=20)
    history = [{"epoch": 1} if score is None else {"CIDEr": score} for score in scores]
    assert count_plateaus(settings, history) == plateaus


def test_stage_3_counts_only_its_own_plateaus():
    settings = dataclasses.replace(
        SETTINGS, decay="plateau", decay_epochs=1, rnn_epochs=1, joint_epochs=2, reward_epochs=9
    )
    scores = [{"CIDEr": score} for score in (5, 4, 3, 1, 2, 1)]
    found = [count_plateaus(settings, scores[:epochs]) for epochs in range(7)]
    assert found == [0, 0, 1, 0, 0, 0, 1]


def test_scheduled_sampling_rises_linearly_to_its_setting(scheduled):
    scheduled.configuration = dataclasses.replace(
        SETTINGS, rnn_epochs=2, joint_epochs=3, scheduled_sampling=0.4
    )
    shares = {0: 0, 25: 0.1, 50: 0.2, 100: 0.4, 120: 0.4}
    found = {}
    for scheduled.steps in shares:
        found[scheduled.steps] = scheduled.sampled_share()
    assert found == pytest.approx(shares, abs=1e-12)
