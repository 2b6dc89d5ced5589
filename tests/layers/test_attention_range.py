"""`AreaAttention` in float32 with scores of every size and layout.

The weights are unit matrices, so that the inputs are the scores: `a` of words, `b` of pairs,
`c` of regions.
"""

import itertools

import backends
import numpy as np
import pytest
from keras import ops

from keras_aoa.layers import AreaAttention

SHAPES = (2048, 6), (2048, 6, 4), (2048, 4)


def attention_of(words, regions, never_predicted=()):
    """A layer whose scores are what `inputs_of` was given."""
    size = words + regions
    layer = AreaAttention(
        words, words, never_predicted=never_predicted, feature_length=0.0, dtype="float32"
    )
    layer.build((None, size), (None, regions, size))
    layer.words.assign(np.eye(words))
    layer.word_state.assign(np.eye(words, size))
    layer.word_region.assign(np.eye(words, size))
    layer.region_state.assign(np.diag([0.0] * words + [1.0] * regions))
    return layer


def inputs_of(a, b, c):
    """States `(n, 1, u)` and regions `(n, r, f)` for `a (n, w)`, `b (n, w, r)`, `c (n, r)`."""
    identity = np.broadcast_to(np.eye(c.shape[1]), (len(c), c.shape[1], c.shape[1]))
    states = np.concatenate([a, c], axis=1)[:, None]
    regions = np.concatenate([np.swapaxes(b, 1, 2), identity], axis=2)
    return states.astype("float32"), regions.astype("float32")


def joint_probs(a, b, c):
    """p(w, r) in float64, `(n, w, r)`."""
    scores = a[:, :, None] + b + c[:, None, :]
    probs = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    return probs / probs.sum(axis=(1, 2), keepdims=True)


def marginals_of_layer(a, b, c):
    """The layer's log p(w), p(r), and log p(w*) of every word as the target."""
    layer = attention_of(*b.shape[1:])
    states, regions = inputs_of(a, b, c)
    log_words, places = backends.to_numpy(layer(states, regions))
    memory = layer.precompute(regions)
    targets = np.broadcast_to(np.arange(b.shape[1], dtype="int32"), (len(b), b.shape[1]))
    states = ops.convert_to_tensor(np.repeat(states, b.shape[1], axis=1))
    found = layer.target_log_probs(states, ops.convert_to_tensor(targets), memory)
    return log_words[:, 0], places[:, 0], backends.to_numpy([found])[0]


def every_corner(bound, words=3, regions=2):
    """Each way to set all scores of 3 words and 2 regions to -bound or bound, each of them twice.

    2048 images, in SHAPES.
    """
    sizes = (words, words * regions, regions)
    corners = np.array(list(itertools.product([-bound, bound], repeat=sum(sizes))))
    a, b, c = np.split(corners, np.cumsum(sizes)[:-1], axis=1)
    b = b.reshape(-1, words, regions)
    return np.tile(a, (1, 2)), np.tile(b, (1, 2, 2)), np.tile(c, (1, 2))


def mixed_layouts(values):
    """Images whose scores are drawn from `values`, each image with its own proportions."""
    generator = np.random.default_rng(0)
    images = SHAPES[0][0]
    share = generator.uniform(size=(images, len(values))) ** 3
    share = (share / share.sum(1, keepdims=True)).cumsum(1)

    def draw(shape):
        uniform = generator.uniform(size=shape)
        bounds = share.reshape(images, *[1] * (len(shape) - 1), len(values))
        drawn = (uniform[..., None] > bounds).sum(-1)
        return np.asarray(values, "float64")[np.minimum(drawn, len(values) - 1)]

    return [draw(shape) for shape in SHAPES]


def normal_scores():
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape) for shape in SHAPES]


def hard_case():
    """A region that all words dislike and the state likes."""
    a, b, c = normal_scores()
    b[:, :, 2] -= 120
    c[:, 2] += 200
    return a, b, c


def opposite_hard_case():
    """A word that all regions dislike and the state likes."""
    a, b, c = normal_scores()
    b[:, 4] -= 120
    a[:, 4] += 200
    return a, b, c


def uniform_scores():
    """Scores anywhere from -20 to 20."""
    generator = np.random.default_rng(0)
    return [generator.uniform(-20, 20, size=shape) for shape in SHAPES]


