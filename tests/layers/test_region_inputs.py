"""Regions as inputs of the attention layers: `Regions`, their scaling, and refused mistakes."""

import backends
import keras
import numpy as np
import pytest
from cases import EMBEDDING, FEATURES, IMAGES, MASK, STEPS, UNITS, WORDS, normal
from keras import ops

from keras_aoa.layers import (
    AreaAttention,
    AttentionGRUCell,
    AttentionRNN,
    GridRegions,
    ProposalRegions,
    Regions,
    SoftAttention,
)

FEATURE_VALUES = normal(*MASK.shape, FEATURES, seed=2, dtype="float32")
OTHER_MASK = np.roll(MASK, 1, axis=1)
REGIONS_TUPLE = Regions(FEATURE_VALUES, np.zeros((*MASK.shape, 4, 2), "float32"), MASK)
STATES = normal(IMAGES, STEPS, UNITS, seed=3, dtype="float32")
WORD_VECTORS = normal(IMAGES, STEPS, EMBEDDING, seed=4, dtype="float32")


def area_call(regions, **arguments):
    keras.utils.set_random_seed(0)
    return AreaAttention(WORDS, EMBEDDING)(STATES, regions, **arguments)


def soft_call(regions, **arguments):
    keras.utils.set_random_seed(0)
    return SoftAttention(WORDS, EMBEDDING)(STATES, STATES, regions, **arguments)


def cell(units=UNITS, region_dim=FEATURES):
    keras.utils.set_random_seed(0)
    return AttentionGRUCell(units, region_dim, AreaAttention(WORDS, EMBEDDING))


def rnn_call(regions, **arguments):
    return [AttentionRNN(cell())(WORD_VECTORS, regions, **arguments)]


def attending_call(regions, **arguments):
    rnn = keras.layers.RNN(cell())
    with rnn.cell.attending(regions, **arguments):
        return [rnn(WORD_VECTORS)]


every_call = pytest.mark.parametrize("call", [area_call, soft_call, rnn_call, attending_call])


def assert_equal(outputs, expected):
    for part, other in zip(backends.to_numpy(outputs), backends.to_numpy(expected), strict=True):
        np.testing.assert_array_equal(part, other)


@every_call
def test_regions_equal_their_features_and_mask(call):
    expected = call(FEATURE_VALUES, region_mask=MASK)
    assert_equal(call(REGIONS_TUPLE), expected)
    unmasked = backends.to_numpy(call(FEATURE_VALUES))
    assert np.abs(unmasked[0] - backends.to_numpy(expected)[0]).max() > 1e-5


@every_call
def test_an_explicit_mask_takes_precedence(call):
    expected = call(FEATURE_VALUES, region_mask=OTHER_MASK)
    assert_equal(call(REGIONS_TUPLE, region_mask=OTHER_MASK), expected)


def test_regions_and_the_mask_may_be_positional_or_named():
    layer = AreaAttention(WORDS, EMBEDDING)
    expected = layer(STATES, FEATURE_VALUES, MASK)
    assert_equal(layer(STATES, REGIONS_TUPLE, None), expected)
    assert_equal(layer(states=STATES, regions=REGIONS_TUPLE), expected)
    assert_equal(
        layer(STATES, REGIONS_TUPLE, OTHER_MASK), layer(STATES, FEATURE_VALUES, OTHER_MASK)
    )


@every_call
def test_regions_work_in_a_compiled_function(call):
    @backends.compiled
    def function(features, mask):
        return call(Regions(features, None, mask))

    outputs = backends.to_numpy(function(FEATURE_VALUES, MASK))
    for part, other in zip(outputs, backends.to_numpy(call(REGIONS_TUPLE)), strict=True):
        assert part.shape == other.shape


def proposal_captioner():
    """Functional captioner whose second image may have fewer regions than the first."""
    words = keras.Input((None, EMBEDDING))
    activations, boxes = keras.Input((4, 4, FEATURES)), keras.Input((3, 4))
    regions = ProposalRegions()(activations, boxes)
    attention = AreaAttention(WORDS, EMBEDDING)
    recurrent = AttentionRNN(AttentionGRUCell(UNITS, FEATURES, attention), return_sequences=True)
    outputs = attention(recurrent(words, regions), regions)
    soft = SoftAttention(WORDS, EMBEDDING)
    states = keras.layers.GRU(UNITS, return_sequences=True)(words)
    return keras.Model([words, activations, boxes], [*outputs, *soft(states, states, regions)])


