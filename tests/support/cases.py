"""Layers with random, distinct weights, and inputs whose dimensions all have different sizes.

Sizes: 2 images, 3 captions, 4 steps, 7 words, 5 regions, embedding 6, 9 features, 8 units.
"""

import backends
import numpy as np
import pytest

from keras_aoa.layers import AreaAttention, AttentionGRUCell

IMAGES, CAPTIONS, STEPS, WORDS, REGIONS, EMBEDDING, FEATURES, UNITS = 2, 3, 4, 7, 5, 6, 9, 8
VARIANTS = ("baseline", "word_region", "word_region_state", "conditional", "full")
MASK = np.array([[True, True, False, True, False], [False, True, True, True, True]])

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def normal(*shape, seed=0, dtype="float64"):
    """Return normal numbers with standard deviation 0.5, which do not saturate softmax or tanh."""
    return np.random.default_rng(seed).normal(scale=0.5, size=shape).astype(dtype)


def randomize(layer):
    """Assign different random values to every weight, including biases."""
    for index, variable in enumerate(layer.weights):
        variable.assign(normal(*variable.shape, seed=100 + index))
    return layer


def weights(layer):
    """Return the layer's weights as float64 arrays, by name."""
    return dict(zip((w.name for w in layer.weights), backends.to_numpy(layer.weights), strict=True))


def unscaled_attention(**arguments):
    """An `AreaAttention` as in the paper's equations, unless `feature_length` says otherwise."""
    return AreaAttention(WORDS, EMBEDDING, **{"feature_length": 0.0, **arguments})


def make_attention(variant="full", dtype="float64", **arguments):
    """Return an `AreaAttention` of the sizes above."""
    layer = unscaled_attention(variant=variant, dtype=dtype, **arguments)
    layer.build((IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    return randomize(layer)


def make_cell(variant="full", dtype="float64", **arguments):
    """Return an `AttentionGRUCell` of the sizes above."""
    attention = unscaled_attention(variant=variant, dtype=dtype, **arguments)
    cell = AttentionGRUCell(UNITS, FEATURES, attention, dtype=dtype)
    cell.build((IMAGES, EMBEDDING))
    return randomize(cell)


def states_and_regions(dtype="float64"):
    """Return states `(n, c, u)` and regions `(n, r, f)`."""
    return (
        normal(IMAGES, CAPTIONS, UNITS, seed=1, dtype=dtype),
        normal(IMAGES, REGIONS, FEATURES, seed=2, dtype=dtype),
    )


def caption_words(dtype="float64"):
    """Return embedded words, `(n, c, t, e)`."""
    return normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=6, dtype=dtype)