within_reach = pytest.mark.parametrize(
    "scores",
    [
        every_corner(20.0),
        mixed_layouts([-20, 20, 0, -7.5, 13]),
        uniform_scores(),
        hard_case(),
        opposite_hard_case(),
    ],
    ids=["every corner of 20", "mixed", "uniform", "hard case", "opposite hard case"],
)
huge = pytest.mark.parametrize(
    "scores",
    [
        every_corner(1e4),
        mixed_layouts([-1e4, 1e4, 0, 1]),
        mixed_layouts([-100, 100, 0, 1]),
    ],
    ids=["every corner of 1e4", "mixed 1e4", "mixed 100"],
)


@within_reach
def test_marginals_agree_with_float64(scores):
    log_words, places, log_targets = marginals_of_layer(*scores)
    pairs = joint_probs(*scores)
    expected_words, expected_places = pairs.sum(2), pairs.sum(1)
    for found in (log_words, log_targets):
        assert (found <= 0).all()
        np.testing.assert_allclose(np.exp(found), expected_words, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found, np.log(expected_words), rtol=0, atol=1e-3)
        np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=0, atol=1e-4)
    np.testing.assert_allclose(places, expected_places, rtol=0, atol=1e-4)
    np.testing.assert_allclose(places.sum(1), 1, rtol=0, atol=1e-4)


def test_a_region_that_only_a_word_never_predicted_likes_agrees_with_float64():
    a, b, c = hard_case()
    words = b.shape[1]
    b[:, -1, 2] = 0
    layer = attention_of(words, b.shape[2], never_predicted=(words - 1,))
    log_words, places = backends.to_numpy(layer(*inputs_of(a, b, c)))
    expected = joint_probs(a[:, :-1], b[:, :-1], c)
    np.testing.assert_allclose(np.exp(log_words[:, 0, :-1]), expected.sum(2), rtol=0, atol=1e-4)
    np.testing.assert_allclose(places[:, 0], expected.sum(1), rtol=0, atol=1e-4)


@within_reach
@pytest.mark.parametrize("path", ["target", "distribution"])
def test_gradients_agree_with_float64(scores, path):
    images, words, regions = scores[1].shape
    layer = attention_of(words, regions)
    targets = np.random.default_rng(1).integers(words, size=(images, 1)).astype("int32")

    def loss(states, regions):
        memory = layer.precompute(regions)
        ids = ops.convert_to_tensor(targets)
        if path == "target":
            return ops.sum(layer.target_log_probs(states, ids, memory))
        log_words, _ = layer.log_probs(states, memory)
        return ops.sum(ops.take_along_axis(log_words, ids[:, :, None], axis=2))

    of_states, of_regions = backends.gradients(loss, inputs_of(*scores))
    pairs = joint_probs(*scores)
    own = np.take_along_axis(pairs, targets[:, :, None], axis=1)
    expected = (np.arange(words) == targets)[:, :, None] * own / own.sum(2, keepdims=True) - pairs
    np.testing.assert_allclose(of_states[:, 0, :words], expected.sum(2), rtol=0, atol=1e-4)
    np.testing.assert_allclose(of_states[:, 0, words:], expected.sum(1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        np.swapaxes(of_regions[:, :, :words], 1, 2), expected, rtol=0, atol=1e-4
    )


@huge
def test_huge_scores_give_finite_values_and_no_probability_above_1(scores):
    log_words, places, log_targets = marginals_of_layer(*scores)
    for found in (log_words, log_targets):
        assert np.isfinite(found).all()
        assert (found <= 0).all()
    assert ((places >= 0) & (places <= 1 + 1e-6)).all()
    np.testing.assert_allclose(places.sum(1), 1, rtol=1e-6)


@huge
def test_huge_scores_give_finite_gradients(scores):
    images, words, regions = scores[1].shape
    layer = attention_of(words, regions)
    targets = np.broadcast_to(np.arange(words, dtype="int32"), (images, words))

    def loss(states, regions):
        memory = layer.precompute(regions)
        scores = layer.score(states, memory)
        log_words, places = layer.log_probs(states, memory, scores)
        log_targets = layer.target_log_probs(
            ops.repeat(states, words, axis=1), ops.convert_to_tensor(targets), memory
        )
        looks = layer.attended(scores, memory)
        parts = log_words, log_targets, places, looks
        return sum(ops.sum(ops.sin(part)) for part in parts)

    for gradient in backends.gradients(loss, inputs_of(*scores), layer.weights):
        assert np.isfinite(gradient).all()
