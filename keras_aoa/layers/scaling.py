"""Features scaled to a length."""

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype


def scale_to_length(features, length):
    """Features `(…, f)` scaled to a length; zeros stay zeros."""
    wide = ops.cast(features, wide_dtype(keras.backend.standardize_dtype(features.dtype)))
    squares = ops.sum(ops.square(wide), axis=-1, keepdims=True)
    # The floor keeps the gradient at zeros finite, in float16 too.
    return ops.cast(wide * (length * ops.rsqrt(ops.maximum(squares, 1e-8))), features.dtype)
