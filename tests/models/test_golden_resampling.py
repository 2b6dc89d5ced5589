"""Compares resampling with TensorFlow Addons' resampler, whose results `make oracle` stores."""

import numpy as np
import oracle
import pytest
import tensorflow as tf

from keras_aoa.layers.resampling import resample

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(params=oracle.MAPS)
def golden(request):
    """Inputs and Addons' results for one size of map, by name."""
    prefix = f"{request.param}_"
    with np.load(oracle.GOLDEN / "resampler.npz") as arrays:
        values = {
            name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)
        }
    assert values["activations"].shape == oracle.MAPS[request.param]
    return values


@pytest.mark.parametrize("kind", ["smooth", "kink"])
def test_values_equal_those_of_addons_between_cells_on_cells_and_outside(golden, kind):
    values = resample(golden["activations"], golden[f"{kind}_points"], border="zero")
    np.testing.assert_allclose(values, golden[f"{kind}_values"], **TOLERANCE)


def test_gradients_in_activations_and_points_equal_those_of_addons(golden):
    inputs = [tf.constant(golden["activations"]), tf.constant(golden["smooth_points"])]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        values = resample(*inputs, border="zero")
    gradients = tape.gradient(values, inputs, output_gradients=golden["upstream"])
    np.testing.assert_allclose(gradients[0], golden["activations_gradient"], **TOLERANCE)
    np.testing.assert_allclose(gradients[1], golden["points_gradient"], **TOLERANCE)


def test_golden_points_lie_inside_partly_outside_and_far_outside(golden):
    _, rows, columns, _ = golden["activations"].shape
    for axis, count in enumerate((columns, rows)):
        smooth = golden["smooth_points"][..., axis]
        assert np.all(smooth % 1 > 0.01)
        for low, high in [(-1, 0), (count - 1, count), (-np.inf, -1), (count, np.inf)]:
            assert np.any((low < smooth) & (smooth < high))
        assert count == 1 or np.any((smooth > 0) & (smooth < count - 1))
        assert np.isin([-1, 0, count - 1, count], golden["kink_points"][..., axis]).all()
