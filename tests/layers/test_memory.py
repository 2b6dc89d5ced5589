"""No step makes a tensor of all pairs of words and regions; an image makes it once."""

import functools

import backends
import numpy as np
import pytest
from cases import every_variant

from keras_aoa.layers import AreaAttention, AttentionGRUCell

# Primes, so that a tensor's size tells which axes it has.
IMAGES, CAPTIONS, WORDS, REGIONS, EMBEDDING, FEATURES, UNITS = 2, 3, 101, 13, 7, 11, 17
PAIRS = WORDS * REGIONS

pytestmark = pytest.mark.skipif(
    backends.BACKEND != "tensorflow", reason="only TensorFlow's graphs list every tensor"
)


def sizes_of_pairs(function, *shapes):
    """Sizes, in pairs, of the tensors that have both axes in a graph of loss and gradients."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def forward_and_backward(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss, weights = function(*inputs)
        return tape.gradient(loss, [*inputs, *(weight.value for weight in weights)])

    specs = [tf.TensorSpec(shape) for shape in shapes]
    graph = forward_and_backward.get_concrete_function(*specs).graph
    assert not graph.as_graph_def().library.function, "tensors hidden inside a function"
    outputs = [output for operation in graph.get_operations() for output in operation.outputs]
    sizes = [int(np.prod(output.shape)) for output in outputs if output.shape.is_fully_defined()]
    assert len(sizes) > 0.9 * len(outputs)
    return [size // PAIRS for size in sizes if size % PAIRS == 0 and size > 0]


@functools.cache
def training_step(variant, steps):
    """Sizes of pairs in a training step over captions of so many words."""
    import tensorflow as tf

    cell = AttentionGRUCell(UNITS, FEATURES, AreaAttention(WORDS, EMBEDDING, variant))
    cell.build((None, EMBEDDING))
    mask = np.ones((IMAGES, REGIONS), bool)
    targets = tf.ones((IMAGES, CAPTIONS * steps), "int32")

    def loss(words, state, regions):
        memory = cell.attention.precompute(regions, mask)
        seen, normalizers = cell.run(words, cell.start(state, memory), memory)
        if normalizers is not None:
            normalizers = tf.reshape(normalizers, targets.shape)
        seen = tf.reshape(seen, (*targets.shape, UNITS))
        log_probs = cell.attention.target_log_probs(seen, targets, memory, normalizers)
        return tf.reduce_sum(log_probs), cell.trainable_weights

    return sizes_of_pairs(
        loss,
        (IMAGES, CAPTIONS, steps, EMBEDDING),
        (IMAGES, CAPTIONS, UNITS),
        (IMAGES, REGIONS, FEATURES),
    )


@every_variant
def test_training_makes_no_tensor_of_pairs_for_a_caption(variant):
    sizes = training_step(variant, steps=3)
    assert max(sizes, default=0) == (0 if variant == "baseline" else IMAGES)


@every_variant
def test_longer_captions_make_no_more_tensors_of_pairs(variant):
    assert len(training_step(variant, steps=2)) == len(training_step(variant, steps=3))


@every_variant
def test_the_distribution_of_words_makes_no_tensor_of_pairs_for_a_state(variant):
    layer = AreaAttention(WORDS, EMBEDDING, variant)

    def loss(states, regions):
        log_words, places = layer(states, regions)
        return log_words[0, 0, 0] + places[0, 0, 0], layer.trainable_weights

    sizes = sizes_of_pairs(loss, (IMAGES, CAPTIONS, UNITS), (IMAGES, REGIONS, FEATURES))
    assert max(sizes, default=0) == (0 if variant == "baseline" else IMAGES)
