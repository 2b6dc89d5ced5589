"""What a captioner computes from the image vector: the inputs of its cell, and concepts.

Concepts are either attributes, which are words, or topics. The captioner predicts the concepts, and
its cell reads the predicted probabilities. Sources: Wu et al., CVPR 2016, arXiv:1506.01144; Jin et
al., 2015, arXiv:1506.06272. Letters in shapes: n image, k concept, u unit of the state.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype

# Attributes of a `Captioner`: the layers below. A layer that is not needed is None.
IMAGE_LAYERS = ("image_projection", "concept_predictor", "concept_projection")
CONCEPTS = ("none", "attributes", "topics")

Tensor = Any


class ImageInputs(NamedTuple):
    """Inputs that depend only on the image.

    `start (n, 1, …)` is the projected image vector or, in its place, the projected attributes.
    `start` becomes the cell's initial state, its first input, or a part of `step_gates`.
    If the image vector is an input at every step, `step_gates (n, 1, 3 u)` are added to the cell's
    gates at each step; otherwise `step_gates` is None. `logits (n, k)` and `probs (n, k)` are the
    predictions of the concepts. Without concepts, `logits` and `probs` are None.
    """

    start: Tensor
    step_gates: Tensor | None
    logits: Tensor | None
    probs: Tensor | None


def make_image_layers(captioner):
    """Return the `IMAGE_LAYERS` that a captioner needs, by name."""
    cell, layers = captioner.cell, dict.fromkeys(IMAGE_LAYERS)
    width = cell.attention.embedding_dim if captioner.image_first else cell.units
    if captioner.image_each_step:
        width = 3 * cell.units
    start = "concept_projection" if captioner.starts_with_attributes else "image_projection"
    layers[start] = _projection(width, start)
    if captioner.concepts == "topics":
        layers["concept_projection"] = _projection(3 * cell.units, "concept_projection")
    if captioner.concepts != "none":
        layers["concept_predictor"] = keras.layers.Dense(
            captioner.concept_count, name="concept_predictor"
        )
    return layers


def _projection(width, name):
    return keras.layers.Dense(width, use_bias=False, name=name)


def build_image_layers(captioner, vector_shape):
    """Build the layers of `make_image_layers` for image vectors of a shape."""
    for layer in (captioner.image_projection, captioner.concept_predictor):
        if layer is not None:
            layer.build(vector_shape)
    if captioner.concept_projection is not None:
        captioner.concept_projection.build((None, captioner.concept_count))


def image_inputs(captioner, vector):
    """Return the `ImageInputs` of image vectors, as `Captioner.make_regions` returns them."""
    wide = wide_dtype(captioner.cell.compute_dtype)
    logits = probs = step_gates = None
    if captioner.concept_predictor is not None:
        logits = ops.cast(captioner.concept_predictor(vector), wide)
        probs = concept_probs(captioner.concepts, logits)
    if captioner.starts_with_attributes:
        start = captioner.concept_projection(probs)
    else:
        start = captioner.image_projection(vector)
    start = ops.cast(start, wide)[:, None]
    if captioner.concepts == "topics":
        step_gates = ops.cast(captioner.concept_projection(probs), wide)[:, None]
    if captioner.image_each_step:
        step_gates = start if step_gates is None else start + step_gates
    return ImageInputs(start, step_gates, logits, probs)


def concept_probs(concepts, logits):
    """Return the probabilities `(n, k)` of concepts.

    No gradient flows through the probabilities, so that only the loss of the concepts trains their
    predictor.

    Args:
        concepts: `attributes`, which are independent of each other, or `topics`, whose
            probabilities add up to 1.
        logits: Output of the predictor, `(n, k)`.
    """
    probs = ops.sigmoid(logits) if concepts == "attributes" else ops.softmax(logits, axis=-1)
    return ops.stop_gradient(probs)


def concept_losses(concepts, logits, targets):
    """Return the loss of each image, `(n,)`, in nats.

    Args:
        concepts: `attributes` or `topics`.
        logits: Output of the predictor, `(n, k)`.
        targets: `(n, k)`. For attributes, the targets are 1 where an attribute occurs in the
            image's captions, else 0. The loss of attributes is the sum of the binary
            cross-entropies. For topics, the targets are the mixture of topics, and the loss is the
            cross-entropy.
    """
    targets = ops.cast(targets, logits.dtype)
    if concepts == "attributes":
        return ops.sum(ops.softplus(logits) - targets * logits, axis=-1)
    return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
