"""`AreaAttention` against the paper's definition, and what must hold of any distribution."""

import backends
import definition
import keras
import numpy as np
import pytest
from cases import (
    CAPTIONS,
    IMAGES,
    MASK,
    REGIONS,
    STEPS,
    UNITS,
    WORDS,
    every_variant,
    make_attention,
    normal,
    states_and_regions,
    weights,
)
from keras import ops

ROWS = {
    "baseline": {"words", "word_state", "word_bias"},
    "word_region": {"words", "word_state", "word_bias", "word_region", "region_bias"},
}
ROWS["word_region_state"] = ROWS["word_region"] | {"region_state"}
ROWS["conditional"] = ROWS["full"] = ROWS["word_region_state"]


@every_variant
def test_each_variant_has_the_terms_of_its_row_in_table_1(variant):
    assert set(weights(make_attention(variant))) == ROWS[variant]


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize(("mask", "never_predicted"), [(None, ()), (MASK, ()), (MASK, (0, 4))])
def test_equals_the_definition(variant, dtype, tolerance, never_predicted, mask):
    layer = make_attention(variant, dtype, never_predicted=never_predicted)
    states, regions = states_and_regions(dtype)
    log_words, places = backends.to_numpy(layer(states, regions, mask))
    expected_words, expected_places = definition.every_marginal(
        weights(layer), states, regions, mask, never_predicted
    )
    np.testing.assert_allclose(np.exp(log_words), expected_words, tolerance, tolerance)
    np.testing.assert_allclose(places, expected_places, tolerance, tolerance)
    possible = [w for w in range(WORDS) if w not in never_predicted]
    np.testing.assert_allclose(
        log_words[..., possible], np.log(expected_words[..., possible]), tolerance, tolerance
    )


@every_variant
@pytest.mark.parametrize("mask", [None, MASK])
def test_target_log_probs_are_the_entries_of_log_probs_for_every_word(variant, mask):
    layer = make_attention(variant)
    states, regions = states_and_regions()
    log_words, _ = backends.to_numpy(layer(states, regions, mask))
    memory = layer.precompute(regions, mask)
    states = ops.convert_to_tensor(states)
    scores = layer.score(states, memory)
    for word in range(WORDS):
        targets = ops.full((IMAGES, CAPTIONS), word, dtype="int32")
        found = layer.target_log_probs(states, targets, memory)
        np.testing.assert_allclose(backends.to_numpy([found])[0], log_words[..., word], 1e-12)
        if layer.uses_regions:
            known = scores.marginal.log_normalizer
            found = layer.target_log_probs(states, targets, memory, known)
            np.testing.assert_allclose(backends.to_numpy([found])[0], log_words[..., word], 1e-12)


@every_variant
def test_probabilities_sum_to_1(variant):
    layer = make_attention(variant, "float32", never_predicted=(0, 1))
    log_words, places = backends.to_numpy(layer(*states_and_regions("float32"), MASK))
    np.testing.assert_allclose(np.exp(log_words).sum(-1), 1, 1e-6)
    np.testing.assert_allclose(places.sum(-1), 1, 1e-6)


@every_variant
def test_words_that_are_never_predicted_have_probability_0(variant):
    layer = make_attention(variant, "float32", never_predicted=(0, 4))
    states, regions = states_and_regions("float32")
    log_words, _ = backends.to_numpy(layer(states, regions))
    assert np.isfinite(log_words).all()
    assert (np.exp(log_words)[..., [0, 4]] == 0).all()
    for word in (0, 4):
        found = layer.target_log_probs(
            ops.convert_to_tensor(states),
            ops.full((IMAGES, CAPTIONS), word, dtype="int32"),
            layer.precompute(regions),
        )
        assert (np.exp(backends.to_numpy([found])[0]) == 0).all()


def masked_inputs(variant):
    """A layer, states, regions and a mask; what is masked is far from all others."""
    states, regions = states_and_regions()
    mask = np.array([[True, False, True, True, False]] * IMAGES)
    regions[:, ~mask[0]] = 1e3
    return make_attention(variant), states, regions, mask


