"""Gradients of `AreaAttention`."""

import backends
import definition
import numpy as np
import pytest
from cases import (
    CAPTIONS,
    IMAGES,
    MASK,
    REGIONS,
    WORDS,
    every_variant,
    make_attention,
    normal,
    states_and_regions,
    weights,
)
from keras import ops


@every_variant
@pytest.mark.parametrize("mask", [None, MASK])
def test_gradients_equal_central_differences_of_the_definition(variant, mask):
    layer = make_attention(variant, never_predicted=(4,))
    possible = [w for w in range(WORDS) if w != 4]
    states, regions = states_and_regions()
    of_words = normal(IMAGES, CAPTIONS, WORDS, seed=3)[..., possible]
    of_places = normal(IMAGES, CAPTIONS, REGIONS, seed=4)

    def loss(states, regions):
        log_words, places = layer(states, regions, mask)
        log_words = ops.take(log_words, possible, axis=-1)
        return ops.sum(ops.multiply(of_words, log_words)) + ops.sum(ops.multiply(of_places, places))

    def expected_loss(states, regions, *values):
        named = dict(zip(weights(layer), values, strict=True))
        words, places = definition.every_marginal(named, states, regions, mask, (4,))
        return np.sum(of_words * np.log(words[..., possible])) + np.sum(of_places * places)

    found = backends.gradients(loss, [states, regions], layer.weights)
    backends.assert_gradients(expected_loss, [states, regions, *weights(layer).values()], found)


@every_variant
@pytest.mark.parametrize("mask", [None, MASK])
def test_gradients_of_the_target_word_equal_central_differences(variant, mask):
    layer = make_attention(variant, never_predicted=(4,))
    states, regions = states_and_regions()
    targets = np.array([[1, 6, 3], [1, 0, 1]], "int32")
    of_targets = normal(IMAGES, CAPTIONS, seed=3)

    def loss(states, regions):
        log_probs = layer.target_log_probs(
            states, ops.convert_to_tensor(targets), layer.precompute(regions, mask)
        )
        return ops.sum(ops.multiply(of_targets, log_probs))

    def expected_loss(states, regions, *values):
        named = dict(zip(weights(layer), values, strict=True))
        words, _ = definition.every_marginal(named, states, regions, mask, (4,))
        return np.sum(of_targets * np.log(np.take_along_axis(words, targets[..., None], 2)[..., 0]))

    found = backends.gradients(loss, [states, regions], layer.weights)
    backends.assert_gradients(expected_loss, [states, regions, *weights(layer).values()], found)


@every_variant
def test_padding_regions_have_gradient_0(variant):
    layer = make_attention(variant)
    states, regions = states_and_regions()
    embedded = normal(IMAGES, CAPTIONS, layer.embedding_dim, seed=5)

    def loss(regions):
        memory = layer.precompute(regions, MASK)
        given = ops.convert_to_tensor(states)
        scores = layer.score(given, memory)
        log_words, places = layer.log_probs(given, memory, scores)
        total = ops.sum(ops.square(log_words)) + ops.sum(ops.square(places))
        if layer.uses_regions:
            total = total + ops.sum(ops.square(layer.attended(scores, memory)))
        if variant == "conditional":
            looks = layer.attended_given_word(given, ops.convert_to_tensor(embedded), memory)
            total = total + ops.sum(ops.square(looks))
        return total

    (gradient,) = backends.gradients(loss, [regions])
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK] != 0).all() == layer.uses_regions


@every_variant
def test_regions_of_zeros_have_finite_gradients(variant):
    layer = make_attention(variant)
    states, regions = states_and_regions()

    def loss(states, regions):
        log_words, places = layer(states, regions, MASK)
        return ops.sum(ops.square(log_words)) + ops.sum(ops.square(places))

    for gradient in backends.gradients(loss, [states, regions * 0], layer.weights):
        assert np.isfinite(gradient).all()
