"""Constraints, diverse groups and sampling, compared with all captions enumerated by definition."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP, Vocabulary
from keras_aoa.models.choices import Sampling
from keras_aoa.models.constraints import Constraints, search_arguments
from keras_aoa.models.search import search
from keras_aoa.utils.errors import UserError

WORDS, IMAGES, STEPS = tiny.WORDS, tiny.make_images(2), 3
EVERY = WORDS**STEPS  # a beam that loses nothing
CONSTRAINTS = (
    Constraints(min_words=2),
    Constraints(min_words=STEPS),
    Constraints(no_repeat=1),
    Constraints(no_repeat=2),
    Constraints(prefix=(5,)),
    Constraints(prefix=(7, 7), no_repeat=1),
    Constraints(avoid=(4, 6)),
    Constraints(prefix=(4,), avoid=(4,)),
    Constraints(min_words=2, no_repeat=1, prefix=(6,), avoid=(5,)),
)


def is_allowed(caption, constraints):
    """Whether a whole caption, ids without padding, obeys constraints."""
    words = [word for word in caption if word != STOP]
    given = len(constraints.prefix)
    free = range(given, len(words))
    size = constraints.no_repeat
    grams = [tuple(words[end - size + 1 : end + 1]) for end in range(len(words)) if end + 1 >= size]
    offset = max(size - 1, 0)
    repeats = size and any(
        grams[end - offset] in grams[: end - offset] for end in free if end >= offset
    )
    return (
        tuple(words[:given]) == constraints.prefix
        and len(words) >= constraints.min_words
        and not any(words[place] in constraints.avoid for place in free)
        and not repeats
    )


def beams_of(result):
    """Return each image's captions: ids without padding, log p, and log p of each word."""
    ids, log_probs, words = (
        np.asarray(part) for part in (result.ids, result.log_probs, result.word_log_probs)
    )
    return [
        [(tuple(own[own != PAD].tolist()), *rest) for own, *rest in zip(*parts, strict=True)]
        for parts in zip(ids, log_probs, words, strict=True)
    ]


