"""Samples captions from the captioner's own distribution.

Letters in shapes: n image, c caption, t time step, w vocabulary word.
"""

import math

from keras import ops

from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.models.teacher_forcing import repeat_captions


def sample_captions(captioner, encoded, uniform, dropout=(None, None), temperature=1.0):
    """Sample captions of each image, word by word, in proportion to p(w)^(1/T).

    The temperature T is 1 by default, which means p(w).

    Unlike search, sampling may choose OOV, because OOV is a part of p(w).

    Args:
        captioner: `Captioner`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        uniform: Random numbers in 0..1, one for each word of the captions, `(n, c, t)`. A caption
            with t words may lack STOP.
        dropout: `captioner.dropout_masks` for these captions; no dropout by default.
        temperature: T.

    Returns:
        Ids `(n, c, t + 1)` that begin with START. Ids after STOP are PAD.
    """
    images, count, max_words = ops.shape(uniform)
    # Explicit dtypes, because Keras chooses int64 where its default float is float64.
    places, padding = ops.arange(max_words + 1, dtype="int32"), ops.full((), PAD, dtype="int32")

    def is_unfinished(step, ids, finished, *_):
        return ops.logical_and(step < max_words, ops.logical_not(ops.all(finished)))

    def advance(step, ids, finished, state, attended):
        state, attended, log_probs, _ = captioner.decode_step(
            ops.take(ids, step, axis=2),
            state,
            attended,
            encoded.memory,
            [None if mask is None else ops.take(mask, step, axis=2) for mask in dropout],
        )
        if temperature != 1:
            log_probs = at_temperature(log_probs, temperature)
        chosen = sample_words(log_probs, ops.take(uniform, step, axis=2))
        chosen = ops.where(finished, padding, chosen)
        ids = ops.where(places == step + 1, chosen[:, :, None], ids)
        return step + 1, ids, ops.logical_or(finished, chosen == STOP), state, attended

    first = ops.full((images, count, 1), START, dtype="int32")
    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.concatenate([first, ops.full((images, count, max_words), PAD, dtype="int32")], axis=2),
        ops.zeros((images, count), dtype="bool"),
        *(repeat_captions(part, count) for part in (encoded.state, encoded.attended)),
    )
    return ops.while_loop(is_unfinished, advance, start)[1]


def at_temperature(log_probs, temperature):
    """Return log p(w) / T plus a constant for each distribution `(n, c, w)`.

    The largest value becomes 0, because a low temperature T would let all others underflow.
    """
    largest = ops.max(log_probs, axis=-1, keepdims=True)
    largest = ops.where(largest == -math.inf, 0.0, largest)
    return (log_probs - largest) / temperature


def sample_words(log_probs, uniform):
    """Sample one word from each distribution.

    Args:
        log_probs: log p(w), or log p(w) plus a constant, `(n, c, w)`.
        uniform: A random number in 0..1 for each distribution, `(n, c)`.

    Returns:
        Ids `(n, c)`: the first word whose cumulative probability exceeds the random number.
    """
    below = ops.cumsum(ops.exp(log_probs), axis=2)
    # The last sum may differ from 1. The threshold is scaled by this sum.
    total = below[:, :, -1:]
    threshold = ops.cast(uniform, total.dtype)[:, :, None] * total
    passed = ops.logical_and(below <= threshold, below < total)
    return ops.sum(ops.cast(passed, "int32"), axis=2)
