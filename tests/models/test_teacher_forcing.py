"""Teacher forcing gives the log-probabilities of training and the attention of search."""

import numpy as np
import pytest
import tiny

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import decode_captions, teacher_forcing

IMAGES = tiny.make_images(2)
CAPTIONS = np.array(
    [
        [[START, 4, 6, 7, STOP], [START, OOV, STOP, PAD, PAD], [START, STOP, PAD, PAD, PAD]],
        [[START, 5, 5, 5, 5], [START, 7, 4, STOP, PAD], [START, 6, STOP, PAD, PAD]],
    ]
)
every_variant = pytest.mark.parametrize("variant", tiny.VARIANTS)


@every_variant
def test_log_probabilities_equal_those_of_training(variant):
    captioner = tiny.make_captioner(variant)
    encoded = captioner.encode(IMAGES)
    expected = decode_captions(captioner, encoded, CAPTIONS).log_probs
    result = teacher_forcing(captioner, encoded, CAPTIONS)
    np.testing.assert_allclose(result.log_probs, expected, rtol=1e-4, atol=1e-5)
    assert not np.asarray(result.log_probs)[CAPTIONS[:, :, 1:] == PAD].any()


@pytest.mark.parametrize("variant", [*tiny.VARIANTS, "semantic"])
def test_attention_equals_that_of_search_for_generated_captions(variant):
    captioner = tiny.make_captioner(variant)
    encoded = captioner.encode(IMAGES)
    generated = search(captioner, encoded, beam=3, max_words=4)
    ids = np.asarray(generated.ids)
    captions = np.concatenate([np.full((2, 3, 1), START), ids], axis=2)
    forced = teacher_forcing(captioner, encoded, captions)
    is_word = ids != PAD
    np.testing.assert_allclose(
        np.asarray(forced.attention)[is_word],
        np.asarray(generated.attention)[is_word],
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        np.asarray(forced.log_probs).sum(axis=2), generated.log_probs, rtol=1e-4, atol=1e-4
    )
    assert is_word.sum() >= 12