def test_functional_models_and_their_files_use_the_mask_of_regions(tmp_path):
    model = proposal_captioner()
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 1]]] * 2, "float32")
    boxes[1, 2] = 0
    values = [WORD_VECTORS, normal(IMAGES, 4, 4, FEATURES, dtype="float32"), boxes]
    outputs = backends.to_numpy(model(values))
    for region_probs in outputs[1::2]:
        assert (region_probs[1, :, 2] == 0).all()
        assert (region_probs[0, :, 2] > 0).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(loaded(values), outputs)
    assert len(loaded.weights) == len(model.weights)


@every_call
def test_features_of_any_length_give_the_same_output(call):
    outputs, longer = (backends.to_numpy(call(FEATURE_VALUES * scale)) for scale in (1.0, 1000.0))
    for part, other in zip(outputs, longer, strict=True):
        np.testing.assert_allclose(part, other, 1e-4, 1e-5)


@pytest.mark.parametrize("attention_class", [AreaAttention, SoftAttention])
def test_regions_are_scaled_to_the_feature_length_everywhere(attention_class):
    attention = attention_class(WORDS, EMBEDDING, feature_length=2.5)
    recurrent = AttentionGRUCell(UNITS, FEATURES, attention)
    with recurrent.attending(FEATURE_VALUES * 100) as memory:
        _, attended = recurrent.get_initial_state(batch_size=IMAGES)
    lengths = np.linalg.norm(backends.to_numpy([memory.regions])[0], axis=-1)
    np.testing.assert_allclose(lengths, 2.5, 1e-5)
    assert (np.linalg.norm(backends.to_numpy([attended])[0], axis=-1) <= 2.5 + 1e-4).all()


@pytest.mark.parametrize("attention_class", [AreaAttention, SoftAttention])
def test_configurations_without_a_feature_length_leave_features_unscaled(attention_class):
    config = attention_class(WORDS, EMBEDDING).get_config()
    assert attention_class.from_config(config).feature_length == config["feature_length"] > 0
    del config["feature_length"]
    old = attention_class.from_config(config)
    assert old.feature_length == 0
    assert old.get_config()["feature_length"] == 0
    recurrent = AttentionGRUCell(UNITS, FEATURES, old)
    with recurrent.attending(FEATURE_VALUES) as memory:
        assert_equal([memory.regions], [FEATURE_VALUES])


def cnn_like_examples(count=64):
    """Captions of one word about which of four features of a region stands out, and grids."""
    rng = np.random.default_rng(0)
    kinds, places = rng.integers(0, 4, count), rng.integers(0, 9, count)
    grids = np.abs(rng.normal(size=(count, 9, 32)))
    grids[np.arange(count), places] += 4 * np.abs(rng.normal(size=(4, 32)))[kinds]
    grids *= 200 / np.linalg.norm(grids, axis=-1, keepdims=True)
    captions = np.stack([np.ones_like(kinds), 3 + kinds, np.full_like(kinds, 2)], axis=1)
    return captions, grids.reshape(count, 3, 3, 32).astype("float32")


