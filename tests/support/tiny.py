"""A captioner with random, distinct weights, so small that tests can enumerate its captions.

Sizes: 8 words (four of them special), embedding 6, units 7, features 5, image vector 3, images of
16 pixels, and a map of 3x3 cells, of which a stride of 2 selects 4 regions.
"""

import functools

import keras
import numpy as np
from keras import layers

from keras_aoa.layers import GridRegions
from keras_aoa.models.build import make_cell
from keras_aoa.models.captioner import Captioner
from keras_aoa.models.scenes_network import ImagePreprocessing

WORDS, EMBEDDING, UNITS, FEATURES, VECTOR, SIDE, REGIONS = 8, 6, 7, 5, 3, 16, 4
VARIANTS = (
    "baseline", "word_region", "word_region_state", "conditional", "full", "soft", "hard", "review",
)  # fmt: skip


def make_backbone(features=FEATURES, vector=VECTOR):
    """Return a backbone of one convolution, and an image vector computed from it."""
    pixels = keras.Input((None, None, 3))
    activations = layers.Conv2D(features, 4, strides=6)(ImagePreprocessing("tf")(pixels))
    image = layers.Dense(vector)(layers.GlobalAveragePooling2D()(activations))
    return keras.Model(pixels, {"map": activations, "vector": image})


def make_captioner(
    variant="full",
    weights=0,
    words=WORDS,
    units=UNITS,
    embedding=EMBEDDING,
    features=FEATURES,
    **more,
):
    """Return a built `Captioner`.

    Args:
        variant, units, features, words, embedding: As for `make_cell`.
        weights: Seed of the weights; None keeps the initial weights.
        more: Further arguments of `Captioner`.
    """
    options = {}
    if variant == "semantic":
        options = {"concept_ids": (7, 4, 5), "attended": 2}
        more = {"concepts": "attributes", "concept_count": 3, **more}
    captioner = Captioner(
        make_backbone(features),
        GridRegions(stride=2),
        make_cell(units, features, words, embedding, variant, **options),
        **more,
    )
    captioner.build()
    if weights is not None:
        random = np.random.default_rng(weights)
        for weight in captioner.weights:
            if weight is not captioner.seeds.state:
                inputs = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 4
                weight.assign(random.normal(scale=1.2 / np.sqrt(inputs), size=weight.shape))
    return captioner


@functools.cache
def kept_captioner(*arguments, **options):
    """Return a captioner like `make_captioner`, made once for all tests: none may change it."""
    return make_captioner(*arguments, **options)


def make_images(count=2, seed=0):
    """Return random pixels, `(n, 16, 16, 3)`: one color per image, plus noise."""
    random = np.random.default_rng(seed)
    colors = random.uniform(0, 255, (count, 1, 1, 3))
    noise = random.normal(scale=60, size=(count, SIDE, SIDE, 3))
    return np.clip(colors + noise, 0, 255).astype("float32")
