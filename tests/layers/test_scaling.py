"""`scale_to_length`: the lengths of features, zeros, and gradients."""

import backends
import keras
import numpy as np
import pytest
from cases import normal
from keras import ops

from keras_aoa.layers.products import scale_to_length

every_dtype = pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 0.01, "bfloat16": 0.01}


@every_dtype
@pytest.mark.parametrize(("length", "scale"), [(1, 1e-3), (1, 1), (20, 300)])
def test_features_have_the_requested_length(dtype, length, scale):
    values = scale * normal(4, 3, 512)
    scaled = scale_to_length(ops.cast(ops.convert_to_tensor(values), dtype), length)
    assert keras.backend.standardize_dtype(scaled.dtype) == dtype
    (features,) = backends.to_numpy([ops.cast(scaled, "float64")])
    tolerance = length * TOLERANCES[dtype]
    expected = values / np.linalg.norm(values, axis=-1, keepdims=True) * length
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), length, 0, tolerance)
    np.testing.assert_allclose(features, expected, 0, tolerance)


@every_dtype
def test_zeros_stay_zeros_and_have_finite_gradients(dtype):
    values = normal(4, 3, 5)
    values[0, 1] = 0

    def scale(values):
        return ops.cast(scale_to_length(ops.cast(values, dtype), 1), "float64")

    (features,) = backends.to_numpy([scale(ops.convert_to_tensor(values))])
    assert (features[0, 1] == 0).all()
    assert np.isfinite(features).all()
    (gradient,) = backends.gradients(lambda x: ops.sum(ops.sin(scale(x))), [values])
    assert np.isfinite(gradient).all()
