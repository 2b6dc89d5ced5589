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
SEARCH = {"beam": 3, "max_words": 5, "stride": 1, "length_penalty": 0.0}


@pytest.fixture(scope="module")
def captioner():
    return tiny.make_captioner(weights=1)


def live(captioner, vocabulary=VOCABULARY, **settings):
    """Texts and log-probabilities of all hypotheses of the live search."""
    found = CaptionGenerator(captioner, vocabulary, **settings).hypotheses(IMAGES.astype("float32"))
    return [[caption.text for caption in beams] for beams in found], [
        [caption.log_prob for caption in beams] for beams in found
    ]


@pytest.fixture(scope="module")
def plain(captioner):
    """The hypotheses of the live search without further options, which several tests share."""
    return live(captioner, **SEARCH)


def check_served(captioner, vocabulary, settings, texts, log_probs):
    """Check that the exported graph finds the hypotheses of the live search."""
    served = ServedCaptioner(captioner, vocabulary, ImageSettings(tiny.SIDE), None, settings)
    answer = served.signatures["pixels"](IMAGES)
    found = [[text.decode() for text in beams if text] for beams in answer["captions"].numpy()]
    assert found == [[text for text in beams if text] for beams in texts]
    for row, own in zip(answer["log_probs"].numpy(), log_probs, strict=True):
        np.testing.assert_allclose(row[np.isfinite(row)], own, atol=1e-4)


# Without any one of its options, each of these searches finds other captions.
@pytest.mark.parametrize(
    "options",
    [
        {"min_words": 4, "no_repeat": 1, "groups": 3, "diversity": 2.0},
        {
            "prefix": "blue",
            "avoid": ("red",),
            "sample": True,
            "temperature": 1.5,
            "top_k": 2,
            "top_p": 0.6,
            "seed": 4,
        },
    ],
)
def test_the_graph_has_the_options_of_the_live_search(captioner, plain, options):
    settings = {**SEARCH, **options}
    expected, log_probs = live(captioner, **settings)
    assert expected != plain[0]
    check_served(captioner, VOCABULARY, settings, expected, log_probs)


def test_the_graph_ranks_and_joins_words_as_the_live_search_does(captioner, plain):
    """Ranks by the length penalty, and joins words of scripts without spaces."""
    vocabulary = Vocabulary(["\u4e00", "\u53ea", "cat", "\u72d7"])
    settings = {**SEARCH, "length_penalty": 1.0}
    expected, log_probs = live(captioner, vocabulary, **settings)
    assert [each[0] for each in log_probs] != [each[0] for each in plain[1]]
    check_served(captioner, vocabulary, settings, expected, log_probs)
    texts = [text for beams in expected for text in beams]
    assert any(re.search("[^a-z ]{2}", text) for text in texts)
    assert any(re.search("[^a-z ] cat|cat [^a-z ]", text) for text in texts)
