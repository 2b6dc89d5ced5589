"""Matrix products in the compute dtype with results for sums in float32 or wider."""

from keras import ops


def dense(inputs, kernel, compute_dtype=None):
    """`inputs (..., i)` times `kernel (i, o)` as one matrix product, `(..., o)`.

    Reshaped to rank 2 first: with more axes TensorFlow takes one small product each.
    """
    leading = ops.shape(inputs)[:-1]
    flat = ops.reshape(inputs, (-1, ops.shape(inputs)[-1]))
    result = batched_product(flat, kernel, compute_dtype)
    return ops.reshape(result, (*leading, kernel.shape[-1]))


def batched_product(left, right, compute_dtype=None):
    """Product over the last two axes, computed in `compute_dtype`, returned in `left`'s dtype."""
    if compute_dtype is None:
        return ops.matmul(left, right)
    result = ops.matmul(ops.cast(left, compute_dtype), ops.cast(right, compute_dtype))
    return ops.cast(result, left.dtype)


def wide_dtype(compute_dtype):
    """Dtype for states, sums and logarithms: float64 if that is computed in, else float32."""
    return "float64" if compute_dtype == "float64" else "float32"