@every_variant
def test_a_masked_region_is_an_absent_region(variant):
    layer, states, regions, mask = masked_inputs(variant)
    log_words, places = backends.to_numpy(layer(states, regions, mask))
    expected_words, expected_places = backends.to_numpy(layer(states, regions[:, mask[0]]))
    np.testing.assert_allclose(log_words, expected_words, 1e-12)
    np.testing.assert_allclose(places[..., mask[0]], expected_places, 1e-12)
    assert (places[..., ~mask[0]] == 0).all()


@every_variant
def test_a_known_word_is_scored_without_the_masked_regions(variant):
    layer, states, regions, mask = masked_inputs(variant)
    targets = np.random.default_rng(0).integers(0, WORDS, states.shape[:2])
    found, expected = backends.to_numpy(
        layer.target_log_probs(states, targets, layer.precompute(own, own_mask))
        for own, own_mask in ((regions, mask), (regions[:, mask[0]], None))
    )
    np.testing.assert_allclose(found, expected, 1e-11)


@every_variant
def test_regions_have_no_order(variant):
    layer = make_attention(variant)
    states, regions = states_and_regions()
    order = np.array([3, 0, 4, 1, 2])
    log_words, places = backends.to_numpy(layer(states, regions, MASK))
    other_words, other_places = backends.to_numpy(layer(states, regions[:, order], MASK[:, order]))
    np.testing.assert_allclose(other_words, log_words, 1e-12)
    np.testing.assert_allclose(other_places, places[..., order], 1e-12)


@pytest.mark.parametrize("variant", ["baseline", "full"])
@pytest.mark.parametrize("axes", [(IMAGES,), (IMAGES, CAPTIONS), (IMAGES, CAPTIONS, STEPS)])
def test_states_may_have_any_axes_between_image_and_units(variant, axes):
    layer = make_attention(variant)
    states, regions = normal(*axes, UNITS, seed=1), states_and_regions()[1]
    log_words, places = layer(states, regions, MASK)
    assert tuple(log_words.shape) == (*axes, WORDS)
    assert tuple(places.shape) == (*axes, REGIONS)
    expected = definition.every_marginal(
        weights(layer), states.reshape(IMAGES, -1, UNITS), regions, MASK
    )
    log_words, places = backends.to_numpy([log_words, places])
    np.testing.assert_allclose(np.exp(log_words).reshape(IMAGES, -1, WORDS), expected[0], 1e-10)
    np.testing.assert_allclose(places.reshape(IMAGES, -1, REGIONS), expected[1], 1e-10, 1e-15)


@every_variant
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_results_are_float32_in_mixed_precision(variant, policy):
    layer = make_attention(variant, policy, never_predicted=(0,))
    states, regions = states_and_regions("float32")
    log_words, places = layer(states, regions, MASK)
    assert layer.compute_dtype != "float32"
    for output in (log_words, places):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
    log_words, places = backends.to_numpy([log_words, places])
    expected_words, expected_places = definition.every_marginal(
        weights(layer), states, regions, MASK, (0,)
    )
    np.testing.assert_allclose(np.exp(log_words), expected_words, 0.03, 1e-4)
    np.testing.assert_allclose(places, expected_places, 0.03, 1e-4)
    np.testing.assert_allclose(places.sum(-1), 1, 1e-6)


def test_one_matrix_embeds_and_scores_unless_untied():
    tied, untied = make_attention(), make_attention(tied=False)
    ids = np.array([[1, 5], [0, 6]])
    (embedded,) = backends.to_numpy([tied.embed(ids)])
    np.testing.assert_array_equal(embedded, weights(tied)["words"][ids])
    (embedded,) = backends.to_numpy([untied.embed(ids)])
    np.testing.assert_array_equal(embedded, weights(untied)["input_words"][ids])
    states, regions = states_and_regions()
    log_words, _ = backends.to_numpy(untied(states, regions))
    expected, _ = definition.every_marginal(weights(untied), states, regions)
    np.testing.assert_allclose(np.exp(log_words), expected, 1e-10)


def test_the_baseline_looks_nowhere():
    layer = make_attention("baseline")
    states, regions = states_and_regions()
    log_words, places = backends.to_numpy(layer(states, regions, MASK))
    others, _ = backends.to_numpy(layer(states, 3 * regions + 1, MASK))
    np.testing.assert_array_equal(others, log_words)
    expected = np.broadcast_to((MASK / MASK.sum(1, keepdims=True))[:, None], places.shape)
    np.testing.assert_allclose(places, expected)
