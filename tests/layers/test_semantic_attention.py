"""Semantic attention against its definition in NumPy, alone and in the cell."""

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

from keras_aoa.layers import AttentionGRUCell, AttentionRNN, Regions, SemanticAttention

REGION_FEATURES = normal(IMAGES, REGIONS, FEATURES, seed=1)
IDS = (6, 1, 3, 5)
CONCEPTS = np.array([[0.1, 0.7, 0.4, 0.2], [0.9, 0.3, 0.05, 0.6]])
ATTENDED = 3


def make_attention(dtype="float64", **arguments):
    options = {"concept_ids": IDS, "attended": ATTENDED, "feature_length": 0.0, **arguments}
    layer = SemanticAttention(WORDS, EMBEDDING, dtype=dtype, **options)
    layer.build((IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    return randomize(layer)


def make_cell(dtype="float64", **arguments):
    cell = AttentionGRUCell(UNITS, FEATURES, make_attention(dtype, **arguments), dtype=dtype)
    cell.build((None, EMBEDDING))
    return randomize(cell)


def embedded(values, n):
    matrix = values.get("input_words", values["words"])
    return definition.best_concepts(CONCEPTS[n], matrix, IDS, ATTENDED)


def words_of(values, output, never_predicted=()):
    """p(w) by the definition, from a state with the attended concepts."""
    scores = values["words"] @ (values["word_state"] @ output + values["word_bias"])
    factors = [0 if w in never_predicted else np.exp(s) for w, s in enumerate(scores)]
    return np.array(factors) / sum(factors)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("tied", [True, False])
def test_words_are_the_definitions_and_regions_uniform(mask, tied):
    layer = make_attention(never_predicted=(2,), tied=tied)
    states = normal(IMAGES, CAPTIONS, UNITS, seed=2)
    words, places = backends.to_numpy(
        layer(states, REGION_FEATURES, region_mask=mask, concepts=CONCEPTS)
    )
    values, said = weights(layer), np.arange(WORDS) != 2
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        output = definition.semantic_output(values, states[n, c], embedded(values, n))
        expected = words_of(values, output, (2,))
        np.testing.assert_allclose(np.exp(words[n, c][said]), expected[said], rtol=1e-9)
        assert words[n, c, 2] < -1e6
        shown = np.ones(REGIONS, bool) if mask is None else mask[n]
        np.testing.assert_allclose(places[n, c], shown / shown.sum(), rtol=1e-9)


def run(cell, inputs, start, targets, dropout=None):
    """Return the log-probabilities of targets `(n, c t)` after a run of the cell."""
    memory = cell.attention.precompute(REGION_FEATURES, None, ops.convert_to_tensor(CONCEPTS))
    dropout = None if dropout is None else ops.convert_to_tensor(dropout)
    states = cell.start(ops.convert_to_tensor(start), memory)
    seen, _ = cell.run(ops.convert_to_tensor(inputs), states, memory, dropout)
    flat = ops.reshape(seen, (IMAGES, CAPTIONS * STEPS, UNITS))
    return cell.attention.target_log_probs(flat, targets, memory)


INPUTS = normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=4)
START = normal(IMAGES, CAPTIONS, UNITS, seed=5)
TARGETS = np.random.default_rng(7).integers(0, WORDS, (IMAGES, CAPTIONS * STEPS))


def test_the_cell_over_captions_is_the_definitions():
    cell, dropout = make_cell(), np.abs(normal(IMAGES, CAPTIONS, STEPS, UNITS, seed=6))
    (found,) = backends.to_numpy([run(cell, INPUTS, START, TARGETS, dropout)])
    values = weights(cell)
    assert "region_kernel" not in values
    for n, c in np.ndindex(IMAGES, CAPTIONS):
        state, concepts = START[n, c], embedded(values, n)
        for t in range(STEPS):
            received = definition.semantic_input(values, INPUTS[n, c, t], concepts)
            state = definition.gru(values, state, received)
            output = definition.semantic_output(values, state * dropout[n, c, t], concepts)
            place = c * STEPS + t
            expected = np.log(words_of(values, output)[TARGETS[n, place]])
            np.testing.assert_allclose(found[n, place], expected, rtol=1e-9)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by a tape")
def test_gradients_are_the_differences_of_the_loss():
    import tensorflow as tf

    cell = make_cell()
    with tf.GradientTape() as tape:
        loss = ops.sum(run(cell, INPUTS, START, TARGETS))
    gradients = tape.gradient(loss, [weight.value for weight in cell.trainable_weights])
    random = np.random.default_rng(0)
    for weight, gradient in zip(cell.trainable_weights, gradients, strict=True):
        value = np.array(weight.value)
        direction = random.normal(size=value.shape)
        losses = []
        for sign in (1, -1):
            weight.assign(value + sign * 1e-6 * direction)
            losses.append(float(ops.sum(run(cell, INPUTS, START, TARGETS))))
        weight.assign(value)
        expected = np.sum(np.asarray(tf.convert_to_tensor(gradient)) * direction)
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(expected, rel=1e-5), weight.path


def test_only_the_most_probable_concepts_are_attended_to():
    layer, states = make_attention(), normal(IMAGES, UNITS, seed=2)
    (expected,) = backends.to_numpy([layer(states, REGION_FEATURES, concepts=CONCEPTS)[0]])
    others = CONCEPTS.copy()
    others[0, 0], others[1, 2] = 0.15, 0.01  # still the least probable ones
    (found,) = backends.to_numpy([layer(states, REGION_FEATURES, concepts=others)[0]])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    others[0, 0] = 0.8
    (found,) = backends.to_numpy([layer(states, REGION_FEATURES, concepts=others)[0]])
    assert np.abs(found[0] - expected[0]).max() > 1e-3
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
    many = make_attention(attended=100)  # more than there are
    assert many.precompute(REGION_FEATURES, concepts=CONCEPTS).concepts.shape[1] == len(IDS)


def test_mixed_precision_gives_wide_results_near_the_wide_ones():
    states = normal(IMAGES, UNITS, seed=2).astype("float32")
    wide, mixed = make_attention("float32"), make_attention("mixed_bfloat16")
    regions, concepts = REGION_FEATURES.astype("float32"), CONCEPTS.astype("float32")
    expected, found = (layer(states, regions, concepts=concepts) for layer in (wide, mixed))
    for value, other in zip(found, expected, strict=True):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(backends.to_numpy(value), backends.to_numpy(other), atol=0.05)


def test_a_file_keeps_the_layer_and_a_copy_has_its_configuration(tmp_path):
    states, regions = keras.Input((UNITS,)), keras.Input((REGIONS, FEATURES))
    concepts = keras.Input((len(IDS),))
    layer = SemanticAttention(WORDS, EMBEDDING, (1,), False, 2.0, IDS, ATTENDED)
    model = keras.Model(
        [states, regions, concepts], layer(states, Regions(regions, None, None), concepts=concepts)
    )
    randomize(layer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [
        normal(IMAGES, UNITS, dtype="float32"),
        REGION_FEATURES.astype("float32"),
        CONCEPTS.astype("float32"),
    ]
    expected, found = model.predict(inputs, verbose=0), loaded.predict(inputs, verbose=0)
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, other)
    other = SemanticAttention.from_config(layer.get_config())
    assert other.get_config() == layer.get_config()


def test_a_cell_made_from_its_configuration_shares_the_kernel_again():
    cell = AttentionGRUCell.from_config(make_cell().get_config())
    cell.build((None, EMBEDDING))
    assert cell.region_kernel is cell.word_kernel
    assert len({id(weight) for weight in cell.weights}) == len(cell.weights) == 10


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: SemanticAttention(7, 4),
            "`concept_ids` must contain at least one id, from 0 to 6",
        ),
        (lambda: SemanticAttention(7, 4, concept_ids=(4, 7)), "from 0 to 6; received (4, 7)."),
        (lambda: make_attention(attended=0), "`attended` must be at least 1; received 0."),
        (
            lambda: make_attention()(START, REGION_FEATURES),
            "`concepts` must be (batch, 4), one probability for each of `concept_ids`; received n",
        ),
        (
            lambda: make_attention()(START, REGION_FEATURES, concepts=CONCEPTS[:, :3]),
            "`concepts` must be (batch, 4), one probability for each of `concept_ids`; received s",
        ),
        (
            lambda: AttentionRNN(make_cell())(INPUTS[:, 0], REGION_FEATURES),
            "`concepts` must be (batch, 4), one probability for each of `concept_ids`; received n",
        ),
    ],
)
def test_a_mistake_is_told_with_what_was_expected_and_received(mistake, message):
    with pytest.raises(ValueError) as error:
        mistake()
    assert message in str(error.value)
