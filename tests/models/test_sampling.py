"""Sampled words and captions against the distributions that they are sampled from."""

import numpy as np
import pytest
import tiny
from enumeration import all_captions

from keras_aoa.models.sampling import sample_captions, sample_words
from keras_aoa.models.teacher_forcing import decode_captions


@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.7, 1 - 2**-24])
def test_a_word_is_the_first_whose_cumulative_probability_exceeds_the_number(uniform):
    random = np.random.default_rng(0)
    for words in (1, 5, 3000):
        probs = random.dirichlet(np.ones(words + 2), 40).astype("float32")
        probs[:, [0, -1]] = 0  # words that are never predicted, at both ends
        with np.errstate(divide="ignore"):
            log_probs = np.log(probs)[:, None]
        found = np.asarray(sample_words(log_probs, np.full((40, 1), uniform, "float32")))[:, 0]
        below = np.cumsum(probs, axis=1, dtype="float64") / probs.sum(1, dtype="float64")[:, None]
        rows = np.arange(40)
        assert (probs[rows, found] > 0).all()
        assert (below[rows, found] > uniform - 1e-5).all()
        assert (below[rows, found - 1] < uniform + 1e-5).all()


def test_captions_occur_as_often_as_their_probability():
    captioner, count, steps = tiny.make_captioner(weights=3), 5000, 3
    encoded = captioner.encode(tiny.make_images(1))
    captions = all_captions(steps)
    log_probs = decode_captions(captioner, encoded, captions[None]).log_probs
    probs = np.exp(np.sum(np.asarray(log_probs), axis=2))[0]
    assert probs.sum() == pytest.approx(1, abs=1e-4)

    uniform = np.random.default_rng(1).random((1, count, steps), "float32")
    sampled = np.asarray(sample_captions(captioner, encoded, uniform))[0]
    found, counts = np.unique(sampled, axis=0, return_counts=True)
    shares = {tuple(caption): number / count for caption, number in zip(found, counts, strict=True)}
    assert shares.keys() <= set(map(tuple, captions))
    for caption, expected in zip(captions, probs, strict=True):
        error = np.sqrt(expected * (1 - expected) / count)
        assert abs(shares.get(tuple(caption), 0) - expected) < 4 * error + 1e-3, caption


def test_images_have_captions_of_their_own_numbers():
    captioner = tiny.make_captioner(weights=3)
    images = tiny.make_images(3)
    uniform = np.random.default_rng(2).random((3, 4, 6), "float32")
    together = np.asarray(sample_captions(captioner, captioner.encode(images), uniform))
    for number in range(3):
        encoded = captioner.encode(images[number : number + 1])
        alone = np.asarray(sample_captions(captioner, encoded, uniform[number : number + 1]))
        np.testing.assert_array_equal(alone[0], together[number])
    assert len(np.unique(together.reshape(12, -1), axis=0)) > 6
