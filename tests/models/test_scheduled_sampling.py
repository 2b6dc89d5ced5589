"""Scheduled sampling: what is fed, how it is drawn, and the setting that turns it on."""

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
FED = CAPTIONS[:, :, :-1]


def test_nothing_is_drawn_at_a_share_of_0():
    captioner = tiny.make_captioner()
    found = sampled_inputs(captioner, captioner.encode(IMAGES), CAPTIONS, 0.0)
    np.testing.assert_array_equal(found, FED)


def test_start_and_padding_stay_at_a_share_of_1():
    captioner = tiny.make_captioner()
    found = np.asarray(sampled_inputs(captioner, captioner.encode(IMAGES), CAPTIONS, 1.0))
    assert (found[:, :, 0] == START).all()
    np.testing.assert_array_equal(found == PAD, FED == PAD)
    drawn = found[:, :, 1:][FED[:, :, 1:] != PAD]
    assert not np.isin(drawn, (PAD, START)).any()
    assert (drawn != FED[:, :, 1:][FED[:, :, 1:] != PAD]).any()


def test_words_are_drawn_from_the_distribution_after_what_was_fed():
    captioner = tiny.make_captioner(weights=3)
    copies = 4000
    captions = np.tile(np.array([[[START, 4, 5, STOP]]], "int32"), (1, copies, 1))
    encoded = captioner.encode(IMAGES[:1])
    found = np.asarray(sampled_inputs(captioner, encoded, captions, 1.0))[0]

    def distribution(words):
        state, attended = encoded.state, encoded.attended
        for word in words:
            state, attended, log_probs, _ = captioner.decode_step(
                np.array([[word]]), state, attended, encoded.memory
            )
        return np.exp(np.asarray(log_probs))[0, 0]

    def assert_drawn(words, expected):
        shares = np.bincount(words, minlength=tiny.WORDS) / len(words)
        error = np.sqrt(expected * (1 - expected) / len(words))
        assert (np.abs(shares - expected) < 4 * error + 1e-6).all()

    assert_drawn(found[:, 1], distribution([START]))
    first = np.bincount(found[:, 1]).argmax()
    after = found[found[:, 1] == first, 2]
    assert len(after) > 500
    assert_drawn(after, distribution([START, first]))


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_share_is_that_of_the_words_drawn(share):
    captioner = tiny.make_captioner(words=500, weights=None)
    captions = np.full((2, 300, 12), 4, "int32")
    found = np.asarray(sampled_inputs(captioner, captioner.encode(IMAGES), captions, share))
    # One word of 500 hardly ever comes by chance.
    assert np.mean(found[:, :, 1:] != 4) == pytest.approx(share, abs=0.03)


def test_training_feeds_more_and_more_of_its_own_words():
    captioner = tiny.make_captioner()
    settings = Configuration(scheduled_sampling=0.5, rnn_epochs=1, dropout=0.0)
    trainer = Trainer(captioner, settings, steps_per_epoch=4)
    shares, losses = [], []
    for _ in range(4):
        shares.append(trainer.sampled_share())
        losses.append(trainer.step({"images": IMAGES, "captions": CAPTIONS}, False)[0])
    assert shares == [0, 0.125, 0.25, 0.375]
    plain = tiny.make_captioner()
    other = Trainer(plain, dataclasses.replace(settings, scheduled_sampling=0.0), 4)
    expected = [other.step({"images": IMAGES, "captions": CAPTIONS}, False)[0] for _ in range(4)]
    assert losses[0] == pytest.approx(expected[0], rel=1e-5)
    assert losses[-1] != pytest.approx(expected[-1], rel=1e-5)


def test_a_share_beyond_1_is_refused():
    with pytest.raises(UserError, match="scheduled_sampling: expected a share from 0 to 1"):
        Configuration(scheduled_sampling=1.5)


def test_a_run_of_soft_attention_and_scheduled_sampling_trains_tunes_and_captions(
    squares_settings, squares, tmp_path, monkeypatch
):
    from keras_aoa.evaluation import evaluate
    from keras_aoa.inference.image_captioner import ImageCaptioner
    from keras_aoa.training.loop import train

    monkeypatch.setattr(evaluate, "start_meteor", lambda: False)
    first = dataclasses.replace(
        squares_settings,
        output=str(tmp_path),
        name="first",
        variant="soft",
        scheduled_sampling=0.5,
        joint_epochs=0,
    )
    run = train(first)
    tuned = dataclasses.replace(
        first, name="tuned", start_from=str(run.folder), rnn_epochs=0, joint_epochs=1
    )
    caption = ImageCaptioner(train(tuned).folder).caption(squares / "03.png")
    assert caption.words
    np.testing.assert_allclose(caption.attention.sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(caption.attention, 1 / caption.attention.shape[1], atol=1e-6)
