"""Soft attention against its definition in NumPy, alone and in the cell."""

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

from keras_aoa.layers import AttentionGRUCell, SoftAttention

REGION_FEATURES = normal(IMAGES, REGIONS, FEATURES, seed=1)
with_and_without_gate = pytest.mark.parametrize("gate", [False, True])
every_mask = pytest.mark.parametrize("mask", [None, MASK])


def make_attention(dtype="float64", **arguments):
    layer = SoftAttention(WORDS, EMBEDDING, feature_length=0.0, dtype=dtype, **arguments)
    layer.build((IMAGES, CAPTIONS, UNITS), (IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    return randomize(layer)


def expected_of(values, state, before, n, mask, never_predicted=()):
    """log p(w) and p(r) by the definition."""
    own_mask = None if mask is None else mask[n]
    places, look = definition.soft_attention(values, before, REGION_FEATURES[n], own_mask)
    words = definition.soft_words(values, state, look, never_predicted)
    with np.errstate(divide="ignore"):
        return np.log(words), places


@every_mask
@with_and_without_gate
def test_words_and_regions_are_the_definitions(gate, mask):
    layer = make_attention(never_predicted=(2,), gate=gate)
    states = normal(IMAGES, CAPTIONS, UNITS, seed=2)
    before = normal(IMAGES, CAPTIONS, UNITS, seed=3)
    words, places = backends.to_numpy(layer(states, before, REGION_FEATURES, mask))
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        expected = expected_of(weights(layer), states[n, c], before[n, c], n, mask, (2,))
        said = np.arange(WORDS) != 2
        np.testing.assert_allclose(words[n, c][said], expected[0][said], rtol=1e-10)
        assert words[n, c, 2] < -1e6
        np.testing.assert_allclose(places[n, c], expected[1], rtol=1e-10, atol=1e-12)


@every_mask
@with_and_without_gate
def test_the_cell_over_captions_is_the_definitions(gate, mask):
    cell = AttentionGRUCell(UNITS, FEATURES, make_attention(gate=gate), dtype="float64")
    cell.build((None, EMBEDDING))
    randomize(cell)
    inputs = normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=4)
    start = normal(IMAGES, CAPTIONS, UNITS, seed=5)
    dropout = np.abs(normal(IMAGES, CAPTIONS, STEPS, UNITS, seed=6))
    targets = np.random.default_rng(7).integers(0, WORDS, (IMAGES, CAPTIONS * STEPS))
    memory = cell.attention.precompute(REGION_FEATURES, mask)
    states = cell.start(ops.convert_to_tensor(start), memory)
    seen, _ = cell.run(
        ops.convert_to_tensor(inputs), states, memory, ops.convert_to_tensor(dropout)
    )
    flat = ops.reshape(seen, (IMAGES, CAPTIONS * STEPS, UNITS + FEATURES + REGIONS))
    places = backends.to_numpy(cell.attention.region_probs(flat, memory))
    (found,) = backends.to_numpy([cell.attention.target_log_probs(flat, targets, memory)])
    values = weights(cell)
    after, looks = definition.every_recurrence(values, "soft", start, inputs, REGION_FEATURES, mask)
    for n, c, t in np.ndindex(IMAGES, CAPTIONS, STEPS):
        state = after[n, c, t] * dropout[n, c, t]
        words = definition.soft_words(values, state, looks[n, c, t])
        place = c * STEPS + t
        expected = np.log(words[targets[n, place]])
        np.testing.assert_allclose(found[n, place], expected, rtol=1e-9)
        look = places[n][place] @ REGION_FEATURES[n]
        look *= definition.soft_gate(values, start[n, c] if t == 0 else after[n, c, t - 1])
        np.testing.assert_allclose(look, looks[n, c, t], rtol=1e-9)


def test_mixed_precision_gives_wide_results_near_the_wide_ones():
    states = normal(IMAGES, UNITS, seed=2).astype("float32")
    wide, mixed = make_attention("float32"), make_attention("mixed_bfloat16")
    regions = REGION_FEATURES.astype("float32")
    expected, found = wide(states, states, regions), mixed(states, states, regions)
    for value, other in zip(found, expected, strict=True):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(backends.to_numpy(value), backends.to_numpy(other), atol=0.05)


def test_the_configuration_makes_the_same_layer():
    layer = make_attention(never_predicted=(1,), tied=False, gate=True)
    config = layer.get_config()
    other = SoftAttention.from_config(config)
    assert other.get_config() == config
    assert not other.tied and other.gate
    del config["gate"]
    assert not SoftAttention.from_config(config).gate, "files of earlier versions have no gate"