def losses_after_training(feature_length, scales):
    """Train one model anew on grids times each of `scales`, and return its last losses."""
    keras.utils.set_random_seed(0)
    captions, grids = cnn_like_examples()
    words, activations = keras.Input((2,), dtype="int32"), keras.Input((3, 3, 32))
    regions = GridRegions()(activations)
    attention = AreaAttention(WORDS, 16, feature_length=feature_length)
    cell = AttentionGRUCell(32, 32, attention)
    recurrent = AttentionRNN(cell, return_sequences=True, unroll=True)
    states = recurrent(keras.layers.Embedding(WORDS, 16)(words), regions)
    model = keras.Model([words, activations], attention(states, regions)[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA needs seconds to compile a model that trains in one.
    xla = False if backends.BACKEND == "tensorflow" else "auto"
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=xla)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start, losses = [ops.convert_to_numpy(variable) for variable in variables], []
    for scale in scales:
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        inputs = [captions[:, :-1], grids * scale]
        history = model.fit(inputs, captions[:, 1:], 16, epochs=8, verbose=0, shuffle=False)
        losses.append(history.history["loss"][-1])
    return losses


def test_features_of_length_200_train_as_well_as_scaled_ones():
    default = AreaAttention(WORDS, 16).feature_length
    scaled_by_hand, unscaled = losses_after_training(0.0, (default / 200, 1.0))
    (scaled,) = losses_after_training(default, (1.0,))
    print(f"loss: {scaled_by_hand} scaled by hand, {unscaled} unscaled, {scaled} by default")
    assert scaled == pytest.approx(scaled_by_hand, rel=0.02)
    assert scaled < 0.6
    assert unscaled > 2 * scaled


WORDS_INPUT = keras.Input((None, EMBEDDING))
STATES_INPUT = keras.Input((None, UNITS))


def regions_input(features):
    return keras.Input((None, features))


def functional_rnn():
    return keras.layers.RNN(cell())(WORDS_INPUT)


def functional_rnn_in_attending():
    recurrent = cell()
    with recurrent.attending(regions_input(FEATURES)):
        return keras.layers.RNN(recurrent)(WORDS_INPUT)


def attention_of_two_kinds(attention_class, *states):
    layer = attention_class(WORDS, EMBEDDING)
    layer(*states, regions_input(FEATURES))
    return layer(*states, regions_input(FEATURES + 1))


def cell_after_its_attention():
    attention = AreaAttention(WORDS, EMBEDDING)
    attention(STATES_INPUT, regions_input(FEATURES))
    recurrent = AttentionGRUCell(UNITS, FEATURES + 1, attention)
    return AttentionRNN(recurrent)(WORDS_INPUT, regions_input(FEATURES + 1))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: AttentionRNN(cell(region_dim=4))(WORDS_INPUT, regions_input(FEATURES)),
            "AttentionGRUCell: `regions` must be (batch, regions, 4), because region_dim=4; "
            "received shape (None, None, 9). Set region_dim to the number of features",
        ),
        (
            lambda: AttentionRNN(cell())(WORDS_INPUT, GridRegions()(keras.Input((4, 4, 7)))),
            "AttentionGRUCell: `regions` must be (batch, regions, 9), because region_dim=9; "
            "received shape (None, 16, 7).",
        ),
        (
            lambda: AttentionRNN(cell())(WORDS_INPUT, regions=keras.Input((4, 4, FEATURES))),
            "received shape (None, 4, 4, 9). Set region_dim to the number of features, and "
            "flatten a grid",
        ),
        (
            cell_after_its_attention,
            "AttentionGRUCell: `region_dim` must be 9, the number of features that the "
            "attention was built for; received 10.",
        ),
        (
            lambda: attention_of_two_kinds(AreaAttention, STATES_INPUT),
            "AreaAttention: `regions` must be (batch, regions, 9)",
        ),
        (
            lambda: attention_of_two_kinds(SoftAttention, STATES_INPUT, STATES_INPUT),
            "SoftAttention: `regions` must be (batch, regions, 9)",
        ),
        (
            lambda: SoftAttention(WORDS, EMBEDDING)(
                STATES_INPUT, STATES_INPUT, keras.Input((4, 4, FEATURES))
            ),
            "SoftAttention: `regions` must be (batch, regions, features); received shape "
            "(None, 4, 4, 9). Flatten a grid first",
        ),
        (functional_rnn, "AttentionGRUCell: regions must be set before the cell runs"),
        (
            functional_rnn_in_attending,
            "AttentionGRUCell: `attending` needs regions with values; received a symbolic "
            "tensor. In a functional model use `AttentionRNN(cell)(words, regions)`.",
        ),
        (
            lambda: AreaAttention(WORDS, EMBEDDING, feature_length=-1),
            "AreaAttention: `feature_length` must be positive, or 0 to leave features unscaled; "
            "received -1.",
        ),
    ],
)
def test_mistakes_are_refused_when_the_model_is_made(mistake, message):
    with pytest.raises(ValueError) as error:
        mistake()
    assert message in str(error.value)


def test_a_subclassed_model_prints_its_summary(capsys):
    model = keras.Sequential([keras.layers.RNN(cell())])
    model.layers[0].build((None, None, EMBEDDING))
    keras.Model.summary(model)
    assert "rnn" in capsys.readouterr().out
