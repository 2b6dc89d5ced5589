"""Networks with folded batch normalization have the same outputs."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers

from keras_aoa.models.folding import fold_batch_normalization, with_folded_networks
from keras_aoa.models.image_inputs import IMAGE_LAYERS


def randomize(network, seed=0):
    random = np.random.default_rng(seed)
    for weight in network.weights:
        positive = "variance" in weight.path
        values = (
            random.uniform(0.5, 2, weight.shape) if positive else random.normal(size=weight.shape)
        )
        weight.assign(values)
    return network


def make_network():
    """A network with every kind of layer that can, or must not, be folded."""
    pixels = keras.Input((12, 10, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="_stem")(pixels)
    x = layers.BatchNormalization(epsilon=0.1)(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(5, 1)(x)
    x = layers.BatchNormalization(center=False)(x)
    active = layers.Conv2D(5, 1, activation="relu")(x)  # its activation comes in between
    active = layers.BatchNormalization()(active)
    twice = layers.Conv2D(5, 1)(x)  # another layer uses its output
    x = layers.Add()([layers.BatchNormalization()(twice), twice, active])
    shared = layers.BatchNormalization()  # with two inputs
    x = layers.Add()([shared(layers.Conv2D(5, 1)(x)), shared(layers.Conv2D(5, 1)(x))])
    return keras.Model(pixels, {"map": x, "vector": layers.GlobalAveragePooling2D()(x)})


def count(network):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers)


def test_outputs_are_equal_with_fewer_layers():
    network = randomize(make_network())
    before = [np.array(weight) for weight in network.weights]
    folded = fold_batch_normalization(network)
    images = np.random.default_rng(1).normal(size=(2, 12, 10, 3)).astype("float32")
    expected, found = network(images, training=False), folded(images, training=False)
    assert list(found) == ["map", "vector"]
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name] / scale, expected[name] / scale, atol=1e-5)
    assert (count(network), count(folded)) == (6, 3)
    for weight, old in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_nested_and_sequential_networks_are_equal():
    inner = make_network()
    sequence = keras.Sequential(
        [keras.Input((12, 10, 5)), layers.Conv2D(4, 1), layers.BatchNormalization()]
    )
    pixels = keras.Input((12, 10, 3))
    outer = randomize(keras.Model(pixels, sequence(inner(pixels)["map"])))
    folded = fold_batch_normalization(outer)
    images = np.random.default_rng(1).normal(size=(2, 12, 10, 3)).astype("float32")
    expected = np.asarray(outer(images, training=False))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(folded(images, training=False) / scale, expected / scale, atol=1e-5)
    assert count(folded.get_layer(inner.name)) == 3


@pytest.mark.parametrize("variant", ["full", "soft"])
def test_a_captioner_for_inference_gives_the_same_captions_and_shares_the_decoder(variant):
    concepts = "topics" if variant == "soft" else "none"
    captioner = tiny.make_captioner(
        variant, weights=1, image_first=variant == "full", concepts=concepts, concept_count=4
    )
    faster = with_folded_networks(captioner)
    images = tiny.make_images(2)
    captions = np.array([[[1, 4, 6, 2]], [[1, 5, 2, 0]]], "int32")
    inputs = {"images": images, "captions": captions}
    np.testing.assert_allclose(faster(inputs), captioner(inputs), rtol=1e-4, atol=1e-5)
    assert faster.cell is captioner.cell
    for name in IMAGE_LAYERS:
        assert getattr(faster, name) is getattr(captioner, name)
    weights = {id(weight) for weight in captioner.weights}
    assert sum(id(weight) in weights for weight in faster.weights) >= len(captioner.cell.weights)
