"""Gradients of a training step of `AttentionGRUCell`: log p of the words of known captions."""

import backends
import definition
import keras
import numpy as np
import pytest
from cases import (
    CAPTIONS,
    IMAGES,
    MASK,
    STEPS,
    UNITS,
    WORDS,
    caption_words,
    every_variant,
    make_cell,
    normal,
    states_and_regions,
    weights,
)
from keras import ops

TARGETS = np.random.default_rng(8).integers(WORDS, size=(IMAGES, CAPTIONS, STEPS)).astype("int32")


@every_variant
@pytest.mark.parametrize(("mask", "with_dropout"), [(None, False), (MASK, True)])
def test_gradients_of_captions_equal_central_differences_of_the_definition(
    variant, mask, with_dropout
):
    cell = make_cell(variant)
    state, regions = states_and_regions()
    inputs = [caption_words(), state, regions]
    dropout = normal(IMAGES, CAPTIONS, STEPS, UNITS, seed=7) + 1 if with_dropout else None
    of_targets = normal(IMAGES, CAPTIONS, STEPS, seed=9)

    def expected_loss(words, state, regions, *values):
        named = dict(zip(weights(cell), values, strict=True))
        states, _ = definition.every_recurrence(
            named, variant, state, words, regions, mask, dropout
        )
        seen = states if dropout is None else states * dropout
        probs, _ = definition.every_marginal(named, seen.reshape(IMAGES, -1, UNITS), regions, mask)
        probs = np.take_along_axis(probs, TARGETS.reshape(IMAGES, -1, 1), 2)
        return np.sum(of_targets.reshape(IMAGES, -1, 1) * np.log(probs))

    found = caption_gradients(cell, inputs, mask, dropout, of_targets)
    backends.assert_gradients(expected_loss, [*inputs, *weights(cell).values()], found)


@pytest.mark.parametrize(
    ("variant", "policy"),
    [
        ("full", "mixed_float16"),
        ("full", "mixed_bfloat16"),
        ("conditional", "mixed_bfloat16"),
    ],
)
def test_gradients_in_mixed_precision_are_near_those_in_float64(variant, policy):
    state, regions = states_and_regions()
    inputs = [caption_words(), state, regions]
    of_targets = normal(IMAGES, CAPTIONS, STEPS, seed=9)
    exact = caption_gradients(make_cell(variant), inputs, MASK, None, of_targets)
    inputs = [value.astype("float32") for value in inputs]
    cell = make_cell(variant, policy)
    found = caption_gradients(cell, inputs, MASK, None, of_targets)
    for values, expected in zip(found, exact, strict=True):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert np.linalg.norm(values - expected) <= 0.05 * np.linalg.norm(expected)


def caption_gradients(cell, inputs, mask, dropout, of_targets):
    """Gradients of the log probabilities of TARGETS times `of_targets`, summed.

    In the inputs (words, state, regions) and the cell's weights.
    """
    flat = IMAGES, CAPTIONS * STEPS

    def loss(words, state, regions):
        memory = cell.attention.precompute(regions, mask)
        factors = None if dropout is None else ops.convert_to_tensor(dropout)
        seen, normalizers = cell.run(words, cell.start(state, memory), memory, factors)
        log_probs = cell.attention.target_log_probs(
            ops.reshape(seen, (*flat, UNITS)),
            ops.convert_to_tensor(TARGETS.reshape(flat)),
            memory,
            None if normalizers is None else ops.reshape(normalizers, flat),
        )
        return ops.sum(ops.multiply(ops.cast(of_targets.reshape(flat), log_probs.dtype), log_probs))

    return backends.gradients(loss, inputs, cell.weights)
