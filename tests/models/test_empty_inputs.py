"""Batches without images, and images without regions, without cells or with odd numbers."""

import numpy as np
import pytest
import tensorflow as tf
from cases import normal

from keras_aoa.layers import (
    AffineResampling,
    AreaAttention,
    AttentionGRUCell,
    AttentionRNN,
    GridRegions,
    HardAttention,
    MeanRegion,
    ProposalRegions,
    ReviewAttention,
    SoftAttention,
    TransformerRegions,
)
from keras_aoa.layers.attention import VARIANTS

OTHERS = {"soft": SoftAttention, "hard": HardAttention, "review": ReviewAttention}
REGION_LAYERS = (GridRegions, MeanRegion, TransformerRegions, ProposalRegions)


def zeros(*shape):
    return np.zeros(shape, "float32")


def attend(name, images, steps, regions):
    """Call an attention layer with a number of images, of steps and of regions."""
    states, features = zeros(images, steps, 6), zeros(images, regions, 3)
    if name in OTHERS:
        return OTHERS[name](8, 4)(states, states, features)
    return AreaAttention(8, 4, variant=name)(states, features)


@pytest.mark.parametrize("name", [*VARIANTS, *OTHERS])
@pytest.mark.parametrize(("images", "steps"), [(0, 5), (2, 0), (0, 0)])
def test_attention_of_no_images_or_no_steps_is_empty(name, images, steps):
    word_log_probs, region_probs = attend(name, images, steps, 7)
    assert word_log_probs.shape == (images, steps, 8)
    assert region_probs.shape == (images, steps, 7)


@pytest.mark.parametrize("name", [*VARIANTS, *OTHERS])
def test_attention_to_no_regions_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"`regions` must have at least one region; .*2, 0, 3"):
        attend(name, 2, 5, 0)


@pytest.mark.parametrize("name", [*VARIANTS, *OTHERS])
def test_a_recurrent_network_of_no_images_is_empty(name):
    attention = OTHERS[name](8, 4) if name in OTHERS else AreaAttention(8, 4, variant=name)
    rnn = AttentionRNN(AttentionGRUCell(6, 3, attention), return_sequences=True)
    assert tuple(rnn(zeros(0, 5, 4), zeros(0, 7, 3)).shape)[:2] == (0, 5)


@pytest.mark.parametrize("layer", REGION_LAYERS)
def test_regions_of_no_images_are_empty(layer):
    proposals = (zeros(0, 5, 4),) if layer is ProposalRegions else ()
    expected = layer()(zeros(2, 4, 5, 3), *(zeros(2, 5, 4) for _ in proposals))
    for part, other in zip(layer()(zeros(0, 4, 5, 3), *proposals), expected, strict=True):
        assert tuple(part.shape) == (0, *other.shape[1:])
        assert part.dtype == other.dtype


@pytest.mark.parametrize("layer", REGION_LAYERS)
def test_a_map_without_cells_is_refused_by_name(layer):
    proposals = (zeros(1, 5, 4),) if layer is ProposalRegions else ()
    with pytest.raises(ValueError, match=f"{layer.__name__}: .* at least one cell; .*1, 0, 5, 3"):
        layer()(zeros(1, 0, 5, 3), *proposals)


def test_boxes_that_are_not_finite_are_padding():
    boxes = np.array([[[np.nan, 0, 1, 1], [0, 0, 1, np.inf], [0, 0, 0.5, 0.5]]], "float32")
    regions = ProposalRegions()(normal(1, 4, 4, 3, dtype="float32"), boxes)
    np.testing.assert_array_equal(regions.mask, [[False, False, True]])
    for part in regions[:2]:
        assert np.isfinite(part).all()
        assert not np.any(part[:, :2])


@pytest.mark.parametrize("border", ["zero", "replicate"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("entry", [(0, 2), (0, 0), (1, 0)])
def test_a_transform_that_is_not_finite_changes_only_its_own_region(border, value, entry):
    activations = normal(1, 4, 5, 3, dtype="float32")
    transforms = np.broadcast_to(np.float32([[0.9, 0.1, 0.3], [0, 1.1, 0.2]]), (1, 4, 5, 2, 3))
    broken = transforms.copy()
    broken[(0, 1, 2, *entry)] = value
    others = np.ones((1, 4, 5, 1, 1, 1), "float32")
    others[0, 1, 2] = 0

    def gradients(transforms, weights):
        activations_and_transforms = [tf.Variable(activations), tf.Variable(transforms)]
        with tf.GradientTape() as tape:
            blocks = AffineResampling(3, border)(*activations_and_transforms)
            loss = tf.reduce_sum(weights * blocks**2)
        return blocks, *tape.gradient(loss, activations_and_transforms)

    for weights in (others, np.ones_like(others)):
        blocks, *found = gradients(broken, weights)
        assert all(np.isfinite(part).all() for part in (blocks, *found))
    expected = gradients(transforms, others)
    blocks, of_map, of_transforms = gradients(broken, others)
    np.testing.assert_array_equal(others * blocks, others * expected[0])
    np.testing.assert_allclose(of_map, expected[1], rtol=1e-5, atol=1e-6)
    keep = others[..., 0]
    np.testing.assert_array_equal(keep * of_transforms, keep * expected[2])
