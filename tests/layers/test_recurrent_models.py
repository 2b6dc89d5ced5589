"""`AttentionGRUCell` in `keras.layers.RNN` and `AttentionRNN` in models: training and saving."""

import warnings

import backends
import definition
import keras
import numpy as np
import pytest
from cases import (
    EMBEDDING,
    FEATURES,
    IMAGES,
    MASK,
    REGIONS,
    STEPS,
    UNITS,
    WORDS,
    every_variant,
    make_cell,
    normal,
    randomize,
    states_and_regions,
    unscaled_attention,
    weights,
)
from keras import ops

from keras_aoa.layers import AttentionGRUCell, AttentionRNN

LENGTHS = (2, STEPS)
TIME_MASK = np.arange(STEPS) < np.array(LENGTHS)[:, None]
IDS = np.array([[1, 5, 0, 0], [4, 3, 6, 2]], "int32")
TARGETS = np.array([[5, 2, 0, 0], [3, 6, 2, 1]], "int32")


@keras.saving.register_keras_serializable(package="tests")
class Captioner(keras.Model):
    """log p of each next word, from word ids, regions and their mask; id 0 is padding."""

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        self.rnn = keras.layers.RNN(cell, return_sequences=True)

    def call(self, ids, regions, region_mask=None):
        cell = self.rnn.cell
        with cell.attending(regions, region_mask):
            states = self.rnn(cell.attention.embed(ids), mask=ops.not_equal(ids, 0))
        return cell.attention(states, regions, region_mask)[0]

    def get_build_config(self):
        return None  # the cell, which has all the weights, has its own

    def get_config(self):
        return {"cell": keras.saving.serialize_keras_object(self.rnn.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["cell"]))


@keras.saving.register_keras_serializable(package="tests")
class DictionaryCaptioner(Captioner):
    """The same with a dictionary of inputs, as `fit` hands them on."""

    def call(self, inputs):
        return super().call(inputs["ids"], inputs["regions"], inputs["region_mask"])


def dictionary_captioner():
    return DictionaryCaptioner(AttentionGRUCell(UNITS, FEATURES, unscaled_attention()))


