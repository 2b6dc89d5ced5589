"""Accumulated gradients: several batches train like one batch of all their images, in float64."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tiny
from steps import SGD, arrays

from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.accumulation import groups
from keras_aoa.training.checkpoints import Progress
from keras_aoa.training.epochs import train_epoch
from keras_aoa.training.reward import CaptionReward
from keras_aoa.training.trainer import Trainer

# The images have 3, 2, 5 and 1 words: a mean of the batches' means is not the mean over all words.
CAPTIONS = [
    [[1, 4, 6, 2], [0] * 4],
    [[1, 7, 2, 0], [0] * 4],
    [[1, 5, 5, 2], [1, 4, 2, 0]],
    [[1, 2, 0, 0], [0] * 4],
]
BATCH = {
    "images": tiny.make_images(4),
    "captions": np.array(CAPTIONS, np.int32),
    "index": np.arange(4, dtype=np.int32),
}
SETTINGS = Configuration(
    rnn_epochs=1, joint_epochs=1, reward_epochs=1, reward_samples=3, max_words=3, dropout=0,
    average=0.2, learning_rate=0.5, backbone_learning_rate=0.25, reward_learning_rate=0.5,
    clip_norm=0.1, decay="cosine",
)  # fmt: skip
VOCABULARY = Vocabulary(["red", "dog", "runs", "far"])
REWARD = CaptionReward([["red dog"], ["dog runs far"], ["far"], ["red runs"]], VOCABULARY)


def make_trainer(accumulate):
    settings = dataclasses.replace(SETTINGS, accumulate=accumulate)
    return Trainer(tiny.make_captioner(), settings, 2, SGD, REWARD)


def part(*rows):
    return {name: array[list(rows)] for name, array in BATCH.items()}


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_accumulated_batches_train_like_one_batch(stage, in_float64):
    whole, parts = make_trainer(1), make_trainer(2)
    start = arrays(parts.own_variables + parts.backbone_variables)
    for _ in range(2):  # the sums begin at 0 in each step
        metrics, stopped = whole.step(BATCH, stage)
        others, _ = parts.step([part(0, 1), part(2, 3)], stage)
        assert others == pytest.approx(metrics, rel=1e-12) and not stopped
        assert whole.steps == parts.steps
    state, other = whole.state(), parts.state()
    assert state.keys() == other.keys(), "sums belong to no checkpoint"
    for name, array in state.items():
        np.testing.assert_allclose(other[name], array, rtol=1e-11, atol=1e-13, err_msg=name)
    moved = [np.abs(a - b).max() for a, b in zip(start, arrays(whole.own_variables), strict=False)]
    assert max(moved) > 1e-3


def test_a_group_may_have_fewer_batches():
    assert list(groups(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(groups([], 3)) == []


def test_a_resumed_epoch_begins_with_the_batch_after_the_last_step():
    """An epoch has 5 batches: steps of 2, 2 and 1. The first of them was trained before."""
    taken, skipped = [], []

    def step(group, stage, stop):
        taken.append(group)
        return {"loss": 1.0}, False

    settings = SimpleNamespace(accumulate=2, checkpoint_steps=9, stage=lambda epoch: 1)
    trainer = SimpleNamespace(
        configuration=settings, steps_per_epoch=3, steps=1, step=step, rate_factor=lambda: 1.0
    )

    def epoch(number, skip, replicas):
        skipped.append(skip)
        return range(skip, 5)

    ignored = SimpleNamespace(
        step=lambda *_: None, call=lambda *_: None, ended=lambda: False, feed=iter, replicas=None
    )
    batches, progress = SimpleNamespace(epoch=epoch), Progress(steps=1, sums={"loss": 4.0})
    means = train_epoch(trainer, ignored, batches, progress, ignored, None, ignored)
    assert (skipped, taken) == ([2], [[2, 3], [4]])
    assert means == {"loss": 2.0}


def test_a_stop_request_in_any_batch_is_reported(monkeypatch):
    trainer = make_trainer(2)
    stops = iter([True, False])
    monkeypatch.setattr(
        trainer,
        "_function",
        lambda stage, last: lambda *_: (tf.constant([1.0]), next(stops), tf.constant(1.0)),
    )
    assert trainer.step([part(0), part(1)], 1) == ({"loss": 1.0}, True)
