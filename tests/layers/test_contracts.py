"""What every layer keeps to: its configuration, its file, its errors."""

import inspect
import json

import backends
import keras
import numpy as np
import pytest
from cases import EMBEDDING, FEATURES, UNITS, WORDS, normal, randomize
from keras import ops

from keras_aoa.layers import (
    AffineResampling,
    AreaAttention,
    AttentionGRUCell,
    AttentionRNN,
    GridRegions,
    MeanRegion,
    ProposalRegions,
    TransformerRegions,
)


def make_attention():
    return AreaAttention(WORDS, EMBEDDING, "word_region", (0, 1), tied=False, name="look")


def make_cell():
    return AttentionGRUCell(UNITS, FEATURES, make_attention(), dtype="mixed_bfloat16")


def make_rnn():
    return AttentionRNN(make_cell(), return_sequences=True, return_state=True)


def make_grid(**arguments):
    return GridRegions(stride=2, block=3, **arguments)


def make_mean(**arguments):
    return MeanRegion(stride=2, **arguments)


def make_proposals(**arguments):
    return ProposalRegions(**arguments)


def make_transformer(**arguments):
    return TransformerRegions(2, 1.5, False, "replicate", 4, "tanh", 6, **arguments)


def make_resampling(**arguments):
    return AffineResampling(2, "replicate", **arguments)


# What a layer takes beside a map of 5 rows, 6 columns and 3 features.
BESIDE = {
    make_grid: (),
    make_mean: (),
    make_transformer: (),
    make_proposals: (4, 4),
    make_resampling: (5, 6, 2, 3),
}
of_maps = pytest.mark.parametrize("make", BESIDE)
every_layer = pytest.mark.parametrize("make", [make_attention, make_cell, make_rnn, *BESIDE])


@every_layer
def test_config_holds_every_constructor_argument(make):
    layer = make()
    arguments = set(inspect.signature(type(layer).__init__).parameters)
    assert arguments - {"self", "kwargs"} <= set(layer.get_config())


@every_layer
def test_a_layer_equals_the_one_made_from_its_config(make):
    layer = make()
    config = layer.get_config()
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    copies = [
        type(layer).from_config(layer.get_config()),
        keras.saving.deserialize_keras_object(json.loads(text)),
    ]
    for copy in copies:
        assert type(copy) is type(layer)
        assert without_marks(copy.get_config()) == without_marks(config)
        for name in set(inspect.signature(type(layer).__init__).parameters) & set(vars(layer)):
            if not isinstance(getattr(layer, name), keras.layers.Layer):
                assert getattr(copy, name) == getattr(layer, name)


def without_marks(config):
    """A configuration as JSON gives it back, without the ids of shared objects."""
    return json.loads(
        json.dumps(config),
        object_hook=lambda value: {k: v for k, v in value.items() if k != "shared_object_id"},
    )


@every_layer
def test_a_layer_is_registered_under_the_packages_name(make):
    layer = make()
    name = f"keras_aoa>{type(layer).__name__}"
    assert keras.saving.get_registered_object(name) is type(layer)


@every_layer
def test_every_public_class_says_its_shapes_and_its_source(make):
    text = type(make()).__doc__
    assert "`(n," in text
    assert "Args:" in text or "Call arguments:" in text
    assert "Returns:" in text


def values_for(make):
    """A map, and boxes or transforms where the layer takes them."""
    values = [normal(2, 5, 6, 3, dtype="float32")]
    if BESIDE[make]:
        values.append(normal(2, *BESIDE[make], seed=1, dtype="float32"))
    return values


def listed(outputs):
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


@of_maps
@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16"])
def test_symbolic_outputs_are_like_the_values(make, policy):
    layer, values = make(dtype=policy), values_for(make)
    symbolic = layer(*(keras.Input(value.shape[1:], batch_size=2) for value in values))
    for part, value in zip(listed(symbolic), listed(layer(*values)), strict=True):
        assert tuple(part.shape) == tuple(value.shape)
        assert part.dtype == keras.backend.standardize_dtype(value.dtype)


@of_maps
def test_images_do_not_touch_each_other(make):
    layer, values = make(), values_for(make)
    layer(*(keras.Input(value.shape[1:]) for value in values))
    together = backends.to_numpy(listed(backends.compiled(layer)(*values)))
    for n in range(2):
        alone = backends.to_numpy(
            listed(backends.compiled(layer)(*(value[n : n + 1] for value in values)))
        )
        for part, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(part[n : n + 1], other, 0, 1e-6)


@of_maps
def test_a_model_learns_and_its_file_keeps_it(make, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input(value.shape[1:]) for value in values_for(make)]
    maps = keras.layers.Conv2D(3, 1)(inputs[0])
    layer = randomize(make()) if make is make_transformer else make()
    parts = listed(layer(maps, *inputs[1:]))
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(parts[0]))
    model = keras.Model(inputs, [outputs, *parts])
    trained = keras.Model(inputs, outputs)
    trained.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    before = [ops.convert_to_numpy(weight) for weight in trained.weights]
    history = trained.fit(values_for(make), np.array([[1.0], [-2.0]]), epochs=2, verbose=0)
    first, second = history.history["loss"]
    assert second < first
    for old, weight in zip(before, trained.trainable_weights, strict=True):
        assert np.abs(ops.convert_to_numpy(weight) - old).max() > 0, weight.path
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    expected = backends.to_numpy(model(values_for(make)))
    for part, other in zip(backends.to_numpy(copy(values_for(make))), expected, strict=True):
        np.testing.assert_array_equal(part, other)


