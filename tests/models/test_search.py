"""Greedy and beam search, compared with all captions enumerated by definition."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import decode_captions

WORDS, IMAGES = tiny.WORDS, tiny.make_images(3)
every_variant = pytest.mark.parametrize("variant", tiny.VARIANTS)


def captions_of(captioner, images=IMAGES, **settings):
    """Return the hypotheses that a search finds, see `hypotheses`."""
    return hypotheses(search(captioner, captioner.encode(images), **settings))


def hypotheses(result):
    """Return each image's hypotheses, best first: (ids without padding, log p, score, p(r))."""
    parts = [np.asarray(part) for part in result[:4]]
    return [
        [(tuple(ids[ids != PAD].tolist()), *rest) for ids, *rest in zip(*beams, strict=True)]
        for beams in zip(*parts, strict=True)
    ]


@functools.cache
def searched(variant):
    """Return a variant's captioner, its encoded images, and what a search with 4 beams finds."""
    captioner = tiny.kept_captioner(variant, weights=1)
    encoded = captioner.encode(IMAGES)
    return captioner, encoded, search(captioner, encoded, beam=4, max_words=4)


def assert_same(captions, expected):
    """Assert that two results of `captions_of` are equal, up to rounding."""
    for beams, others in zip(captions, expected, strict=True):
        assert [beam[0] for beam in beams] == [other[0] for other in others]
        for beam, other in zip(beams, others, strict=True):
            for number, expected_number in zip(beam[1:], other[1:], strict=True):
                np.testing.assert_allclose(number, expected_number, rtol=1e-4, atol=1e-4)


@every_variant
def test_beam_1_chooses_the_most_likely_word_at_each_step(variant):
    captioner = tiny.kept_captioner(variant, weights=1)
    captions = captions_of(captioner, beam=1, max_words=4)
    expected = [ReferenceCaptioner(captioner, image).greedy(4) for image in IMAGES]
    assert [words for [(words, *_)] in captions] == expected


