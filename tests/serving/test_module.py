"""The exported graph of a tiny captioner searches with the given settings."""

import re

import numpy as np
import pytest
import tiny

from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.serving.module import ServedCaptioner

VOCABULARY = Vocabulary(["red", "ball", "blue", "box"])
IMAGES = np.round(tiny.make_images(6)).astype(np.uint8)
SEARCH = {"beam": 3, "max_words": 5, "stride": 1}


@pytest.fixture(scope="module")
def captioner():
    return tiny.make_captioner(weights=1)


def live(captioner, vocabulary=VOCABULARY, **settings):
    """Texts and log-probabilities of all hypotheses of the live search."""
    found = CaptionGenerator(captioner, vocabulary, **settings).hypotheses(IMAGES.astype("float32"))
    return [[caption.text for caption in beams] for beams in found], [
        [caption.log_prob for caption in beams] for beams in found
    ]


def test_the_graph_ranks_with_the_length_penalty_as_the_live_search_does(captioner):
    plain, _ = live(captioner, **SEARCH, length_penalty=0.0)
    expected, log_probs = live(captioner, **SEARCH, length_penalty=1.0)
    assert [beams[0] for beams in plain] != [beams[0] for beams in expected]
    served = ServedCaptioner(
        captioner, VOCABULARY, ImageSettings(tiny.SIDE), None, {**SEARCH, "length_penalty": 1.0}
    )
    answer = served.signatures["pixels"](IMAGES)
    texts = [[text.decode() for text in beams] for beams in answer["captions"].numpy()]
    assert texts == expected
    np.testing.assert_allclose(answer["log_probs"], log_probs, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"min_words": 4, "no_repeat": 1},
        {"prefix": "blue ball", "avoid": ("red",)},
        {"groups": 3, "diversity": 2.0},
        {"sample": True, "temperature": 1.5, "top_k": 3, "top_p": 0.9, "seed": 4},
    ],
)
def test_the_graph_has_the_options_of_the_live_search(captioner, options):
    settings = {**SEARCH, "length_penalty": 0.7}
    plain, _ = live(captioner, **settings)
    expected, log_probs = live(captioner, **settings, **options)
    assert expected != plain
    served = ServedCaptioner(
        captioner, VOCABULARY, ImageSettings(tiny.SIDE), None, {**settings, **options}
    )
    answer = served.signatures["pixels"](IMAGES)
    texts = [[text.decode() for text in beams if text] for beams in answer["captions"].numpy()]
    assert texts == [[text for text in beams if text] for beams in expected]
    for found, own in zip(answer["log_probs"].numpy(), log_probs, strict=True):
        np.testing.assert_allclose(found[np.isfinite(found)], own, atol=1e-4)


def test_words_of_scripts_without_spaces_are_joined_as_in_the_live_captions(captioner):
    vocabulary = Vocabulary(["\u4e00", "\u53ea", "cat", "\u72d7"])
    expected, _ = live(captioner, vocabulary, **SEARCH, length_penalty=0.0)
    served = ServedCaptioner(
        captioner, vocabulary, ImageSettings(tiny.SIDE), None, {**SEARCH, "length_penalty": 0.0}
    )
    answer = served.signatures["pixels"](IMAGES)
    assert [[text.decode() for text in beams] for beams in answer["captions"].numpy()] == expected
    texts = [text for beams in expected for text in beams]
    assert any(re.search("[^a-z ]{2}", text) for text in texts)
    assert any(re.search("[^a-z ] cat|cat [^a-z ]", text) for text in texts)
