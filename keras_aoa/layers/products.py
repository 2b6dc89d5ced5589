"""Helpers for mixed precision: matrix products, the dtype of sums, and feature scaling."""

import keras
from keras import ops


def dense(inputs, kernel, compute_dtype=None):
    """Multiply `inputs (…, i)` by `kernel (i, o)` in one matrix product; return `(…, o)`.

    The function flattens the inputs to a matrix first. Without flattening, TensorFlow would compute
    many small products.
    """
    leading = ops.shape(inputs)[:-1]
    flat = ops.reshape(inputs, (-1, ops.shape(inputs)[-1]))
    result = batched_product(flat, kernel, compute_dtype)
    return ops.reshape(result, (*leading, kernel.shape[-1]))


def batched_product(left, right, compute_dtype=None):
    """Multiply matrices in `compute_dtype`, then cast the product to the dtype of `left`."""
    if compute_dtype is None:
        return ops.matmul(left, right)
    result = ops.matmul(ops.cast(left, compute_dtype), ops.cast(right, compute_dtype))
    return ops.cast(result, left.dtype)


def transposed(matrix):
    """Return the transpose `(o, i)` of a matrix `(i, o)`, as a copy in memory if that is faster.

    TensorFlow merges `ops.transpose` into each product that reads it. In float32, a product of few
    rows with a merged transpose takes about twice as long. TensorFlow does not merge a transpose of
    three axes.
    """
    if keras.backend.standardize_dtype(matrix.dtype) != "float32":
        return ops.transpose(matrix)
    rows, columns = matrix.shape
    copy = ops.transpose(ops.reshape(matrix, (1, rows, columns)), (0, 2, 1))
    return ops.reshape(copy, (columns, rows))


def wide_dtype(compute_dtype):
    """Return the dtype of states and sums: float64 if `compute_dtype` is float64, else float32."""
    return "float64" if compute_dtype == "float64" else "float32"


def scale_to_length(features, length):
    """Scale feature vectors `(…, f)` to the L2 norm `length`. A zero vector stays zero."""
    wide = ops.cast(features, wide_dtype(keras.backend.standardize_dtype(features.dtype)))
    squares = ops.sum(ops.square(wide), axis=-1, keepdims=True)
    # The lower bound keeps the gradient of a zero vector finite, even in float16.
    return ops.cast(wide * (length * ops.rsqrt(ops.maximum(squares, 1e-8))), features.dtype)
