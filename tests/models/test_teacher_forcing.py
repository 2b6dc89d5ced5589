"""Given captions, followed by the step of search: training's probabilities, search's attention."""

import numpy as np
import pytest
import tiny

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import teacher_forcing

IMAGES = tiny.make_images(2)
CAPTIONS = np.array(
    [
        [[START, 4, 6, 7, STOP], [START, OOV, STOP, PAD, PAD], [START, STOP, PAD, PAD, PAD]],
        [[START, 5, 5, 5, 5], [START, 7, 4, STOP, PAD], [START, 6, STOP, PAD, PAD]],
    ]
)
every_variant = pytest.mark.parametrize("variant", tiny.VARIANTS)


@every_variant
def test_log_probabilities_are_those_of_training(variant):
    captioner = tiny.make_captioner(variant)
    encoded = captioner.encode(IMAGES)
    expected = captioner.caption_log_probs(encoded, CAPTIONS)
    found = teacher_forcing(captioner, encoded, CAPTIONS)
    np.testing.assert_allclose(found.log_probs, expected, rtol=1e-4, atol=1e-5)
    assert not np.asarray(found.log_probs)[CAPTIONS[:, :, 1:] == PAD].any()


@every_variant
def test_attention_is_that_of_search_for_its_own_captions(variant):
    captioner = tiny.make_captioner(variant)
    encoded = captioner.encode(IMAGES)
    own = search(captioner, encoded, beam=3, max_words=4)
    ids = np.asarray(own.ids)
    given = np.concatenate([np.full((2, 3, 1), START), ids], axis=2)
    found = teacher_forcing(captioner, encoded, given)
    said = ids != PAD
    np.testing.assert_allclose(
        np.asarray(found.attention)[said], np.asarray(own.attention)[said], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        np.asarray(found.log_probs).sum(axis=2), own.log_probs, rtol=1e-4, atol=1e-4
    )
    assert said.sum() >= 12
