"""The rewards of sampled captions against pycocoevalcap's scorers."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from keras_aoa.data.text.vocabulary import OOV, PAD, STOP, Vocabulary
from keras_aoa.models.weights import load_arrays
from keras_aoa.training import reward as reward_module
from keras_aoa.training.reward import CaptionReward, keep_frequencies
from keras_aoa.utils.errors import UserError

VOCABULARY = Vocabulary(["a", "dog", "cat", "red", "runs", "on", "the", "grass", "sits"])
RARE = ["zebra", "yak", "newt"]  # in references only


def make_references(images=60, seed=0):
    """One to five references for each image, of one to nine words."""
    random = np.random.default_rng(seed)
    words = np.array([*VOCABULARY.words[4:], *RARE])
    return [
        [
            " ".join(random.choice(words, random.integers(1, 10)))
            for _ in range(random.integers(1, 6))
        ]
        for _ in range(images)
    ]


def make_captions(references, seed=1, time=12):
    """A caption for each image: parts of references, other words, OOV, some without STOP."""
    random = np.random.default_rng(seed)
    rows = []
    for texts in references:
        known = texts[0].split() if random.random() < 0.8 else references[0][0].split()
        ids = [VOCABULARY.words.index(w) if w in VOCABULARY.words else OOV for w in known]
        ids = [
            random.integers(3, len(VOCABULARY.words)) if random.random() < 0.2 else i for i in ids
        ]
        ids = [*ids, *ids][: random.integers(1, time)]
        if random.random() < 0.7:
            ids = [*ids[: time - 1], STOP]
        rows.append([*ids, *[PAD] * (time - len(ids))])
    return np.array(rows)


def as_text(references, captions):
    """References and captions in the format of pycocoevalcap's scorers, with STOP as a word."""
    truths = {i: [f"{text} <stop>" for text in texts] for i, texts in enumerate(references)}
    answers = {
        i: [" ".join(VOCABULARY.words[word] for word in row if word != PAD)]
        for i, row in enumerate(captions)
    }
    return truths, answers


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_scores_equal_those_of_pycocoevalcap(seed):
    references = make_references(seed=seed)
    captions = make_captions(references, seed)
    truths, answers = as_text(references, captions)
    images = np.arange(len(references))
    cider = CaptionReward(references, VOCABULARY)(images, captions)
    bleu = CaptionReward(references, VOCABULARY, cider=0, bleu=1)(images, captions)
    expected = Cider().compute_score(truths, answers)[1]
    assert 0.2 < np.mean(expected) < 9
    np.testing.assert_allclose(cider, expected, rtol=0, atol=1e-9)
    expected = Bleu(4).compute_score(truths, answers, verbose=0)[1][3]
    np.testing.assert_allclose(bleu, expected, rtol=0, atol=1e-9)
    both = CaptionReward(references, VOCABULARY, cider=0.5, bleu=2)(images, captions)
    np.testing.assert_allclose(both, 0.5 * cider + 2 * bleu, atol=1e-9)


def test_a_batch_has_the_scores_of_the_whole_split():
    references = make_references()
    captions = make_captions(references)
    reward = CaptionReward(references, VOCABULARY, bleu=1)
    whole = reward(np.arange(len(references)), captions)
    chosen = np.array([7, 3, 3, 59, 0])
    np.testing.assert_allclose(reward(chosen, captions[chosen]), whole[chosen], atol=1e-12)
    assert reward(np.zeros(0, int), np.zeros((0, 5), int)).shape == (0,)


def test_a_reference_of_its_image_has_the_highest_reward():
    references = [["a dog runs on the grass"], ["a red cat sits"], ["the newt sits on a yak"]]
    reward = CaptionReward(references, VOCABULARY)
    ids = [VOCABULARY.words.index(word) for word in references[0][0].split()]
    whole = [*ids, STOP, PAD]
    captions = np.array([whole, [*ids, PAD, PAD], [*ids[:-1], STOP, PAD, PAD], [PAD] * 8])
    rewards = reward(np.zeros(4, int), captions)
    assert rewards[0] == pytest.approx(10)
    assert (np.diff(rewards[:3]) < 0).all(), "less without STOP, and less without the last word"
    assert rewards[3] == 0


def test_a_caption_ends_badly_without_stop_or_after_a_word_that_ends_no_reference():
    reward = CaptionReward([["a dog runs"], ["a cat sits on the grass"]], VOCABULARY)
    a, dog, runs, grass = (VOCABULARY.words.index(w) for w in ("a", "dog", "runs", "grass"))
    captions = [
        [dog, runs, STOP, PAD],
        [a, grass, STOP, PAD],
        [a, dog, STOP, PAD],
        [a, dog, runs, runs],
        [STOP, PAD, PAD, PAD],
        [OOV, STOP, PAD, PAD],
    ]
    found = reward.ends_badly(np.array(captions))
    np.testing.assert_array_equal(found, [False, False, True, True, True, True])


def test_words_beyond_the_largest_number_count_as_one_word(monkeypatch):
    monkeypatch.setattr(reward_module, "MOST_WORDS", len(VOCABULARY.words) + 1)
    several = [["a zebra runs"], ["a yak runs"], ["the dog sits"]]
    one = [["a zebra runs"], ["a zebra runs"], ["the dog sits"]]
    caption = np.array([[VOCABULARY.words.index("a"), VOCABULARY.words.index("runs"), STOP]])
    found = [CaptionReward(texts, VOCABULARY)(np.array([1]), caption) for texts in (several, one)]
    assert found[0] == found[1] > 0


def test_document_frequencies_count_the_images_with_an_n_gram_and_are_kept(tmp_path):
    file = tmp_path / "frequencies.npz"
    references = [["a dog runs", "a dog sits"], ["a red dog"], ["the cat sits"]]
    reward = CaptionReward(references, VOCABULARY)
    keep_frequencies(file, reward)
    saved, _ = load_arrays(file)
    # All images have STOP. Two images each have "a", "dog", "sits", and "sits" before STOP.
    assert np.bincount(saved["frequencies"]).tolist() == [0, 25, 4, 1]
    content = file.read_bytes()
    keep_frequencies(file, CaptionReward(references, VOCABULARY))
    assert file.read_bytes() == content
    for others in ([*references[:2], ["the cat runs"]], references[::-1]):
        with pytest.raises(UserError, match=r"frequencies\.npz: stage 3 began with other training"):
            keep_frequencies(file, CaptionReward(others, VOCABULARY))
    assert file.read_bytes() == content