def functional_captioner(variant="full"):
    """The same as a functional model, the padding's mask carried by Keras."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    regions = keras.Input((None, FEATURES), name="regions")
    region_mask = keras.Input((None,), dtype="bool", name="region_mask")
    attention = unscaled_attention(variant=variant)
    words = keras.layers.Embedding(WORDS, EMBEDDING, mask_zero=True)(ids)
    cell = AttentionGRUCell(UNITS, FEATURES, attention)
    states = AttentionRNN(cell, return_sequences=True, name="rnn")(
        words, regions, region_mask=region_mask
    )
    log_probs, _ = attention(states, regions, region_mask)
    return keras.Model({"ids": ids, "regions": regions, "region_mask": region_mask}, log_probs)


def inputs():
    return {"ids": IDS, "regions": states_and_regions("float32")[1], "region_mask": MASK}


def expected_of(cell, region_mask=MASK):
    """The last unmasked h and v of each caption, from zeros."""
    words, regions = sequences(), states_and_regions()[1]
    states, looks = [], []
    for n, length in enumerate(LENGTHS):
        of_image = definition.recurrence(
            weights(cell),
            cell.attention.variant,
            np.zeros(UNITS),
            words[n, :length],
            regions[n],
            region_mask[n],
        )
        states.append(of_image[0][-1])
        looks.append(of_image[1][-1])
    return np.stack(states), np.stack(looks)


def sequences():
    """Embedded words, `(n, t, e)`."""
    return normal(IMAGES, STEPS, EMBEDDING, seed=6)


@every_variant
@pytest.mark.parametrize("unroll", [False, True])
def test_the_state_in_kerass_rnn_is_h_and_v_at_the_last_unmasked_step(variant, unroll):
    cell = make_cell(variant)
    rnn = keras.layers.RNN(cell, return_state=True, unroll=unroll, dtype="float64")
    with cell.attending(states_and_regions()[1], MASK):
        output, state, looks = backends.to_numpy(rnn(sequences(), mask=TIME_MASK))
    expected_state, expected_looks = expected_of(cell)
    np.testing.assert_array_equal(output, state)
    np.testing.assert_allclose(state, expected_state, 1e-10)
    np.testing.assert_allclose(looks, expected_looks, 1e-10)


@every_variant
def test_attention_rnn_equals_the_definition(variant):
    cell = make_cell(variant)
    rnn = AttentionRNN(cell, return_sequences=True, return_state=True, dtype="float64")
    regions = states_and_regions()[1]
    outputs, state, looks = backends.to_numpy(
        rnn(sequences(), regions, region_mask=MASK, mask=TIME_MASK)
    )
    expected_state, expected_looks = expected_of(cell)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_allclose(outputs[n, length - 1], expected_state[n], 1e-10)
    np.testing.assert_allclose(state, expected_state, 1e-10)
    np.testing.assert_allclose(looks, expected_looks, 1e-10)


def test_a_sequence_goes_on_from_the_state_where_another_ended():
    rnn = AttentionRNN(make_cell(), return_state=True, dtype="float64")
    regions = states_and_regions()[1]
    _, *state = rnn(sequences()[:, :2], regions, MASK)
    found = rnn(sequences()[:, 2:], regions, MASK, initial_state=state)
    expected = rnn(sequences(), regions, MASK)
    for pair in zip(backends.to_numpy(found), backends.to_numpy(expected), strict=True):
        np.testing.assert_allclose(*pair, 1e-12)


def test_attention_rnn_takes_the_mask_that_comes_with_its_sequences():
    embedding = keras.layers.Embedding(WORDS, EMBEDDING, mask_zero=True, dtype="float64")
    rnn = AttentionRNN(make_cell(), dtype="float64")
    regions = states_and_regions()[1]
    found, explicit, unmasked = backends.to_numpy(
        [
            rnn(embedding(IDS), regions),
            rnn(ops.copy(embedding(IDS)), regions, mask=ops.not_equal(IDS, 0)),
            rnn(ops.copy(embedding(IDS)), regions),
        ]
    )
    np.testing.assert_allclose(found, explicit, 1e-12)
    assert (np.abs(found - unmasked).max(axis=1) > 1e-3).tolist() == [True, False]


def test_steps_masked_in_keras_count_in_no_loss():
    model = functional_captioner()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for padding in (0, 3):
            targets = np.where(TIME_MASK, TARGETS, padding)
            losses.append(model.evaluate(inputs(), targets, verbose=0))
    assert losses[0] == losses[1]


def test_attention_rnn_runs_in_mixed_precision():
    cell = make_cell("full", "mixed_float16")
    rnn = AttentionRNN(cell, dtype="mixed_float16")
    regions = states_and_regions("float32")[1]
    (found,) = backends.to_numpy(
        [rnn(sequences().astype("float32"), regions, region_mask=MASK, mask=TIME_MASK)]
    )
    np.testing.assert_allclose(found, expected_of(cell)[0], 0.05, 0.02)


def predicted(model):
    return model.predict(inputs(), verbose=0)


def called(model):
    """The same without a graph: `test_steps_masked_in_keras_count_in_no_loss` makes one."""
    return ops.convert_to_numpy(model(inputs()))


@pytest.mark.parametrize(
    ("make", "run"), [(dictionary_captioner, predicted), (functional_captioner, called)]
)
def test_models_learn_captions_by_heart_and_come_back_from_a_file(make, run, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(
        keras.optimizers.Adam(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    many = {name: np.concatenate([value] * 30) for name, value in inputs().items()}
    model.fit(many, np.concatenate([TARGETS] * 30), IMAGES, verbose=0, shuffle=False)
    before = run(model)
    learned = np.exp(np.take_along_axis(before, TARGETS[..., None], 2)[..., 0])
    assert (learned[TIME_MASK] > 0.9).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(run(loaded), before, 1e-6)
    assert len(loaded.weights) == len(model.weights)


def test_a_model_with_several_arguments_comes_back_from_a_file(tmp_path):
    model = Captioner(make_cell("full", "float32"))
    before = model(*inputs().values())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(*backends.to_numpy([loaded(*inputs().values()), before]))


@pytest.mark.parametrize("variant", ["conditional", "full"])
def test_functional_models_take_any_number_of_steps_and_regions(variant):
    model = randomize(functional_captioner(variant))
    given = inputs()
    longer = {
        "ids": np.pad(IDS, ((0, 0), (0, 3))),
        "regions": np.pad(given["regions"], ((0, 0), (0, 2), (0, 0)), constant_values=1),
        "region_mask": np.pad(MASK, ((0, 0), (0, 2))),
    }
    found, expected = backends.to_numpy([model(longer), model(given)])
    assert model.outputs[0].shape == (None, None, WORDS)
    assert found.shape == (IMAGES, STEPS + 3, WORDS)
    np.testing.assert_allclose(found[:, :STEPS], expected, 1e-4, 1e-5)


def test_symbolic_shapes_are_those_of_the_values():
    cell = make_cell("full", "float32")
    words, regions = keras.Input((STEPS, EMBEDDING)), keras.Input((REGIONS, FEATURES))
    rnn = AttentionRNN(cell, return_sequences=True, return_state=True)
    symbolic = rnn(words, regions)
    values = rnn(sequences(), states_and_regions()[1])
    assert [tuple(s.shape[1:]) for s in symbolic] == [tuple(v.shape[1:]) for v in values]