@functools.cache
def enumerated(variant):
    """Return a captioner, and for each image: log p of the first words, and all its captions."""
    captioner = tiny.kept_captioner(variant, weights=1)
    references = [ReferenceCaptioner(captioner, image) for image in IMAGES]
    return captioner, [(each.predict(())[0], each.captions(STEPS)) for each in references]


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize(("variant", "length_penalty"), [("full", 0.0), ("soft", 1.0)])
def test_a_wide_beam_finds_the_best_of_all_allowed_captions(constraints, variant, length_penalty):
    captioner, references = enumerated(variant)
    encoded = captioner.encode(IMAGES)
    result = search(captioner, encoded, EVERY, STEPS, length_penalty, constraints=constraints)
    for (first, every), beams in zip(references, beams_of(result), strict=True):
        allowed = {words: p for words, p in every.items() if is_allowed(words, constraints)}
        assert 1 < len(allowed) < len(every)
        scores = {words: p / len(words) ** length_penalty for words, p in allowed.items()}
        order = sorted(allowed, key=scores.get, reverse=True)
        assert [words for words, *_ in beams[: len(order)]] == order
        assert {words for words, *_ in beams[len(order) :]} == {()}
        for words, log_prob, by_word in beams[: len(order)]:
            np.testing.assert_allclose(log_prob, allowed[words], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(by_word.sum(), allowed[words], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(by_word[0], first[words[0]], rtol=1e-4, atol=1e-4)


def test_long_captions_repeat_no_sequence_of_words():
    captioner = tiny.kept_captioner(weights=1)
    encoded = captioner.encode(IMAGES)
    plain = search(captioner, encoded, 3, 9, constraints=Constraints(9))
    for size in (1, 2, 3):
        constraints = Constraints(no_repeat=size, min_words=4 if size == 1 else 9)
        result = search(captioner, encoded, 3, 9, constraints=constraints)
        for beams, free in zip(beams_of(result), beams_of(plain), strict=True):
            for words, *_ in beams:
                grams = [words[place : place + size] for place in range(len(words) - size + 1)]
                assert len(grams) == len(set(grams))
            assert [words for words, *_ in free] != [words for words, *_ in beams]


def test_impossible_constraints_give_empty_captions():
    captioner = tiny.kept_captioner(weights=1)
    never_ends = Constraints(min_words=6, no_repeat=1)  # there are only four words
    for sampling in (None, Sampling()):
        result = search(
            captioner, captioner.encode(IMAGES), 2, 8, constraints=never_ends, sampling=sampling
        )
        assert (np.asarray(result.ids) == PAD).all()
        assert np.isneginf(result.log_probs).all()
        assert not np.asarray(result.word_log_probs).any()


def diverse(captioner, image, beam, groups, diversity, steps, length_penalty):
    """Diverse beam search by definition: one list of hypotheses per group."""
    predict, size = functools.cache(ReferenceCaptioner(captioner, image).predict), beam // groups
    hypotheses = [[((), 0.0, 0.0)] for _ in range(groups)]  # ids, log p, penalties paid
    for _ in range(steps):
        used = np.zeros(WORDS)
        for group in range(groups):
            found = []
            for words, log_prob, paid in hypotheses[group]:
                if words and words[-1] in (STOP, PAD):
                    found.append(((*words, PAD), log_prob, paid))
                    continue
                for word, own in enumerate(predict(words)[0]):
                    if word not in (PAD, START, OOV):
                        cost = paid + diversity * used[word]
                        found.append(((*words, word), log_prob + own, cost))

            def score(one):
                length = sum(word != PAD for word in one[0])
                return (one[1] - one[2]) / length**length_penalty

            hypotheses[group] = sorted(found, key=score, reverse=True)[:size]
            for words, *_ in hypotheses[group]:
                used[words[-1]] += words[-1] != PAD
    lengths = {words: sum(word != PAD for word in words) for h in hypotheses for words, *_ in h}
    flat = [(words, p) for group in hypotheses for words, p, _ in group]
    ranked = sorted(flat, key=lambda one: one[1] / lengths[one[0]] ** length_penalty, reverse=True)
    return [(tuple(word for word in words if word != PAD), p) for words, p in ranked]


@pytest.mark.parametrize(
    ("beam", "groups", "diversity", "length_penalty"),
    [
        (4, 1, 3.0, 0.7),
        (4, 2, 0.5, 0.0),
        (4, 4, 1.5, 0.7),
        (6, 2, 1.0, 0.0),
        (6, 3, 0.2, 1.0),
        (2, 2, 0.0, 0.0),
    ],
)
def test_diverse_groups_equal_the_definition(beam, groups, diversity, length_penalty):
    captioner = tiny.kept_captioner(weights=1)
    images = tiny.make_images(4, seed=3)
    result = search(
        captioner,
        captioner.encode(images),
        beam,
        4,
        length_penalty,
        groups=groups,
        diversity=diversity,
    )
    for image, beams in zip(images, beams_of(result), strict=True):
        expected = diverse(captioner, image, beam, groups, diversity, 4, length_penalty)
        assert [words for words, *_ in beams] == [words for words, _ in expected]
        found, log_probs = [p for _, p, _ in beams], [p for _, p in expected]
        np.testing.assert_allclose(found, log_probs, rtol=1e-4, atol=1e-4)


def test_groups_differ_more_with_more_diversity():
    captioner = tiny.kept_captioner(weights=1)
    distinct = []
    for diversity in (0.0, 0.5, 5.0):
        result = search(captioner, captioner.encode(IMAGES), 4, 2, groups=4, diversity=diversity)
        firsts = [{words[0] for words, *_ in beams} for beams in beams_of(result)]
        distinct.append(sum(map(len, firsts)))
    assert distinct[0] == len(IMAGES)  # groups that are not pushed apart are equal
    assert distinct == sorted(distinct)
    assert distinct[2] == 4 * len(IMAGES)


def filtered(log_probs, sampling):
    """Word probabilities that sampling uses, by definition."""
    allowed = [word for word in range(WORDS) if word not in (PAD, START, OOV)]
    probs = {word: np.exp(log_probs[word] / sampling.temperature) for word in allowed}
    order = sorted(allowed, key=probs.get, reverse=True)
    if sampling.top_k:
        order = order[: sampling.top_k]
    total = sum(probs[word] for word in order)
    kept, mass = [], 0.0
    for word in order:
        if mass < sampling.top_p:
            kept.append(word)
        mass += probs[word] / total
    total = sum(probs[word] for word in kept)
    return {word: probs[word] / total for word in kept}


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=2.0, top_k=3),
        Sampling(top_p=0.6),
        Sampling(temperature=1.5, top_k=4, top_p=0.8, seed=7),
        Sampling(top_k=1),
    ],
)
def test_samples_occur_as_often_as_by_definition(sampling):
    captioner, count = tiny.kept_captioner(weights=3), 4000
    image = IMAGES[:1]
    result = search(captioner, captioner.encode(image), count, 2, sampling=sampling)
    ids = np.asarray(result.ids)[0]
    found, counts = np.unique(ids, axis=0, return_counts=True)
    shares = {
        tuple(row): number / count for row, number in zip(found.tolist(), counts, strict=True)
    }
    reference, expected = ReferenceCaptioner(captioner, image[0]), {}
    for first, prob in filtered(reference.predict(())[0], sampling).items():
        if first == STOP:
            expected[first, PAD] = prob
            continue
        for second, own in filtered(reference.predict((first,))[0], sampling).items():
            expected[first, second] = prob * own
    assert sum(expected.values()) == pytest.approx(1)
    assert shares.keys() <= expected.keys()
    for words, prob in expected.items():
        error = np.sqrt(prob * (1 - prob) / count)
        assert abs(shares.get(words, 0) - prob) < 4 * error + 1e-3, words
    scores = np.asarray(result.scores)[0]
    assert (np.diff(scores) <= 0).all()


