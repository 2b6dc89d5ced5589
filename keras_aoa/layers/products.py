"""Mixed-precision helpers: matrix products, accumulator dtypes, scaling of features."""

import keras
from keras import ops


def dense(inputs, kernel, compute_dtype=None):
    """Multiply `inputs (..., i)` by `kernel (i, o)` in one matrix product, `(..., o)`.

    The inputs are flattened to rank 2, since TensorFlow splits products of higher rank into many
    small ones.
    """
    leading = ops.shape(inputs)[:-1]
    flat = ops.reshape(inputs, (-1, ops.shape(inputs)[-1]))
    result = batched_product(flat, kernel, compute_dtype)
    return ops.reshape(result, (*leading, kernel.shape[-1]))


def batched_product(left, right, compute_dtype=None):
    """Matrix product over the last two axes, in `compute_dtype`; returned in `left`'s dtype."""
    if compute_dtype is None:
        return ops.matmul(left, right)
    result = ops.matmul(ops.cast(left, compute_dtype), ops.cast(right, compute_dtype))
    return ops.cast(result, left.dtype)


def wide_dtype(compute_dtype):
    """Dtype of states, sums and logarithms: float64 for float64, otherwise float32."""
    return "float64" if compute_dtype == "float64" else "float32"


def scale_to_length(features, length):
    """Scale features `(…, f)` to a Euclidean length; zeros stay zeros."""
    wide = ops.cast(features, wide_dtype(keras.backend.standardize_dtype(features.dtype)))
    squares = ops.sum(ops.square(wide), axis=-1, keepdims=True)
    # The lower bound keeps the gradient at zeros finite, in float16 too.
    return ops.cast(wide * (length * ops.rsqrt(ops.maximum(squares, 1e-8))), features.dtype)
