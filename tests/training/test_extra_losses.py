"""Losses beside that of the words, against their definitions in NumPy, and in a training step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny
from steps import SGD

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.extra_losses import EXTRA_LOSSES, margin_loss
from keras_aoa.training.trainer import Trainer

CAPTIONS = np.array(
    [[[1, 4, 6, 7, 2], [1, 3, 2, 0, 0]], [[1, 5, 5, 4, 6], [0] * 5]], "int32"
)  # the second image has one caption
BATCH = {"images": tiny.make_images(2), "captions": CAPTIONS}
WORDS = 10
SETTINGS = Configuration(dropout=0, learning_rate=0.1, clip_norm=1e9)


def decode(captioner, mask=None):
    """The images of the batch, encoded with a mask of regions, and their decoded captions."""
    regions, vector = captioner.make_regions(captioner.extract_features(BATCH))
    if mask is not None:
        regions = regions._replace(mask=tf.constant(mask))
    encoded = captioner.encode_regions(regions, vector)
    return encoded, captioner.decode(encoded, BATCH)


def train(weight, name, variant="soft", **changes):
    """The loss that one step reports, and the weights after it."""
    settings = dataclasses.replace(SETTINGS, variant=variant, **{name: weight}, **changes)
    trainer = Trainer(tiny.make_captioner(variant), settings, 5, SGD)
    metrics, _ = trainer.step(BATCH, 1)
    return metrics["loss"], {name: np.array(v.value) for name, v in trainer.trained.items()}


# --- Coverage -------------------------------------------------------------------------------------

MASK = np.array([[True, True, False, True], [True, True, True, True]])


def coverage(captioner, encoded, decoded, mask):
    """Equation 14 of Xu et al. as loops."""
    probs = captioner.attention.region_probs(decoded.outputs, encoded.memory)
    probs = np.asarray(probs).reshape(2, 2, 4, tiny.REGIONS)
    total = 0.0
    for n, c in np.ndindex(2, 2):
        words = CAPTIONS[n, c, 1:]
        if words[0] == PAD:
            continue
        for r in range(tiny.REGIONS):
            if mask[n, r]:
                visits = sum(probs[n, c, t, r] for t in range(4) if words[t] != PAD)
                total += (1 - visits) ** 2
    return total


@pytest.mark.parametrize("variant", ["full", "soft"])
def test_coverage_is_the_papers_sum_over_words_and_real_regions(variant):
    captioner = tiny.make_captioner(variant)
    encoded, decoded = decode(captioner, MASK)
    found = EXTRA_LOSSES["attention_coverage"](captioner, BATCH, encoded, decoded)
    expected = coverage(captioner, encoded, decoded, MASK)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_step_adds_the_weighted_coverage_per_word_and_follows_its_gradient():
    captioner = tiny.make_captioner("soft")
    sum_of_squares = coverage(captioner, *decode(captioner), np.ones_like(MASK))
    plain, before = train(0.0, "attention_coverage")
    loss, after = train(0.5, "attention_coverage")
    assert loss == pytest.approx(plain + 0.5 * sum_of_squares / WORDS, rel=1e-5)
    (score,) = (name for name in after if name.endswith("score_hidden"))
    assert np.abs(after[score] - before[score]).max() > 1e-3


# --- Words of the review --------------------------------------------------------------------------


def margins(scores, captions):
    """The multi-label margin loss of Yang et al. as loops, and its gradient in the scores."""
    total, gradient = 0.0, np.zeros_like(scores)
    for n, own in enumerate(captions):
        words = set(own.ravel().tolist()) - {0, 1, 2, 3}
        for j in words:
            for i in set(range(4, scores.shape[1])) - words:
                margin = 1 - (scores[n, j] - scores[n, i])
                if margin > 0:
                    total += margin / scores.shape[1]
                    gradient[n, j] -= 1 / scores.shape[1]
                    gradient[n, i] += 1 / scores.shape[1]
    return total, gradient


def test_the_margin_loss_and_its_gradient_are_the_definitions():
    words = 12
    scores = np.random.default_rng(0).normal(size=(3, words))
    captions = np.array([[[1, 4, 9, 2], [1, 9, 3, 2]], [[1, 5, 6, 11], [0] * 4], [[0] * 4] * 2])
    positive = [[w in own and w > 3 for w in range(words)] for own in captions]
    negative = [[w not in own and w > 3 for w in range(words)] for own in captions]
    variable = tf.Variable(scores)
    with tf.GradientTape() as tape:
        loss = margin_loss(variable + 0.0, tf.constant(positive), tf.constant(negative)) / words
    expected, gradient = margins(scores, captions)
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(tape.gradient(loss, variable), gradient, rtol=1e-10, atol=1e-12)


def test_thoughts_name_the_words_of_the_captions():
    captioner = tiny.make_captioner("review", weights=4)
    encoded, decoded = decode(captioner)
    thoughts = np.asarray(encoded.memory.thoughts)
    scores = (thoughts @ np.asarray(captioner.attention.words).T).max(axis=1)
    expected, _ = margins(scores, CAPTIONS)
    assert expected > 0
    found = EXTRA_LOSSES["review_words"](captioner, BATCH, encoded, decoded)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_a_step_adds_the_weighted_loss_of_the_words():
    captioner = tiny.make_captioner("review")
    added = float(EXTRA_LOSSES["review_words"](captioner, BATCH, *decode(captioner)))
    (plain, before), (loss, after) = (train(w, "review_words", "review") for w in (0.0, 2.0))
    assert loss == pytest.approx(plain + 2 * added / WORDS, rel=1e-5)
    (kernel,) = (name for name in after if name.endswith("thought_kernel"))
    assert np.abs(after[kernel] - before[kernel]).max() > 1e-4
