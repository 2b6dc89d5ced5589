"""Runs for warm starts, with random weights in place of trained ones."""

import keras
import numpy as np
from bright_square import settings

from keras_aoa.models import weights
from keras_aoa.models.backbones import make_backbone
from keras_aoa.models.build import backbone_settings
from keras_aoa.runs.run import Run

PARTS = ("backbone", "cell", "image_projection", "regions", "region_backbone")


def network(folder):
    """Save a network of two convolutions; the last one can be a transformer's filter."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(6, 5, strides=8, padding="same", activation="relu")(pixels)
    second = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="second")(first)
    keras.Model(pixels, second).save(folder / "network.keras")
    return str(folder / "network.keras")


def configured(folder, squares, **changes):
    return settings(
        folder,
        **{
            "data": str(squares),
            "minimum_count": 1,
            "image_size": 32,
            "proposals_size": 32,
            "fit": "stretch",
            "proposals_fit": "stretch",
            "backbone": str(folder / "network.keras"),
            "preprocessing": "tf",
            "transformer_filter": "backbone",
            "batch_size": 5,
            "captions_per_image": 2,
            "rnn_epochs": 2,
            **changes,
        },
    )


def scatter(captioner, seed=8):
    """Add random noise to all weights, so that a test detects weights that were not loaded."""
    random = np.random.default_rng(seed)
    for part in PARTS:
        for variable in getattr(getattr(captioner, part), "variables", ()):
            value = np.asarray(variable.value)
            variable.assign(value + random.normal(scale=0.1, size=value.shape))


def make_source(configuration, vocabulary, tuned=False):
    """A run with random weights as its trained ones; `tuned` includes the backbone's."""
    keras.utils.set_random_seed(5)
    run = Run.create(configuration, vocabulary, make_backbone(backbone_settings(configuration)))
    captioner = run.make_captioner()
    own = [np.asarray(v.value) for v in captioner.backbone.variables]
    scatter(captioner)
    if not tuned:
        for variable, value in zip(captioner.backbone.variables, own, strict=True):
            variable.assign(value)
    variables = weights.captioner_variables(captioner, with_backbone=tuned)
    weights.save_arrays(run.best_file, weights.values(variables), run.digests)
    return run


def arrays(part):
    return [np.asarray(variable.value) for variable in part.variables]


def assert_equal(own, theirs):
    assert len(own.variables) == len(theirs.variables) > 0
    for value, expected in zip(arrays(own), arrays(theirs), strict=True):
        np.testing.assert_array_equal(value, expected)
