"""Samples captions from the captioner's own distribution.

Letters in shapes: n image, c caption, t time step, w vocabulary word.
"""

from keras import ops

from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.models.captioner import repeat_captions


def sample_captions(captioner, encoded, uniform):
    """Sample captions of each image, word by word, from p(w).

    Unlike search, sampling may choose OOV, because OOV is a part of p(w).

    Args:
        captioner: `Captioner`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        uniform: Random numbers in 0..1, one for each word of the captions, `(n, c, t)`. A caption
            with t words may lack STOP.

    Returns:
        Ids `(n, c, t + 1)` that begin with START. After STOP, they are PAD.
    """
    images, count, max_words = shape = ops.shape(uniform)

    def is_unfinished(step, ids, finished, *_):
        return ops.logical_and(step < max_words, ops.logical_not(ops.all(finished)))

    def advance(step, ids, finished, state, attended):
        last = ops.where(step == 0, START, ops.take(ids, ops.maximum(step - 1, 0), axis=2))
        state, attended, log_probs, _ = captioner.decode_step(last, state, attended, encoded.memory)
        chosen = sample_words(log_probs, ops.take(uniform, step, axis=2))
        chosen = ops.where(finished, PAD, chosen)
        ids = ops.where(ops.arange(max_words) == step, chosen[:, :, None], ids)
        return step + 1, ids, ops.logical_or(finished, chosen == STOP), state, attended

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.full(shape, PAD, dtype="int32"),
        ops.zeros((images, count), dtype="bool"),
        *(repeat_captions(part, count) for part in (encoded.state, encoded.attended)),
    )
    _, ids, *_ = ops.while_loop(is_unfinished, advance, start)
    return ops.concatenate([ops.full((images, count, 1), START, dtype="int32"), ids], axis=2)


def sample_words(log_probs, uniform):
    """Sample one word from each distribution.

    Args:
        log_probs: log p(w), `(n, c, w)`.
        uniform: A random number in 0..1 for each distribution, `(n, c)`.

    Returns:
        Ids `(n, c)`: the first word whose cumulative probability exceeds the random number.
    """
    below = ops.cumsum(ops.exp(log_probs), axis=2)
    # The last sum may differ from 1 by rounding errors. The threshold is scaled by this sum.
    total = below[:, :, -1:]
    passed = ops.logical_and(below <= uniform[:, :, None] * total, below < total)
    return ops.sum(ops.cast(passed, "int32"), axis=2)
