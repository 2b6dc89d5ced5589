"""Decodes known captions by teacher forcing, for the training loss and for attention.

Letters in shapes: n image, c caption, t time step, r region, u unit of the state.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.data.text.vocabulary import PAD

Tensor = Any


class DecodedCaptions(NamedTuple):
    """Known captions, decoded by teacher forcing.

    `log_probs (n, c, t)` are the log-probabilities of the next words, with 0 at padding.
    `outputs (n, c t, o)` are the outputs of the attention at each step, which determine p(r).
    """

    log_probs: Tensor
    outputs: Tensor


class ScoredCaptions(NamedTuple):
    """Log-probabilities and attention for each word of given captions.

    `log_probs (n, c, t)` are the natural logarithms of the probabilities of the next words, with 0
    at padding. `attention (n, c, t, r)` is p(r | h), where h is the state that predicts the word.
    """

    log_probs: Tensor
    attention: Tensor


def teacher_forcing(captioner, encoded, captions):
    """Compute the log-probability and attention of each word.

    Teacher forcing and search use the same decoding step.

    Args:
        captioner: `Captioner`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        captions: Word ids `(n, c, t + 1)` that begin with START and are padded with PAD.

    Returns:
        `ScoredCaptions`.
    """
    images, count, time = ops.shape(captions)
    regions = ops.shape(encoded.boxes)[1]
    fed, targets = captions[:, :, :-1], captions[:, :, 1:]
    time = time - 1

    def advance(step, log_probs, attention, state, attended):
        state, attended, words, region_probs = captioner.decode_step(
            ops.take(fed, step, axis=2), state, attended, encoded.memory
        )
        target = ops.take(targets, step, axis=2)[:, :, None]
        now = ops.arange(time) == step
        log_probs = ops.where(now, ops.take_along_axis(words, target, axis=2), log_probs)
        attention = ops.where(now[:, None], region_probs[:, :, None], attention)
        return step + 1, log_probs, attention, state, attended

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.zeros((images, count, time)),
        ops.zeros((images, count, time, regions)),
        *(repeat_captions(part, count) for part in (encoded.state, encoded.attended)),
    )
    _, log_probs, attention, *_ = ops.while_loop(lambda step, *_: step < time, advance, start)
    return ScoredCaptions(ops.where(targets == PAD, 0.0, log_probs), attention)


def decode_captions(captioner, encoded, captions, training=False, fed=None, smoothing=0.0):
    """Return the `DecodedCaptions` of ids `(n, c, t + 1)`. `fed` replaces the input words."""
    images, count, time = ops.shape(captions)
    fed, targets = captions[:, :, :-1] if fed is None else fed, captions[:, :, 1:]
    time = time - 1
    words = captioner.attention.embed(fed)
    state_dropout = None
    if training and captioner.dropout:
        word_dropout, state_dropout = captioner.dropout_masks(images, count, time)
        words = words * word_dropout
    start = [repeat_captions(part, count) for part in (encoded.state, encoded.attended)]
    outputs, normalizers = captioner.cell.run(words, start, encoded.memory, state_dropout)
    flat, memory = (images, count * time), encoded.memory
    outputs = ops.reshape(outputs, (*flat, ops.shape(outputs)[-1]))
    normalizers = None if normalizers is None else ops.reshape(normalizers, flat)
    log_probs = captioner.attention.target_log_probs(
        outputs,
        ops.reshape(targets, flat),
        memory,
        normalizers,
        smoothing,
    )
    log_probs = ops.reshape(log_probs, (images, count, time))
    return DecodedCaptions(ops.where(targets == PAD, 0.0, log_probs), outputs)


def with_noise(memory, captions, seed):
    """Return an `ImageMemory` with Gumbel noise for each step of captions `(n, c, t + 1)`."""
    images, count, time = ops.shape(captions)
    shape = (images, count, time - 1, ops.shape(memory.regions)[1])
    # The lower bound keeps the logarithm finite.
    uniform = keras.random.uniform(shape, minval=1e-20, seed=seed)
    return memory._replace(noise=-ops.log(-ops.log(uniform)))


def word_count(captions):
    """Count the words of captions `(n, c, t + 1)`, without START and padding."""
    return ops.sum(ops.cast(captions[:, :, 1:] != PAD, "float32"))


def caption_loss(log_probs, captions, words=None):
    """Return the mean negative log-likelihood per word.

    Args:
        log_probs: Output of `Captioner`, `(n, c, t)`.
        captions: `(n, c, t + 1)`.
        words: Number of words to divide by. The default is the number of words in `captions`.
            Distributed training passes the number of words over all replicas.
    """
    words = word_count(captions) if words is None else words
    return -ops.sum(log_probs) / ops.cast(ops.maximum(words, 1.0), log_probs.dtype)


def repeat_captions(states, count):
    """Repeat each image's state for all captions: from `(n, 1, u)` to `(n, count, u)`."""
    return ops.repeat(states, count, axis=1)
