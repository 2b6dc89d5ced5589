"""A cell and an attention that layers share stay shared in every copy of a model."""

import copy

import backends
import keras
import numpy as np
import pytest
from cases import (
    EMBEDDING,
    FEATURES,
    IMAGES,
    MASK,
    REGIONS,
    UNITS,
    WORDS,
    make_cell,
    normal,
    randomize,
)

from keras_aoa.layers import AreaAttention, AttentionGRUCell, AttentionRNN, Regions, SoftAttention

STEPS = 2
SEQUENCES = normal(IMAGES, STEPS, EMBEDDING, seed=6, dtype="float32")
FEATURE_VALUES = normal(IMAGES, REGIONS, FEATURES, seed=2, dtype="float32")
STATES = normal(IMAGES, UNITS, seed=3, dtype="float32")


def saved(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def saved_as_hdf5(model, folder):
    model.save(folder / "model.h5")
    return keras.models.load_model(folder / "model.h5")


# Each way to copy a model gets a folder.
WAYS = {
    "clone_model": lambda model, _: keras.models.clone_model(model),
    "same_inputs": lambda model, _: keras.models.clone_model(model, input_tensors=model.inputs),
    "from_config": lambda model, _: keras.Model.from_config(model.get_config()),
    "json": lambda model, _: keras.models.model_from_json(model.to_json()),
    "keras": saved,
    "hdf5": saved_as_hdf5,
    "deepcopy": lambda model, _: copy.deepcopy(model),  # pickles, too
}


def inputs():
    return keras.Input((None, EMBEDDING)), keras.Input((None, FEATURES))


def cell_with(attention):
    return AttentionGRUCell(UNITS, FEATURES, attention)


def readme_model():
    words, features = inputs()
    regions = Regions(features, None, keras.Input((None,), dtype="bool"))
    attention = AreaAttention(WORDS, EMBEDDING, never_predicted=(0, 2))
    states = AttentionRNN(cell_with(attention), return_sequences=True)(words, regions)
    model = keras.Model([words, features, regions.mask], list(attention(states, regions)))
    return model, [SEQUENCES, FEATURE_VALUES, MASK]


def one_cell_in_two_layers():
    words, regions = inputs()
    cell = cell_with(AreaAttention(WORDS, EMBEDDING))
    outputs = [AttentionRNN(cell)(words, regions)]
    outputs.append(AttentionRNN(cell, go_backwards=True)(words, regions))
    return keras.Model([words, regions], outputs), [SEQUENCES, FEATURE_VALUES]


def one_attention_in_two_cells():
    words, regions = inputs()
    attention = SoftAttention(WORDS, EMBEDDING)
    outputs = [AttentionRNN(cell_with(attention))(words, regions) for _ in range(2)]
    return keras.Model([words, regions], outputs), [SEQUENCES, FEATURE_VALUES]


def attention_before_the_cell_and_twice():
    states, (words, regions) = keras.Input((UNITS,)), inputs()
    attention = AreaAttention(WORDS, EMBEDDING)
    outputs = [attention(states, regions)[0], AttentionRNN(cell_with(attention))(words, regions)]
    outputs.append(attention(outputs[1], regions)[1])
    return keras.Model([states, words, regions], outputs), [STATES, SEQUENCES, FEATURE_VALUES]


def attention_in_a_nested_model():
    states, (words, regions) = keras.Input((None, UNITS)), inputs()
    attention = AreaAttention(WORDS, EMBEDDING)
    head = keras.Model([states, regions], attention(states, regions))
    words, regions = inputs()
    states = AttentionRNN(cell_with(attention), return_sequences=True)(words, regions)
    return keras.Model([words, regions], head([states, regions])), [SEQUENCES, FEATURE_VALUES]


MODELS = {
    readme_model: 10,
    one_cell_in_two_layers: 10,
    one_attention_in_two_cells: 16,
    attention_before_the_cell_and_twice: 10,
    attention_in_a_nested_model: 10,
}
every_model = pytest.mark.parametrize("make", MODELS)


@pytest.fixture(scope="module")
def made():
    """Each model with its inputs and outputs, made once."""
    models = {make: make() for make in MODELS}
    return {
        make: (randomize(model), given, backends.to_numpy(model(given)))
        for make, (model, given) in models.items()
    }


@every_model
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_shares_what_the_model_shares(make, way, made, tmp_path):
    model, given, expected = made[make]
    copied = WAYS[way](model, tmp_path)
    assert [w.shape for w in copied.weights] == [w.shape for w in model.weights]
    assert len(copied.weights) == MODELS[make]
    assert not {id(w) for w in copied.weights} & {id(w) for w in model.weights}
    copied.set_weights(model.get_weights())
    for pair in zip(backends.to_numpy(copied(given)), expected, strict=True):
        np.testing.assert_array_equal(*pair)


def test_copies_of_one_model_share_nothing(made):
    model, _, _ = made[readme_model]
    config, text = model.get_config(), model.to_json()
    copies = [keras.Model.from_config(copy.deepcopy(config)) for _ in range(2)]
    copies += [keras.models.model_from_json(text), keras.models.clone_model(model)]
    assert len({id(w) for copied in copies for w in copied.weights}) == 4 * 10


def test_a_copy_of_one_layer_alone_is_a_new_layer(made):
    rnn = next(layer for layer in made[readme_model][0].layers if isinstance(layer, AttentionRNN))
    first, second = (AttentionRNN.from_config(rnn.get_config()) for _ in range(2))
    alone = AreaAttention.from_config(rnn.cell.attention.get_config())
    assert len({id(rnn.cell), id(first.cell), id(second.cell)}) == 3
    attentions = (rnn.cell.attention, first.cell.attention, second.cell.attention, alone)
    assert len({id(attention) for attention in attentions}) == 4


def test_layers_of_one_name_that_are_not_shared_stay_apart(tmp_path):
    words, regions = inputs()
    cell = cell_with(AreaAttention(WORDS, EMBEDDING, name="attention"))
    states = AttentionRNN(cell, return_sequences=True)(words, regions)
    head = AreaAttention.from_config(cell.attention.get_config())
    model = keras.Model([words, regions], head(states, regions))
    assert len(model.weights) == 16
    for way in WAYS.values():
        assert len(way(model, tmp_path).weights) == 16


@keras.saving.register_keras_serializable(package="tests")
class Ensemble(keras.Model):
    """Members that its constructor copies from one configuration."""

    def __init__(self, member, **kwargs):
        super().__init__(**kwargs)
        self.member = member
        self.members = [keras.Model.from_config(copy.deepcopy(member)) for _ in range(2)]

    def get_config(self):
        return {"member": self.member}


@keras.saving.register_keras_serializable(package="tests")
class Pair(keras.Model):
    """A recurrent layer and the attention of its cell."""

    def __init__(self, rnn, attention, **kwargs):
        super().__init__(**kwargs)
        self.rnn, self.attention = rnn, attention

    def get_config(self):
        parts = {"rnn": self.rnn, "attention": self.attention}
        return {key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}

    @classmethod
    def from_config(cls, config):
        return cls(*(keras.saving.deserialize_keras_object(part) for part in config.values()))


def test_subclassed_models_share_as_they_did(made):
    ensemble = Ensemble(made[readme_model][0].get_config())
    assert len(ensemble.weights) == len(Ensemble.from_config(ensemble.get_config()).weights) == 20
    attention = AreaAttention(WORDS, EMBEDDING)
    pair = Pair(AttentionRNN(cell_with(attention)), attention)
    for copied in (Pair.from_config(pair.get_config()), copy.deepcopy(pair)):
        assert copied.rnn.cell.attention is copied.attention


def test_a_copy_that_changes_a_shared_layer_in_one_place_is_refused(made):
    def renamed(layer):
        return layer.from_config({**layer.get_config(), "name": f"my_{layer.name}"})

    with pytest.raises(ValueError, match=r"AreaAttention: `name` must be equal .*received .*my_"):
        keras.models.clone_model(made[readme_model][0], clone_function=renamed)


def attention_rnn(**arguments):
    return AttentionRNN(make_cell(dtype="float32"), **arguments)


def in_attending(layer_of):
    cell = make_cell(dtype="float32")
    with cell.attending(FEATURE_VALUES):
        return layer_of(cell)(SEQUENCES)


SLICES = np.stack([SEQUENCES] * 2, 1)
REFUSED = {
    "cells": (
        lambda: AttentionRNN([make_cell(), make_cell()]),
        "AttentionRNN: `cell` must be one AttentionGRUCell; received list. .*StackedRNNCells",
    ),
    "stacked": (
        lambda: AttentionRNN(keras.layers.StackedRNNCells([make_cell(), make_cell()])),
        "AttentionRNN: `cell` must be one AttentionGRUCell; received StackedRNNCells. .*next layer",
    ),
    "stateful": (
        lambda: attention_rnn(stateful=True),
        "AttentionRNN: `stateful` must be False, .*received True. Use .*`initial_state`",
    ),
    "stateful_rnn": (
        lambda: in_attending(lambda cell: keras.layers.RNN(cell, stateful=True)),
        "AttentionGRUCell: `stateful` must be False, .*received True. Use .*`initial_state`",
    ),
    "bidirectional": (
        lambda: keras.layers.Bidirectional(attention_rnn()),
        "AttentionGRUCell: `regions` must .*received the wrapper Bidirectional, .*go_backwards",
    ),
    "bidirectional_rnn": (
        lambda: keras.layers.Bidirectional(keras.layers.RNN(make_cell())),
        "AttentionGRUCell: `regions` must .*received the wrapper Bidirectional, .*go_backwards",
    ),
    "time_distributed": (
        lambda: keras.layers.TimeDistributed(attention_rnn())(SLICES),
        "AttentionRNN: `regions` must .*received the wrapper TimeDistributed, .*Merge",
    ),
    "time_distributed_regions": (
        lambda: keras.layers.TimeDistributed(attention_rnn())(
            keras.Input((2, STEPS, EMBEDDING)), inputs()[1]
        ),
        "AttentionRNN: `regions` must .*received the wrapper TimeDistributed, .*Merge",
    ),
    "sequential": (
        lambda: keras.Sequential([keras.Input((STEPS, EMBEDDING)), attention_rnn()]),
        "AttentionRNN: `regions` must be .*received none. .*keras.Sequential",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_layers_that_cannot_pass_regions_are_refused_by_name(mistake):
    run, message = REFUSED[mistake]
    with pytest.raises(ValueError, match=message):
        run()


def test_cells_stacked_in_kerass_rnn_equal_layer_after_layer():
    cells = [cell_with(AreaAttention(WORDS, EMBEDDING)) for _ in range(2)]
    with cells[0].attending(FEATURE_VALUES), cells[1].attending(FEATURE_VALUES):
        found = keras.layers.RNN(cells)(SEQUENCES)
    states = AttentionRNN(cells[0], return_sequences=True)(SEQUENCES, FEATURE_VALUES)
    expected = AttentionRNN(cells[1])(states, FEATURE_VALUES)
    np.testing.assert_allclose(*backends.to_numpy([found, expected]), 1e-6)


def test_options_of_kerass_rnn_are_right():
    cell, mask = make_cell(), np.arange(STEPS) < np.array([[1], [STEPS]])
    words, regions = SEQUENCES.astype("float64"), FEATURE_VALUES.astype("float64")

    def states(words=words, mask=mask, **options):
        rnn = AttentionRNN(cell, return_sequences=True, dtype="float64", **options)
        return backends.to_numpy([rnn(words, regions, mask=mask)])[0]

    np.testing.assert_array_equal(states(zero_output_for_mask=True), states() * mask[:, :, None])
    reversed_states = states(words[:, ::-1].copy(), mask[:, ::-1].copy())
    np.testing.assert_allclose(states(go_backwards=True), reversed_states, 1e-12)


@pytest.mark.slow
@pytest.mark.skipif(backends.BACKEND != "tensorflow", reason="a SavedModel needs TensorFlow")
def test_an_exported_copy_has_each_weight_once(made, tmp_path):
    model, given, expected = made[readme_model]
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    copied.export(tmp_path / "exported", verbose=False)
    import tensorflow as tf

    exported = tf.saved_model.load(str(tmp_path / "exported"))
    assert len(exported.variables) == 10
    for pair in zip(exported.serve(given), expected, strict=True):
        np.testing.assert_allclose(*pair, 1e-5, 1e-6)
