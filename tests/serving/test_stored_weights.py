"""Weights of a SavedModel: stored in 16 bits if that is exact, whatever the layers' names."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.serving.stored_weights import SMALLEST, fits_in_half, stored


@pytest.fixture(scope="module")
def network():
    """Two layers whose names are not valid in a graph; only the first has weights of 16 bits."""
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(128, name="_first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(64, name="_second")(hidden))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = generator.normal(size=weight.shape)
        weight.assign(values.astype(np.float16) if "_first" in weight.path else values)
    return model


def test_a_loaded_model_has_the_same_numbers(network, tmp_path):
    pixels = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    expected = network(pixels).numpy()
    module = tf.Module()
    module.weights = stored([weight.value for weight in network.weights])
    spec = tf.TensorSpec((None, 64), name="pixels")
    function = tf.function(lambda pixels: {"y": network(pixels)}, [spec], autograph=False)
    tf.saved_model.save(module, tmp_path, signatures={"serving_default": function})
    assert [v.dtype for v in module.variables].count(tf.float16) == 1
    first, second = (tf.saved_model.load(tmp_path) for _ in range(2))
    for model in (first, second):
        output = model.signatures["serving_default"](pixels=pixels)
        np.testing.assert_allclose(output["y"], expected, rtol=1e-5, atol=1e-5)
    size = (tmp_path / "variables/variables.data-00000-of-00001").stat().st_size
    assert size < 2 * 64 * 128 + 4 * (128 + 128 * 64 + 64) + 2000


@pytest.mark.parametrize(
    ("value", "fits"), [(0.5, True), (1 / 3, False), (1e6, False), (2.0**-24, True), (1e-9, False)]
)
def test_only_numbers_that_16_bits_hold_exactly_are_stored_so(value, fits):
    values = np.zeros(SMALLEST, np.float32)
    values[7] = value
    assert fits_in_half(values) == fits


def test_small_weights_and_other_types_keep_their_type():
    assert not fits_in_half(np.zeros(SMALLEST - 1, np.float32))
    assert not fits_in_half(np.zeros(SMALLEST, np.int32))
