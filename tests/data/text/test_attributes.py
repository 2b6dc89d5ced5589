"""Attributes: their choice, the words that occur in captions, and their file."""

import json

import numpy as np
import pytest

from keras_aoa.data.examples import Example
from keras_aoa.data.text.attributes import (
    attribute_words,
    load_attributes,
    save_attributes,
    word_flags,
)
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.utils.errors import UserError

CAPTIONS = (
    ("A dog with a ball.", "The dog runs!", "a dog and a ball"),
    ("a cat on a mat", ""),
    ("Two dogs near the Ball of a cat; unknown things.",),
)
EXAMPLES = [Example(str(i), f"{i}.png", texts) for i, texts in enumerate(CAPTIONS)]
VOCABULARY = Vocabulary.from_captions(
    [text for texts in CAPTIONS for text in texts if "unknown" not in text], 1
)


def test_attributes_are_the_most_frequent_words_without_function_words():
    assert VOCABULARY.words[4:7] == ("a", "dog", "ball")
    assert attribute_words(VOCABULARY, 3) == ("dog", "ball", "cat")
    assert attribute_words(VOCABULARY, 5) == ("dog", "ball", "cat", "mat", "runs")
    with pytest.raises(UserError, match=r"concept_count: expected at most 5, .* received 6; lower"):
        attribute_words(VOCABULARY, 6)


def test_flags_say_which_words_occur_in_any_caption_of_an_image():
    for words in (("ball", "cat", "runs"), ("mat", "dog"), VOCABULARY.words[4:]):
        ids = [VOCABULARY.words.index(word) for word in words]
        flags = word_flags(EXAMPLES, VOCABULARY, ids)
        assert flags.dtype == bool
        for row, texts in zip(flags, CAPTIONS, strict=True):
            expected = [any(word in tokenize(text) for text in texts) for word in words]
            np.testing.assert_array_equal(row, expected)
    # The pretraining of the network of scenes flags special words, too.
    everything = word_flags(EXAMPLES, VOCABULARY, range(len(VOCABULARY)))
    assert everything[:, :4].tolist() == [
        [False, True, True, False],
        [False, True, True, False],
        [False, True, True, True],
    ]


def test_a_file_keeps_the_attributes(tmp_path):
    path = tmp_path / "concepts.json"
    save_attributes(path, ("cat", "ball"))
    ids, digest = load_attributes(path, VOCABULARY)
    assert [VOCABULARY.words[index] for index in ids] == ["cat", "ball"]
    save_attributes(path, ("ball", "cat"))
    assert load_attributes(path, VOCABULARY) == (ids[::-1], load_attributes(path, VOCABULARY)[1])
    assert load_attributes(path, VOCABULARY)[1] != digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read it"),
        ("{half", "expected attributes in JSON"),
        ("[]", "expected attributes in JSON"),
        ('{"format": 1}', "expected attributes in JSON"),
        ('{"format": 1, "words": [3]}', "expected attributes in JSON"),
        ('{"format": 2, "words": ["cat"]}', "expected attributes in JSON"),
        (json.dumps({"format": 1, "words": ["cat", "cow"]}), "'cow' is not in the run's voc"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "concepts.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as refusal:
        load_attributes(path, VOCABULARY)
    assert str(refusal.value).startswith(f"{path}: ") and message in str(refusal.value)
    assert "\n" not in str(refusal.value)
