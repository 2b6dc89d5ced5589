"""Topics of captions: counts of words, mixtures, and the missing package."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import LatentDirichletAllocation

from keras_aoa.data.examples import Example
from keras_aoa.data.text.topics import (
    check_scikit_learn,
    content_ids,
    find_topics,
    topic_mixtures,
    word_counts,
)
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.utils.errors import UserError

SEA = ("a boat on the sea", "the sea and a sail boat", "waves on the sea")
CITY = ("a bus on a street", "the street with a car and a bus", "a car in a street")
TEXTS = [SEA[:2], SEA[1:], SEA, SEA[::2], CITY[:2], CITY[1:], CITY, CITY[::2], ("",), (*SEA, *CITY)]
EXAMPLES = [Example(str(i), f"{i}.png", tuple(texts)) for i, texts in enumerate(TEXTS)]
VOCABULARY = Vocabulary.from_captions([*SEA, *CITY], 1)


def test_counts_are_those_of_content_words_in_all_captions_of_an_image():
    counts = word_counts(EXAMPLES, VOCABULARY, content_ids(VOCABULARY)).toarray()
    words = [word for word in VOCABULARY.words[4:] if word not in "a on the and with in".split()]  # noqa: SIM905
    assert counts.shape == (len(EXAMPLES), len(words)) and len(words) == 7
    for row, texts in zip(counts, TEXTS, strict=True):
        for count, word in zip(row, words, strict=True):
            assert count == sum(text.split().count(word) for text in texts)


def test_images_of_one_theme_have_one_topic():
    topics = find_topics(EXAMPLES, VOCABULARY, 2)
    mixtures = topic_mixtures(EXAMPLES, VOCABULARY, topics)
    assert mixtures.shape == (len(EXAMPLES), 2) and mixtures.dtype == np.float32
    np.testing.assert_allclose(mixtures.sum(axis=1), 1, rtol=1e-5)
    sea = mixtures[0].argmax()
    assert (mixtures[:4, sea] > 0.8).all() and (mixtures[4:8, sea] < 0.2).all()
    np.testing.assert_allclose(mixtures[8], 0.5, rtol=1e-5)  # no words
    assert (mixtures[9] > 0.3).all()
    np.testing.assert_array_equal(find_topics(EXAMPLES, VOCABULARY, 2).weights, topics.weights)


def test_mixtures_are_those_of_scikit_learn_and_do_not_depend_on_other_images():
    topics = find_topics(EXAMPLES, VOCABULARY, 3)
    counts = word_counts(EXAMPLES, VOCABULARY, topics.ids)
    expected = LatentDirichletAllocation(3, random_state=0).fit_transform(counts)
    mixtures = topic_mixtures(EXAMPLES, VOCABULARY, topics)
    np.testing.assert_array_equal(mixtures, expected.astype(np.float32))
    np.testing.assert_array_equal(topic_mixtures(EXAMPLES[3:5], VOCABULARY, topics), mixtures[3:5])


def test_captions_without_content_words_are_refused():
    with pytest.raises(UserError, match="expected content words in the captions of 1 images"):
        find_topics([Example("a", "a.png", ("on the",))], VOCABULARY, 2)


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(monkeypatch):
    check_scikit_learn()
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(UserError, match=r"pip install 'keras-aoa\[topics\]'\.$") as refusal:
        check_scikit_learn()
    assert "\n" not in str(refusal.value)
