"""Tests that sentences tokenized in the graph have the tokenizer's words and vocabulary's ids."""

import gzip

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD, START, Vocabulary
from keras_aoa.serving.sentences import MAX_WORDS, SentenceReader, separate_words

VOCABULARY = Vocabulary(["a", "man", "'s", "dog", "does", "n't", "run", "left", "café"])
READER = SentenceReader(VOCABULARY.words)


def words_of(sentences):
    """Return the words of each sentence."""
    return [text.decode("utf-8").split() for text in separate_words(tf.constant(sentences)).numpy()]


@pytest.mark.parametrize(
    "sentence",
    [
        "A man's dog doesn't run.",
        "The DOG'S bowl isn\u2019t full",
        "They're here; we've won, she'll see, I'm in",
        "cannot gonna Wanna gotta cannots",
        "the dogs' day, goin' home",
        "o'clock O'Neil",
        "A black-and-white t-shirt - X-ray -- now",
        "1,000 people, $5.00 and 50% off #1",
        "\"White out\" ``said'' \u201che\u201d \u2018now\u2019",
        "two dogs (one red) run",
        "Mr. Smith and Dr. Jones, etc.",
        "café, naïve",
        "A dog.\nA\tcat\r\n runs .",
        "what are they doing?",
        " .,;:?-'\"` ",
        "",
    ],
)
def test_words_equal_those_of_the_tokenizer(sentence):
    assert words_of([sentence]) == [tokenize(sentence)]


def test_words_of_nearly_all_real_captions_equal_those_of_the_tokenizer(shared):
    path = shared / "data/flickr30k/results_20130124.token.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        captions = [line.split("\t")[1].strip() for line in file]
    differ = [
        caption
        for caption, words in zip(captions, words_of(captions), strict=True)
        if words != tokenize(caption)
    ]
    assert len(captions) > 140_000
    assert len(differ) < len(captions) / 1000, differ[:50]


def test_ids_equal_those_of_the_vocabulary():
    sentences = ["A man's dog doesn't run.", "a CAFÉ, left!", "", "zebra \u0142"]
    ids = READER(tf.constant([sentences[:2], sentences[2:]])).numpy()
    assert ids.shape == (2, 2, 7 + 2)
    for row, sentence in zip(ids.reshape(4, -1), sentences, strict=True):
        expected = VOCABULARY.encode(sentence, MAX_WORDS)
        assert row.tolist() == expected + [PAD] * (len(row) - len(expected))


def test_a_long_sentence_is_truncated_without_stop():
    ids = READER(tf.constant(["dog " * (MAX_WORDS + 1), "dog " * MAX_WORDS])).numpy()
    for row, count in zip(ids, (MAX_WORDS + 1, MAX_WORDS), strict=True):
        expected = VOCABULARY.encode("dog " * count, MAX_WORDS)
        assert row.tolist() == expected + [PAD] * (len(row) - len(expected))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_batch_gives_empty_ids(shape):
    ids = READER(tf.constant(np.zeros(shape, "S")))
    assert ids.shape == (*shape, 2)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_accepted(data):
    ids = READER(tf.constant([data])).numpy()
    assert ids[0, 0] == START
    assert ids.max() < len(VOCABULARY)
