"""Losses beside that of the words, against their definitions in NumPy, and in a training step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny
from steps import SGD

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.extra_losses import EXTRA_LOSSES
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