def test_samples_depend_on_the_seed_but_not_on_the_batch():
    captioner = tiny.kept_captioner(weights=3)

    def sampled(images, seed):
        sampling = Sampling(seed=seed)
        return np.asarray(search(captioner, captioner.encode(images), 8, 4, sampling=sampling).ids)

    together = sampled(IMAGES, 0)
    for number in range(2):
        np.testing.assert_array_equal(sampled(IMAGES[number : number + 1], 0)[0], together[number])
    assert (sampled(IMAGES, 1) != together).any()


@pytest.mark.parametrize(
    "options",
    [
        {"constraints": Constraints(min_words=2, no_repeat=2, prefix=(5,), avoid=(4,))},
        {"groups": 2, "diversity": 1.0},
        {"sampling": Sampling(temperature=0.7, top_k=3, top_p=0.9)},
    ],
)
def test_a_compiled_graph_gives_the_same_captions(options):
    captioner = tiny.kept_captioner(weights=1)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    def run(images):
        return search(captioner, captioner.encode(images), 4, 4, 0.7, **options)

    expected = search(captioner, captioner.encode(IMAGES), 4, 4, 0.7, **options)
    for part, other in zip(run(IMAGES), expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-4, atol=1e-4)


VOCABULARY = Vocabulary(["a", "dog", "runs", "cat"])


def test_settings_become_arguments_of_search():
    limits = {"beam": 4, "max_words": 9, "length_penalty": 0.5}
    words = {"prefix": "A dog", "avoid": ("cats", "Cat", "runs"), "min_words": 3, "no_repeat": 2}
    constraints = Constraints(3, 2, prefix=(4, 5), avoid=(7, 6))
    expected = {**limits, "constraints": constraints}
    assert search_arguments({**limits, **words, "stride": 2}, VOCABULARY) == expected
    settings = {"max_words": 9, "sample": True, "top_k": 3, "seed": 5}
    assert search_arguments(settings, VOCABULARY)["sampling"] == Sampling(top_k=3, seed=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"prefix": "a dogg"},
            "expected words that the captioner knows, received 'dogg'. Did you mean dog?",
        ),
        ({"prefix": "a dog runs"}, "expected fewer than 3 words (max_words), received 3; shorten"),
        ({"avoid": ("cat", "a dog")}, "avoid: expected single words, received 'a dog'; separate"),
        ({"avoid": ("",)}, "avoid: expected single words, received ''; separate them."),
    ],
)
def test_wrong_words_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        search_arguments({"max_words": 3, **settings}, VOCABULARY)
    assert message in str(error.value)


def test_every_combination_of_constraints_holds_in_every_kind_of_search():
    captioner = tiny.kept_captioner(weights=1)
    encoded = captioner.encode(IMAGES[:1])
    for constraints, options in itertools.product(
        CONSTRAINTS, ({"groups": 2, "length_penalty": 1.0}, {"sampling": Sampling(seed=3)})
    ):
        result = search(captioner, encoded, 4, 4, constraints=constraints, **options)
        for words, log_prob, _ in beams_of(result)[0]:
            assert np.isneginf(log_prob) if not words else is_allowed(words, constraints)
