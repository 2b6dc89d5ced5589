"""Weights of a SavedModel: stored exactly or rounded, whatever the layers' names."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.serving.stored_weights import SMALLEST, decode, encode, stored


def make_network():
    """Two layers whose names are not valid in a graph; only the first has weights of 16 bits."""
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(128, name="_first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(64, name="_second")(hidden))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = generator.normal(size=weight.shape)
        weight.assign(values.astype(np.float16) if "_first" in weight.path else values)
    return model


# For each storage: bytes of the two matrices, and the largest error of a number.
SIZES = {"exact": (2 + 4, 0.0), "float16": (2 + 2, 2e-3), "int8": (1 + 1, 0.02)}


@pytest.mark.parametrize("storage", SIZES)
def test_a_loaded_model_has_the_numbers_of_the_exported_one(storage, tmp_path):
    network = make_network()
    before = [weight.numpy() for weight in network.weights]
    pixels = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    module = tf.Module()
    module.weights = stored([weight.value for weight in network.weights], storage)
    expected = network(pixels).numpy()
    number_bytes, tolerance = SIZES[storage]
    for weight, values in zip(network.weights, before, strict=True):
        error = np.abs(weight.numpy() - values).max()
        assert error <= (tolerance if values.size >= SMALLEST else 0)
    assert (storage == "exact") == np.array_equal(network.weights[2].numpy(), before[2])
    spec = tf.TensorSpec((None, 64), name="pixels")
    function = tf.function(lambda pixels: {"y": network(pixels)}, [spec], autograph=False)
    tf.saved_model.save(module, tmp_path, signatures={"serving_default": function})
    first, second = (tf.saved_model.load(tmp_path) for _ in range(2))
    for model in (first, second):
        output = model.signatures["serving_default"](pixels=pixels)
        np.testing.assert_allclose(output["y"], expected, rtol=1e-5, atol=1e-5)
    size = (tmp_path / "variables/variables.data-00000-of-00001").stat().st_size
    assert size < number_bytes * 64 * 128 + 4 * (128 + 64 + 2 * 128) + 2500


@pytest.mark.parametrize(
    ("value", "fits"), [(0.5, True), (1 / 3, False), (1e6, False), (2.0**-24, True), (1e-9, False)]
)
def test_only_numbers_that_16_bits_hold_exactly_are_stored_so(value, fits):
    values = np.zeros((64, SMALLEST // 64), np.float32)
    values[0, 7] = value
    assert (encode(values, "exact") is not None) == fits
    assert (encode(values, "float16") is not None) == (value < 1e5)


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_of_different_sizes_have_their_own_scales(axis):
    values = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    sizes = (
        np.geomspace(1e-3, 1e3, 64).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
    )
    integers, scale = encode(values * sizes, "int8")
    assert integers.dtype == np.int8 and scale.shape == sizes.shape
    assert np.abs(integers).max(axis=1 - axis).tolist() == [127] * 64
    error = np.abs(decode((integers, scale)).numpy() - values * sizes) / sizes
    assert error.max() <= np.abs(values).max() / 254 * 1.001


def test_a_row_of_zeros_stays_zero():
    values = np.zeros((2, SMALLEST), np.float32)
    values[1] = 1
    np.testing.assert_array_equal(decode(encode(values, "int8")), values)


@pytest.mark.parametrize("storage", SIZES)
def test_small_weights_and_other_types_keep_their_type(storage):
    assert encode(np.zeros((1, SMALLEST - 1), np.float32), storage) is None
    assert encode(np.zeros((1, SMALLEST), np.int32), storage) is None
