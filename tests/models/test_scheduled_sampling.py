"""Scheduled sampling: the sampled inputs, their distribution, and the setting."""

import dataclasses

import numpy as np
import pytest
import tiny

from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.models.scheduled_sampling import sampled_inputs
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.errors import UserError

IMAGES = tiny.make_images(2)
CAPTIONS = np.array(
    [
        [[START, 4, 6, 7, 5, STOP], [START, 5, STOP, PAD, PAD, PAD]],
        [[START, 7, 7, 4, STOP, PAD], [START, 6, 4, 5, 5, STOP]],
    ],
    "int32",
)
INPUTS = CAPTIONS[:, :, :-1]


def test_a_share_of_0_samples_no_words():
    captioner = tiny.make_captioner()
    inputs = sampled_inputs(captioner, captioner.encode(IMAGES), CAPTIONS, 0.0)
    np.testing.assert_array_equal(inputs, INPUTS)


def test_a_share_of_1_keeps_start_and_padding():
    captioner = tiny.make_captioner()
    inputs = np.asarray(sampled_inputs(captioner, captioner.encode(IMAGES), CAPTIONS, 1.0))
    assert (inputs[:, :, 0] == START).all()
    np.testing.assert_array_equal(inputs == PAD, INPUTS == PAD)
    sampled = inputs[:, :, 1:][INPUTS[:, :, 1:] != PAD]
    assert not np.isin(sampled, (PAD, START)).any()
    assert (sampled != INPUTS[:, :, 1:][INPUTS[:, :, 1:] != PAD]).any()


def test_words_are_sampled_from_the_distribution_after_the_previous_inputs():
    captioner = tiny.make_captioner(weights=3)
    copies = 4000
    captions = np.tile(np.array([[[START, 4, 5, STOP]]], "int32"), (1, copies, 1))
    encoded = captioner.encode(IMAGES[:1])
    inputs = np.asarray(sampled_inputs(captioner, encoded, captions, 1.0))[0]

    def distribution(words):
        state, attended = encoded.state, encoded.attended
        for word in words:
            state, attended, log_probs, _ = captioner.decode_step(
                np.array([[word]]), state, attended, encoded.memory
            )
        return np.exp(np.asarray(log_probs))[0, 0]

    def assert_sampled(words, expected):
        shares = np.bincount(words, minlength=tiny.WORDS) / len(words)
        error = np.sqrt(expected * (1 - expected) / len(words))
        assert (np.abs(shares - expected) < 4 * error + 1e-6).all()

    assert_sampled(inputs[:, 1], distribution([START]))
    first = np.bincount(inputs[:, 1]).argmax()
    second = inputs[inputs[:, 1] == first, 2]
    assert len(second) > 500
    assert_sampled(second, distribution([START, first]))


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_share_is_the_fraction_of_sampled_words(share):
    captioner = tiny.make_captioner(words=500, weights=None)
    captions = np.full((2, 300, 12), 4, "int32")
    inputs = np.asarray(sampled_inputs(captioner, captioner.encode(IMAGES), captions, share))
    # With 500 words, a sampled word rarely equals the given one.
    assert np.mean(inputs[:, :, 1:] != 4) == pytest.approx(share, abs=0.03)


def test_training_increases_the_share_of_sampled_words():
    captioner = tiny.make_captioner()
    settings = Configuration(scheduled_sampling=0.5, rnn_epochs=1, dropout=0.0)
    trainer = Trainer(captioner, settings, steps_per_epoch=4)
    batch = {"images": IMAGES, "captions": CAPTIONS[:, :, :4]}
    shares, losses = [], []
    for _ in range(4):
        shares.append(trainer.sampled_share())
        losses.append(trainer.step(batch, 1)[0]["loss"])
    assert shares == [0, 0.125, 0.25, 0.375]
    plain = tiny.make_captioner()
    other = Trainer(plain, dataclasses.replace(settings, scheduled_sampling=0.0), 4)
    expected = [other.step(batch, 1)[0]["loss"] for _ in range(4)]
    assert losses[0] == pytest.approx(expected[0], rel=1e-5)
    assert losses[-1] != pytest.approx(expected[-1], rel=1e-5)


def test_a_share_above_1_is_refused():
    with pytest.raises(UserError, match="scheduled_sampling: expected a share from 0 to 1"):
        Configuration(scheduled_sampling=1.5)


def test_soft_attention_with_scheduled_sampling_trains_fine_tunes_and_captions(
    squares_settings, squares, tmp_path, monkeypatch
):
    from keras_aoa.inference.image_captioner import ImageCaptioner
    from keras_aoa.training import epochs, loop

    # Tests in tests/training include validation, and the evaluation that follows a training.
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: None)
    monkeypatch.setattr(epochs, "captions_for_validation", lambda *_: {})
    monkeypatch.setattr(epochs, "validation_cider", lambda *_: 1.0)
    first = dataclasses.replace(
        squares_settings,
        output=str(tmp_path),
        max_words=3,
        name="first",
        variant="soft",
        scheduled_sampling=0.5,
        joint_epochs=0,
    )
    run = loop.train(first)
    tuned = dataclasses.replace(
        first, name="tuned", start_from=str(run.folder), rnn_epochs=0, joint_epochs=1
    )
    caption = ImageCaptioner(loop.train(tuned).folder).caption(squares / "03.png")
    assert caption.words
    np.testing.assert_allclose(caption.attention.sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(caption.attention, 1 / caption.attention.shape[1], atol=1e-6)
