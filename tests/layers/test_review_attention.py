"""Review attention against its definition in NumPy, alone and in the cell."""

import backends
import definition
import keras
import numpy as np
import pytest
from cases import (
    CAPTIONS,
    EMBEDDING,
    FEATURES,
    IMAGES,
    MASK,
    REGIONS,
    STEPS,
    UNITS,
    WORDS,
    normal,
    randomize,
    weights,
)
from keras import ops

from keras_aoa.layers import AttentionGRUCell, ReviewAttention

REGION_FEATURES = 2 * normal(IMAGES, REGIONS, FEATURES, seed=1)
THOUGHTS = 3
every_mask = pytest.mark.parametrize("mask", [None, MASK])


def make_attention(dtype="float64", **arguments):
    layer = ReviewAttention(
        WORDS, EMBEDDING, feature_length=0.0, steps=THOUGHTS, dtype=dtype, **arguments
    )
    layer.build((IMAGES, CAPTIONS, UNITS), (IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    return randomize(layer)


@every_mask
def test_thoughts_are_the_definitions(mask):
    layer = make_attention()
    memory = layer.precompute(REGION_FEATURES, mask)
    scores = layer.thought_scores(memory)
    found = backends.to_numpy([memory.thoughts, memory.review_probs, scores])
    for n in range(IMAGES):
        own_mask = None if mask is None else mask[n]
        expected = definition.review(weights(layer), REGION_FEATURES[n], own_mask, THOUGHTS)
        of_words = [
            max(word @ thought for thought in expected[0]) for word in weights(layer)["words"]
        ]
        for part, value in zip(found, (*expected, of_words), strict=True):
            np.testing.assert_allclose(part[n], value, rtol=1e-10, atol=1e-12)


@every_mask
def test_words_and_regions_are_the_definitions(mask):
    layer = make_attention(never_predicted=(2,))
    states = normal(IMAGES, CAPTIONS, UNITS, seed=2)
    before = normal(IMAGES, CAPTIONS, UNITS, seed=3)
    words, places = backends.to_numpy(layer(states, before, REGION_FEATURES, mask))
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        own_mask = None if mask is None else mask[n]
        probs, look = definition.review_attention(
            weights(layer), before[n, c], REGION_FEATURES[n], own_mask, THOUGHTS
        )
        with np.errstate(divide="ignore"):
            expected = np.log(definition.soft_words(weights(layer), states[n, c], look, (2,)))
        said = np.arange(WORDS) != 2
        np.testing.assert_allclose(words[n, c][said], expected[said], rtol=1e-10)
        np.testing.assert_allclose(places[n, c], probs, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(places[n, c].sum(), 1, rtol=1e-12)


@every_mask
def test_the_cell_over_captions_is_the_definitions(mask):
    cell = AttentionGRUCell(UNITS, FEATURES, make_attention(), dtype="float64")
    cell.build((None, EMBEDDING))
    randomize(cell)
    inputs = normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=4)
    start = normal(IMAGES, CAPTIONS, UNITS, seed=5)
    targets = np.random.default_rng(7).integers(0, WORDS, (IMAGES, CAPTIONS * STEPS))
    memory = cell.attention.precompute(REGION_FEATURES, mask)
    states = cell.start(ops.convert_to_tensor(start), memory)
    outputs, _ = cell.run(ops.convert_to_tensor(inputs), states, memory)
    flat = ops.reshape(outputs, (IMAGES, CAPTIONS * STEPS, -1))
    log_probs, places = backends.to_numpy(
        [
            cell.attention.target_log_probs(flat, targets, memory),
            cell.attention.region_probs(flat, memory),
        ]
    )
    values = weights(cell)
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        state = start[n, c]
        for t in range(STEPS):
            own_mask = None if mask is None else mask[n]
            probs, look = definition.review_attention(
                values, state, REGION_FEATURES[n], own_mask, THOUGHTS
            )
            state = definition.gru(values, state, np.concatenate([inputs[n, c, t], look]))
            words = definition.soft_words(values, state, look)
            at = n, c * STEPS + t
            np.testing.assert_allclose(log_probs[at], np.log(words[targets[at]]), rtol=1e-9)
            np.testing.assert_allclose(places[at], probs, rtol=1e-9, atol=1e-12)


def test_mixed_precision_gives_wide_results_near_the_wide_ones():
    states = normal(IMAGES, UNITS, seed=2).astype("float32")
    regions = REGION_FEATURES.astype("float32")
    expected = make_attention("float32")(states, states, regions)
    found = make_attention("mixed_bfloat16")(states, states, regions)
    for value, other in zip(found, expected, strict=True):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(backends.to_numpy(value), backends.to_numpy(other), atol=0.08)


def test_the_configuration_makes_the_same_layer():
    layer = make_attention(never_predicted=(1,), tied=False)
    other = ReviewAttention.from_config(layer.get_config())
    assert other.get_config() == layer.get_config()
    assert other.steps == THOUGHTS and not other.tied


def test_no_review_steps_are_refused():
    with pytest.raises(ValueError, match="ReviewAttention: `steps` must be at least 1; received 0"):
        ReviewAttention(WORDS, EMBEDDING, steps=0)
