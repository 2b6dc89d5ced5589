"""Diversity of a few captions, counted by hand."""

from dataclasses import asdict

import pytest

from keras_aoa.evaluation.diversity import diversity

# 10 words: a, red, dog, runs, cat. 7 pairs: a red, red dog, dog runs, red cat.
CAPTIONS = ("A red dog runs.", "a red dog", "a red cat!")


def test_diversity_equals_the_counts_by_hand():
    # "a red" occurs inside a training caption, but is not one.
    training = ("a RED dog , runs", "a red dog sleeps", "a red")
    assert asdict(diversity(CAPTIONS, training)) == {
        "distinct_1": pytest.approx(5 / 10),
        "distinct_2": pytest.approx(4 / 10),
        "vocabulary_used": 5,
        "mean_length": pytest.approx(10 / 3),
        "novel_captions": pytest.approx(2 / 3),
    }


def test_pairs_do_not_join_two_captions():
    assert diversity(["a b", "c d"]).distinct_2 == 2 / 4


def test_novelty_is_unknown_without_training_captions():
    assert diversity(CAPTIONS).novel_captions is None


def test_empty_captions_have_no_words():
    found = diversity(["", ""], ["a"])
    assert (found.distinct_1, found.distinct_2, found.mean_length) == (0, 0, 0)
    assert found.novel_captions == 1
