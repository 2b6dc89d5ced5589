"""`AttentionGRUCell` against the paper's recurrence, stepped by hand."""

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
    STEPS,
    UNITS,
    WORDS,
    caption_words,
    every_variant,
    make_attention,
    make_cell,
    normal,
    states_and_regions,
    weights,
)
from keras import ops

from keras_aoa.layers import AreaAttention, AttentionGRUCell

every_mask = pytest.mark.parametrize("mask", [None, MASK])


@every_variant
@pytest.mark.parametrize(
    ("mask", "dtype", "tolerance"),
    [(None, "float64", 1e-10), (MASK, "float64", 1e-10), (MASK, "float32", 1e-5)],
)
def test_repeated_steps_equal_the_definition(variant, mask, dtype, tolerance):
    cell = make_cell(variant, dtype)
    state, regions = states_and_regions(dtype)
    words = caption_words(dtype)
    expected = definition.every_recurrence(weights(cell), variant, state, words, regions, mask)
    memory = cell.attention.precompute(regions, mask)
    states = cell.start(ops.convert_to_tensor(state), memory)
    for t in range(STEPS):
        word = ops.convert_to_tensor(words[:, :, t])
        step = cell.step(word, cell.project(word, memory), states, memory)
        states = step.state, step.attended
        for found, values in zip(backends.to_numpy(states), expected, strict=True):
            np.testing.assert_allclose(found, values[:, :, t], tolerance, tolerance)


@every_variant
@pytest.mark.parametrize(("mask", "with_dropout"), [(None, False), (MASK, False), (MASK, True)])
def test_run_over_captions_equals_the_definition(variant, mask, with_dropout):
    cell = make_cell(variant)
    state, regions = states_and_regions()
    words = caption_words()
    dropout = normal(IMAGES, CAPTIONS, STEPS, UNITS, seed=7) if with_dropout else None
    expected, _ = definition.every_recurrence(
        weights(cell), variant, state, words, regions, mask, dropout
    )
    expected = expected if dropout is None else expected * dropout
    seen, normalizers = run(cell, words, state, regions, mask, dropout)
    (found,) = backends.to_numpy([seen])
    np.testing.assert_allclose(found, expected, 1e-10)
    if variant != "full":
        assert normalizers is None
        return
    (found,) = backends.to_numpy([normalizers])
    for n, c, t in np.ndindex(*found.shape):
        scores = definition.scores(weights(cell), expected[n, c, t], regions[n])
        _, log_normalizer = definition.joint(scores, None if mask is None else mask[n])
        np.testing.assert_allclose(found[n, c, t], log_normalizer, 1e-10)


@every_mask
def test_conditional_feedback_is_the_softmax_of_the_fed_words_region_scores(mask):
    layer = make_attention("conditional")
    states, regions = states_and_regions()
    words = normal(IMAGES, CAPTIONS, EMBEDDING, seed=5)
    found = layer.attended_given_word(
        ops.convert_to_tensor(states), ops.convert_to_tensor(words), layer.precompute(regions, mask)
    )
    (found,) = backends.to_numpy([found])
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        expected = definition.attended_given_word(
            weights(layer), words[n, c], states[n, c], regions[n], None if mask is None else mask[n]
        )
        np.testing.assert_allclose(found[n, c], expected, 1e-10)


@every_variant
def test_is_the_gru_of_keras_where_regions_are_not_fed_back(variant):
    cell = make_cell(variant)
    if variant in ("conditional", "full"):
        cell.region_kernel.assign(np.zeros((FEATURES, 3 * UNITS)))
    plain = keras.layers.GRUCell(UNITS, reset_after=True, dtype="float64")
    plain.build((None, EMBEDDING))
    named = weights(cell)
    plain.set_weights([named["word_kernel"], named["recurrent_kernel"], named["bias"]])
    word, state = normal(IMAGES, EMBEDDING, seed=5), normal(IMAGES, UNITS, seed=1)
    with cell.attending(states_and_regions()[1], MASK):
        found, _ = cell(word, [state, normal(IMAGES, FEATURES, seed=3)])
    expected, _ = plain(word, [state])
    np.testing.assert_allclose(*backends.to_numpy([found, expected]), 1e-12)


