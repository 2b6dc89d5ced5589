"""What every layer keeps to: its configuration, its file, its errors."""

import inspect
import json

import keras
import numpy as np
import pytest
from cases import EMBEDDING, FEATURES, UNITS, WORDS, normal

from keras_aoa.layers import AreaAttention, AttentionGRUCell, AttentionRNN, GridRegions


def make_attention():
    return AreaAttention(WORDS, EMBEDDING, "word_region", (0, 1), tied=False, name="look")


def make_cell():
    return AttentionGRUCell(UNITS, FEATURES, make_attention(), dtype="mixed_bfloat16")


def make_rnn():
    return AttentionRNN(make_cell(), return_sequences=True, return_state=True)


def make_grid():
    return GridRegions(stride=2, block=3)


every_layer = pytest.mark.parametrize("make", [make_attention, make_cell, make_rnn, make_grid])


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
            "AreaAttention: variant='conditional' needs tied=True, since the feedback scores the "
            "word that is fed; received tied=False.",
        ),
        (
            lambda: AreaAttention(7, EMBEDDING, never_predicted=(0, 7)),
            "AreaAttention: `never_predicted` must be ids below 7; received (0, 7).",
        ),
        (
            lambda: AreaAttention(7, EMBEDDING, never_predicted=(-1, 3)),
            "AreaAttention: `never_predicted` must be ids below 7; received (-1, 3).",
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
            "AttentionGRUCell: `regions` must be (batch, regions, 9), as region_dim=9 says; "
            "received shape (2, 5, 4).",
        ),
        (
            lambda: attend(2, 2, 3, 9),
            "AttentionGRUCell: `regions` must be (batch, regions, 9), as region_dim=9 says; "
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
    ],
)
def test_a_mistake_is_told_with_what_was_expected_and_received(mistake, message):
    with pytest.raises(ValueError) as error:
        mistake()
    assert message in str(error.value)