def attention_on(states, regions):
    return AreaAttention(WORDS, EMBEDDING)(np.zeros(states), np.zeros(regions))


def attend(*shape):
    with make_cell().attending(np.zeros(shape)):
        pass


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: AreaAttention(WORDS, EMBEDDING, variant="ful"),
            "AreaAttention: `variant` must be one of baseline, word_region, word_region_state, "
            "conditional, full; received 'ful'.",
        ),
        (
            lambda: AreaAttention(WORDS, EMBEDDING, variant="conditional", tied=False),
            "AreaAttention: variant='conditional' needs tied=True, because the region "
            "vector depends on the input word's score; received tied=False.",
        ),
        (
            lambda: AreaAttention(7, EMBEDDING, never_predicted=(0, 7)),
            "AreaAttention: `never_predicted` must contain ids from 0 to 6; received (0, 7).",
        ),
        (
            lambda: AreaAttention(7, EMBEDDING, never_predicted=(-1, 3)),
            "AreaAttention: `never_predicted` must contain ids from 0 to 6; received (-1, 3).",
        ),
        (
            lambda: attention_on((2, 8), (2, 14, 14, 512)),
            "AreaAttention: `regions` must be (batch, regions, features); received shape "
            "(2, 14, 14, 512). Flatten a grid first: `ops.reshape(grid, (batch, -1, features))`.",
        ),
        (
            lambda: attention_on((8,), (2, 5, 9)),
            "AreaAttention: `states` must be (batch, …, units); received shape (8,).",
        ),
        (
            lambda: attend(2, 5, 4),
            "AttentionGRUCell: `regions` must be (batch, regions, 9), because region_dim=9; "
            "received shape (2, 5, 4).",
        ),
        (
            lambda: attend(2, 2, 3, 9),
            "AttentionGRUCell: `regions` must be (batch, regions, 9), because region_dim=9; "
            "received shape (2, 2, 3, 9).",
        ),
        (
            lambda: GridRegions(stride=0),
            "GridRegions: `stride` must be at least 1; received 0.",
        ),
        (
            lambda: GridRegions(block=-1),
            "GridRegions: `block` must be at least 1; received -1.",
        ),
        (
            lambda: GridRegions()(normal(1, 2, 2, 3), stride=0),
            "GridRegions: `stride` must be at least 1; received 0.",
        ),
        (
            lambda: GridRegions()(np.zeros((2, 196, 512))),
            "GridRegions: `activations` must be (batch, rows, columns, features); received shape "
            "(2, 196, 512).",
        ),
        (
            lambda: MeanRegion(stride=0),
            "MeanRegion: `stride` must be at least 1; received 0.",
        ),
        (
            lambda: MeanRegion()(normal(1, 2, 2, 3), stride=-1),
            "MeanRegion: `stride` must be at least 1; received -1.",
        ),
        (
            lambda: MeanRegion()(np.zeros((2, 512))),
            "MeanRegion: `activations` must be (batch, rows, columns, features); received shape "
            "(2, 512).",
        ),
        (
            lambda: TransformerRegions(stride=0),
            "TransformerRegions: `stride` must be at least 1; received 0.",
        ),
        (
            lambda: TransformerRegions()(normal(1, 2, 2, 3), stride=0),
            "TransformerRegions: `stride` must be at least 1; received 0.",
        ),
        (
            lambda: TransformerRegions(anchor_scale=0),
            "TransformerRegions: `anchor_scale` must be more than 0; received 0.",
        ),
        (
            lambda: TransformerRegions(border="edge"),
            "TransformerRegions: `border` must be one of ('zero', 'replicate'); received 'edge'.",
        ),
        (
            lambda: TransformerRegions()(np.zeros((2, 196, 512))),
            "TransformerRegions: `activations` must be (batch, rows, columns, features); received "
            "shape (2, 196, 512).",
        ),
        (
            lambda: AffineResampling(block=0),
            "AffineResampling: `block` must be at least 1; received 0.",
        ),
        (
            lambda: AffineResampling(border=None),
            "AffineResampling: `border` must be one of ('zero', 'replicate'); received None.",
        ),
        (
            lambda: AffineResampling()(np.zeros((2, 5, 7, 3)), np.zeros((2, 5, 7, 6))),
            "AffineResampling: `activations` must be (batch, rows, columns, features) and "
            "`transforms` (batch, rows, columns, 2, 3); received shapes (2, 5, 7, 3) and "
            "(2, 5, 7, 6).",
        ),
        (
            lambda: ProposalRegions()(np.zeros((2, 5, 7, 3)), np.zeros((2, 5, 2, 2))),
            "ProposalRegions: `activations` must be (batch, rows, columns, features) and "
            "`proposals` (batch, regions, 4); received shapes (2, 5, 7, 3) and (2, 5, 2, 2).",
        ),
    ],
)
def test_a_mistake_is_told_with_what_was_expected_and_received(mistake, message):
    with pytest.raises(ValueError) as error:
        mistake()
    assert message in str(error.value)