@pytest.mark.parametrize("captions", [None, CAPTIONS])
def test_the_zero_state_looks_at_what_the_attention_says(captions):
    cell = make_cell()
    regions = states_and_regions()[1]
    state = np.zeros((IMAGES, UNITS))
    if captions:
        memory = cell.attention.precompute(regions, MASK)
        zeros = ops.zeros((IMAGES, captions, UNITS), dtype="float64")
        found = backends.to_numpy(cell.start(zeros, memory))
        found = [part[:, -1] for part in found]
    else:
        with cell.attending(regions, MASK):
            found = backends.to_numpy(cell.get_initial_state(batch_size=IMAGES))
    np.testing.assert_array_equal(found[0], state)
    for n in range(IMAGES):
        expected = definition.attended(weights(cell), state[n], regions[n], MASK[n])
        np.testing.assert_allclose(found[1][n], expected, 1e-10)


@every_variant
def test_a_call_may_take_the_captions_of_an_image_together(variant):
    cell = make_cell(variant)
    state, regions = states_and_regions()
    words = normal(IMAGES, CAPTIONS, EMBEDDING, seed=5)
    looks = normal(IMAGES, CAPTIONS, FEATURES, seed=4)
    with cell.attending(regions, MASK):
        output, together = cell(words, [state, looks])
        apart = [cell(words[:, c], [state[:, c], looks[:, c]])[1] for c in range(CAPTIONS)]
    np.testing.assert_array_equal(*backends.to_numpy([output, together[0]]))
    for part in range(2):
        expected = np.stack(backends.to_numpy([states[part] for states in apart]), axis=1)
        np.testing.assert_allclose(backends.to_numpy(together)[part], expected, 1e-12)


@every_variant
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_states_stay_float32_over_a_caption_in_mixed_precision(variant, policy):
    cell = make_cell(variant, policy)
    state, regions = states_and_regions("float32")
    words = caption_words("float32")
    seen, normalizers = run(cell, words, state, regions, MASK)
    for output in (seen, normalizers):
        assert output is None or keras.backend.standardize_dtype(output.dtype) == "float32"
    expected, _ = definition.every_recurrence(weights(cell), variant, state, words, regions, MASK)
    np.testing.assert_allclose(backends.to_numpy([seen])[0], expected, 0.05, 0.02)


def test_a_cell_without_regions_says_what_to_do():
    cell = make_cell()
    inputs = normal(IMAGES, EMBEDDING), [normal(IMAGES, UNITS), normal(IMAGES, FEATURES)]
    with pytest.raises(ValueError, match=r"AttentionGRUCell: regions must be set .*attending"):
        cell(*inputs)
    with cell.attending(states_and_regions()[1]):
        cell(*inputs)
    with pytest.raises(ValueError, match="regions must be set"):
        cell(*inputs)


def test_regions_are_forgotten_when_the_call_fails():
    cell = make_cell()
    with pytest.raises(KeyError), cell.attending(states_and_regions()[1]):
        raise KeyError
    with pytest.raises(ValueError, match="regions must be set"):
        cell.get_initial_state(batch_size=IMAGES)


def test_regions_may_be_set_before_the_cell_has_weights():
    cell = AttentionGRUCell(UNITS, FEATURES, AreaAttention(WORDS, EMBEDDING))
    with cell.attending(states_and_regions("float32")[1]):
        output = keras.layers.RNN(cell)(normal(IMAGES, STEPS, EMBEDDING))
    assert tuple(output.shape) == (IMAGES, UNITS)


def test_run_needs_a_known_number_of_steps():
    words = keras.KerasTensor((IMAGES, CAPTIONS, None, EMBEDDING))
    with pytest.raises(ValueError, match=r"AttentionGRUCell: `words` must have a known number"):
        make_cell().run(words, None, None)


def run(cell, words, state, regions, mask, dropout=None):
    """`cell.run` from `state`, of arrays."""
    memory = cell.attention.precompute(regions, mask)
    states = cell.start(ops.convert_to_tensor(state), memory)
    dropout = None if dropout is None else ops.convert_to_tensor(dropout)
    return cell.run(ops.convert_to_tensor(words), states, memory, dropout)