@every_variant
@pytest.mark.parametrize(("seed", "steps", "beam"), [(0, 2, WORDS), (1, 3, WORDS**2)])
def test_a_wide_beam_finds_the_best_of_all_captions_in_order(variant, seed, steps, beam):
    captioner = tiny.kept_captioner(variant, seed)
    captions = captions_of(captioner, beam=beam, max_words=steps)
    for image, beams in zip(IMAGES, captions, strict=True):
        every = ReferenceCaptioner(captioner, image).captions(steps)
        best = sorted(every.values(), reverse=True)[:beam]
        assert len(every) > beam
        np.testing.assert_allclose([beam[1] for beam in beams], best, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose([every[beam[0]] for beam in beams], best, rtol=1e-4, atol=1e-4)
        assert [beam[2] for beam in beams] == [beam[1] for beam in beams]


def test_greedy_search_misses_optima_that_a_wide_beam_finds():
    captioner = tiny.kept_captioner(weights=1)
    images = tiny.make_images(12, seed=4)
    greedy = captions_of(captioner, images, beam=1, max_words=3)
    wide = captions_of(captioner, images, beam=WORDS**2, max_words=3)
    gains = [best[1] - only[1] for [only], [best, *_] in zip(greedy, wide, strict=True)]
    assert min(gains) > -1e-5
    assert max(gains) > 0.1


@pytest.mark.parametrize("length_penalty", [0.7, 1.0, 2.0])
def test_the_length_penalty_divides_by_a_power_of_the_length_including_stop(length_penalty):
    captioner = tiny.kept_captioner(weights=1)
    captions = captions_of(captioner, beam=WORDS**2, max_words=3, length_penalty=length_penalty)
    for image, beams in zip(IMAGES, captions, strict=True):
        every = ReferenceCaptioner(captioner, image).captions(3)
        scores = {words: log_p / len(words) ** length_penalty for words, log_p in every.items()}
        best = sorted(scores.values(), reverse=True)[: WORDS**2]
        np.testing.assert_allclose([beam[2] for beam in beams], best, rtol=1e-4, atol=1e-4)
        for words, log_prob, score, _ in beams:
            np.testing.assert_allclose(log_prob, every[words], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(score, scores[words], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [*tiny.VARIANTS, "semantic"])
def test_log_probabilities_equal_those_of_training_on_the_caption(variant):
    captioner, encoded, result = searched(variant)
    start = np.full((len(IMAGES), 4, 1), START)
    captions = tf.constant(np.concatenate([start, result.ids], axis=2), tf.int32)
    expected = np.sum(decode_captions(captioner, encoded, captions).log_probs, axis=2)
    np.testing.assert_allclose(result.log_probs, expected, rtol=1e-4, atol=1e-4)


@every_variant
def test_attention_comes_from_the_state_that_predicted_the_word(variant):
    captioner, _, result = searched(variant)
    for image, beams in zip(IMAGES, hypotheses(result), strict=True):
        reference = ReferenceCaptioner(captioner, image)
        for words, _, _, attention in beams:
            for index in range(len(words)):
                _, expected = reference.predict(words[:index])
                np.testing.assert_allclose(attention[index], expected, rtol=1e-3, atol=1e-4)
                np.testing.assert_allclose(attention[index].sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_hypotheses_are_distinct_sorted_and_end_at_stop(length_penalty):
    captioner = tiny.kept_captioner(weights=1)
    images = tiny.make_images(6, seed=2)
    captions = captions_of(captioner, images, beam=6, max_words=4, length_penalty=length_penalty)
    lengths = set()
    for beams in captions:
        assert len({words for words, *_ in beams}) == 6
        scores = [score for _, _, score, _ in beams]
        assert scores == sorted(scores, reverse=True)
        for words, *_ in beams:
            assert STOP not in words[:-1]
            assert words[-1] == STOP or len(words) == 4
            lengths.add(len(words))
    assert len(lengths) >= 3


def test_padding_follows_only_stop():
    captioner = tiny.kept_captioner(weights=1)
    ids = np.asarray(search(captioner, captioner.encode(IMAGES), beam=6, max_words=4).ids)
    assert ids.shape == (len(IMAGES), 6, 4)
    np.testing.assert_array_equal(ids == PAD, np.cumsum(ids == STOP, axis=2) - (ids == STOP) > 0)


@every_variant
def test_unknown_words_padding_and_start_are_never_generated(variant):
    captioner = tiny.make_captioner(variant, weights=3)
    first_words = {
        int(np.argmax(ReferenceCaptioner(captioner, image).predict(())[0])) for image in IMAGES
    }
    words = captioner.attention.words
    if OOV not in first_words:  # swap its embedding with that of a word that is generated
        order = np.arange(WORDS)
        generated = min(first_words)
        order[[OOV, generated]] = generated, OOV
        words.assign(np.asarray(words)[order])
    assert OOV in {
        int(np.argmax(ReferenceCaptioner(captioner, image).predict(())[0])) for image in IMAGES
    }
    for beam in (1, 4):
        for beams in captions_of(captioner, beam=beam, max_words=2):
            for ids, *_ in beams:
                assert not {PAD, START, OOV} & set(ids)


@pytest.mark.parametrize("beam", [1, 4])
def test_captions_of_one_word_are_the_most_likely_first_words(beam):
    captioner = tiny.kept_captioner(weights=1)
    for image, beams in zip(IMAGES, captions_of(captioner, beam=beam, max_words=1), strict=True):
        log_probs, _ = ReferenceCaptioner(captioner, image).predict(())
        log_probs[OOV] = -np.inf
        order = np.argsort(-log_probs)[:beam]
        assert [words for words, *_ in beams] == [(word,) for word in order]


@pytest.mark.parametrize("length_penalty", [-1e300, -500.0, -5.0, 0.0, 1.0, 50.0, 500.0])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_beam_beyond_the_number_of_captions_finds_each_once(steps, length_penalty):
    captioner = tiny.kept_captioner(weights=1)
    settings = {"beam": 24, "max_words": steps, "length_penalty": length_penalty}
    for image, beams in zip(IMAGES, captions_of(captioner, **settings), strict=True):
        every = ReferenceCaptioner(captioner, image).captions(steps)
        order = sorted(
            every,
            key=lambda words: (
                np.clip(length_penalty, -1e6, 1e6) * np.log(len(words)) - np.log(-every[words])
            ),
            reverse=True,
        )
        assert len(every) < 24
        assert [words for words, *_ in beams[: len(every)]] == order
        for words, log_prob, *_ in beams[: len(every)]:
            np.testing.assert_allclose(log_prob, every[words], rtol=1e-4, atol=1e-4)
        for words, log_prob, score, attention in beams[len(every) :]:
            assert (words, log_prob, score) == ((), -np.inf, -np.inf)
            assert not attention.any()


@pytest.mark.parametrize("length_penalty", [-500.0, -5.0, 50.0, 500.0])
def test_an_extreme_length_penalty_ranks_by_length(length_penalty):
    captioner = tiny.kept_captioner(weights=1)
    settings = {"beam": 3, "max_words": 5, "length_penalty": length_penalty}
    for beams in captions_of(captioner, **settings):
        lengths = [len(words) for words, *_ in beams]
        assert lengths == sorted(lengths, reverse=length_penalty > 0)
        assert len({words for words, *_ in beams}) == 3
        assert min(log_prob for _, log_prob, *_ in beams) > -100


def test_padding_and_start_are_never_generated_even_if_the_network_predicts_them():
    captioner = tiny.make_captioner(weights=1)
    decode = captioner.decode_step

    def certain_of_padding(*inputs):
        *others, log_probs, region_probs = decode(*inputs)
        return *others, tf.where(tf.range(WORDS) <= START, 0.0, log_probs), region_probs

    captioner.decode_step = certain_of_padding
    for beams in captions_of(captioner, beam=4, max_words=3):
        for words, log_prob, *_ in beams:
            assert not {PAD, START} & set(words)
            assert np.isfinite(log_prob)


@pytest.mark.parametrize("beam", [1, 3])
def test_images_of_a_batch_do_not_influence_each_other(beam):
    captioner = tiny.kept_captioner(weights=1)
    batched = captions_of(captioner, beam=beam, max_words=3)
    single = [captions_of(captioner, image[None], beam=beam, max_words=3)[0] for image in IMAGES]
    assert_same(batched, single)


@pytest.mark.parametrize("variant", ["baseline", "full", "soft", "hard", "review"])
def test_a_compiled_graph_for_images_of_any_number_and_size_gives_the_same_captions(variant):
    captioner = tiny.kept_captioner(variant, weights=1)

    def captions(images):
        return search(captioner, captioner.encode(images), beam=3, max_words=3)

    any_size = tf.TensorSpec((None, None, None, 3))
    run = tf.function(captions, input_signature=[any_size], autograph=False)
    for images in (IMAGES, IMAGES[:1]):
        result, expected = run(images), captions(images)
        np.testing.assert_array_equal(result.ids, expected.ids)
        for part, other in zip(result[1:], expected[1:], strict=True):
            np.testing.assert_allclose(part, other, rtol=1e-4, atol=1e-5)
