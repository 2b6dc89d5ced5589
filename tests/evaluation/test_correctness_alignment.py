"""Attention correctness measures each caption with its own attention, at its own words."""

import numpy as np

from keras_aoa.data.text.mentions import Mention
from keras_aoa.evaluation.correctness import tally
from keras_aoa.evaluation.correctness_measures import ImageRegions

COLUMNS = [(x, 0.0, x + 0.25, 1.0) for x in (0.0, 0.25, 0.5, 0.75)]
REGIONS = np.array([[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in COLUMNS])
IMAGE = ImageRegions(REGIONS, np.ones(4, bool), (0.0, 0.0, 1.0, 1.0))


def attention_at(word, columns):
    """Attention of captions of three words, `(c, 4, 4)`: at a word on a column, else on another."""
    attention = np.eye(4)[[[(column + 1) % 4] * 4 for column in columns]]
    for caption, column in enumerate(columns):
        attention[caption, word] = np.eye(4)[column]
    return attention


def test_each_caption_is_measured_with_its_own_attention():
    # The generated caption and three given ones attend to the columns 0, 2, 1 and 3.
    attended = [(7, attention_at(1, [0, 2, 1, 3]), IMAGE), (8, attention_at(1, [0]), IMAGE)]
    named = {7: [[Mention(1, (COLUMNS[column],))] for column in (0, 2, 1, 3)]}
    right = tally(attended, named)
    for kind, words in (("generated", 1), ("ground_truth", 3)):
        content = right[kind].content()
        assert (content["words"], content["captions"]) == (words, words)
        assert content["model"]["region"] == content["model"]["pointing"] == 1
        assert content["model_after_word"]["region"] == 0
    # With the boxes of the caption before, nothing is right.
    wrong = tally(attended, {7: [[Mention(1, (COLUMNS[column],))] for column in (3, 0, 2, 1)]})
    for kind in ("generated", "ground_truth"):
        assert wrong[kind].content()["model"]["region"] == 0


def test_only_the_state_that_predicts_a_word_counts():
    for index, expected in ((0, 0.0), (1, 1.0), (2, 0.0)):
        named = {7: [[], [Mention(index, (COLUMNS[2],))]]}
        found = tally([(7, attention_at(1, [0, 2]), IMAGE)], named)["ground_truth"].content()
        assert found["model"]["region"] == expected
        assert found["model_after_word"]["region"] == float(index == 0)
