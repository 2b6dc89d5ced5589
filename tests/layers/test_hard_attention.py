"""Hard attention against its definition in NumPy: the most probable region, and sampled regions."""

import backends
import definition
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

from keras_aoa.layers import AttentionGRUCell, HardAttention, SoftAttention

REGION_FEATURES = normal(IMAGES, REGIONS, FEATURES, seed=1)
NOISE = 4 * normal(IMAGES, CAPTIONS, STEPS, REGIONS, seed=8)


def make_attention(**arguments):
    layer = HardAttention(WORDS, EMBEDDING, feature_length=0.0, dtype="float64", **arguments)
    layer.build((IMAGES, CAPTIONS, UNITS), (IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    return randomize(layer)


@pytest.mark.parametrize("mask", [None, MASK])
def test_words_depend_on_the_most_probable_region(mask):
    layer = make_attention(never_predicted=(2,))
    states = normal(IMAGES, CAPTIONS, UNITS, seed=2)
    before = 9 * normal(IMAGES, CAPTIONS, UNITS, seed=3)  # several regions are the most probable
    words, places = map(np.array, backends.to_numpy(layer(states, before, REGION_FEATURES, mask)))
    seen = set()
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        own_mask = None if mask is None else mask[n]
        probs, look, chosen = definition.hard_attention(
            weights(layer), before[n, c], REGION_FEATURES[n], own_mask
        )
        with np.errstate(divide="ignore"):
            expected = np.log(definition.soft_words(weights(layer), states[n, c], look, (2,)))
        said = np.arange(WORDS) != 2
        np.testing.assert_allclose(words[n, c][said], expected[said], rtol=1e-10)
        np.testing.assert_allclose(places[n, c], probs, rtol=1e-10, atol=1e-12)
        seen.add(chosen)
    assert len(seen) > 1


@pytest.mark.parametrize(("gate", "mask", "noise"), [(True, MASK, NOISE), (False, None, None)])
def test_the_cell_over_captions_chooses_a_region_at_each_step(gate, mask, noise):
    cell = AttentionGRUCell(UNITS, FEATURES, make_attention(gate=gate), dtype="float64")
    cell.build((None, EMBEDDING))
    randomize(cell)
    inputs = normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=4)
    start = normal(IMAGES, CAPTIONS, UNITS, seed=5)
    dropout = np.abs(normal(IMAGES, CAPTIONS, STEPS, UNITS, seed=6))
    targets = np.random.default_rng(7).integers(0, WORDS, (IMAGES, CAPTIONS * STEPS))
    memory = cell.attention.precompute(REGION_FEATURES, mask)._replace(noise=noise)
    states = cell.start(ops.convert_to_tensor(start), memory)
    outputs, _ = cell.run(
        ops.convert_to_tensor(inputs), states, memory, ops.convert_to_tensor(dropout)
    )
    flat = ops.reshape(outputs, (IMAGES, CAPTIONS * STEPS, -1))
    found = [
        cell.attention.target_log_probs(flat, targets, memory),
        cell.attention.region_probs(flat, memory),
        cell.attention.choice_log_probs(flat, memory),
        cell.attention.choice_entropy(flat, memory),
    ]
    log_probs, places, choices, entropies = map(np.array, backends.to_numpy(found))
    values, chosen_regions = weights(cell), set()
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        state = start[n, c]
        for t in range(STEPS):
            own_noise = 0 if noise is None else noise[n, c, t]
            own_mask = None if mask is None else mask[n]
            probs, look, chosen = definition.hard_attention(
                values, state, REGION_FEATURES[n], own_mask, own_noise
            )
            state = definition.gru(values, state, np.concatenate([inputs[n, c, t], look]))
            words = definition.soft_words(values, state * dropout[n, c, t], look)
            at = n, c * STEPS + t
            np.testing.assert_allclose(log_probs[at], np.log(words[targets[at]]), rtol=1e-9)
            np.testing.assert_allclose(places[at], probs, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(choices[at], np.log(probs[chosen]), rtol=1e-9)
            entropy = -sum(prob * np.log(prob) for prob in probs if prob)
            np.testing.assert_allclose(entropies[at], entropy, rtol=1e-9)
            chosen_regions.add(chosen)
    assert len(chosen_regions) > 1


def test_hard_attention_has_the_weights_of_soft_attention():
    hard = make_attention(gate=True, tied=False)
    assert HardAttention.from_config(hard.get_config()).get_config() == hard.get_config()
    soft = SoftAttention.from_config(hard.get_config())
    states = normal(IMAGES, UNITS, seed=2)
    _, expected = hard(states, states, REGION_FEATURES)
    soft(states, states, REGION_FEATURES)
    soft.set_weights(hard.get_weights())
    _, probs = soft(states, states, REGION_FEATURES)
    found, expected = backends.to_numpy([probs, expected])
    np.testing.assert_array_equal(found, expected)
