"""Greedy and beam search over captions, batched, as one graph.

Axis letters: n image, k beam, t time step, w vocabulary word, r region.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP

IMPOSSIBLE = -1e9

Tensor = Any


class SearchResult(NamedTuple):
    """The best captions of images, best first.

    `ids (n, k, t)`: words and STOP, then PAD. `log_probs (n, k)`: natural logarithms, STOP
    included. `scores (n, k)`: what they were ranked by. `attention (n, k, t, r)`: p(r | h) of
    the state that chose each word.
    """

    ids: Tensor
    log_probs: Tensor
    scores: Tensor
    attention: Tensor


def search(captioner, encoded, beam=1, max_words=20, length_penalty=0.0):
    """Find the captions of the highest probability; `beam=1` is greedy search.

    All hypotheses of an image compete at each step by log-probability over length to the power
    `length_penalty`, words and STOP counted. A finished one goes on as itself alone, so it
    fills one place. OOV is never said.

    Args:
        captioner: `Captioner`.
        encoded: What it sees of the images, from `captioner.encode`.
        beam: Number of hypotheses kept for an image, k.
        max_words: Longest caption; one that long need not end with STOP.
        length_penalty: 0 ranks by probability; 1 by its mean over words.

    Returns:
        `SearchResult`.
    """
    images = ops.shape(encoded.state)[0]
    regions = ops.shape(encoded.boxes)[1]
    words = captioner.attention.vocabulary_size
    unlikely = ops.where(ops.arange(words) == OOV, IMPOSSIBLE, 0.0)
    only_padding = ops.where(ops.arange(words) == PAD, 0.0, IMPOSSIBLE)
    alone = ops.where(ops.arange(beam) == 0, 0.0, IMPOSSIBLE)

    def going_on(step, ids, finished, *_):
        return ops.logical_and(step < max_words, ops.logical_not(ops.all(finished)))

    def advance(step, ids, finished, log_probs, lengths, attention, state, attended):
        last = ops.where(step == 0, START, ops.take(ids, ops.maximum(step - 1, 0), axis=2))
        state, attended, next_log_probs, region_probs = captioner.decode_step(
            last, state, attended, encoded.memory
        )
        next_log_probs = ops.where(finished[:, :, None], only_padding, next_log_probs + unlikely)
        totals = log_probs[:, :, None] + next_log_probs
        lengths = lengths + ops.cast(ops.logical_not(finished), "float32")
        ranks = totals / (lengths**length_penalty)[:, :, None]
        _, best = ops.top_k(ops.reshape(ranks, (images, beam * words)), beam)
        parents, chosen = best // words, best % words

        def of_parents(values):
            return ops.reshape(gather_beams(values, parents), ops.shape(values))

        now = ops.arange(max_words) == step
        ids = ops.where(now, chosen[:, :, None], of_parents(ids))
        attention = ops.where(
            now[:, None], gather_beams(region_probs, parents)[:, :, None], of_parents(attention)
        )
        log_probs = ops.take_along_axis(ops.reshape(totals, (images, beam * words)), best, axis=1)
        finished = ops.logical_or(of_parents(finished), chosen == STOP)
        return (
            step + 1,
            ids,
            finished,
            log_probs,
            of_parents(lengths),
            attention,
            of_parents(state),
            of_parents(attended),
        )

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.full((images, beam, max_words), PAD, dtype="int32"),
        ops.zeros((images, beam), dtype="bool"),
        ops.broadcast_to(alone, (images, beam)),
        ops.zeros((images, beam)),
        ops.zeros((images, beam, max_words, regions)),
        ops.repeat(encoded.state, beam, axis=1),
        ops.repeat(encoded.attended, beam, axis=1),
    )
    _, ids, _, log_probs, lengths, attention, _, _ = ops.while_loop(going_on, advance, start)
    return SearchResult(ids, log_probs, log_probs / lengths**length_penalty, attention)


def gather_beams(values, parents):
    """Rows of `values (n, k, …)` for `parents (n, k)`."""
    images, beams = ops.shape(values)[:2]
    rows = parents + ops.arange(images, dtype=parents.dtype)[:, None] * beams
    flat = ops.reshape(values, (images * beams, *ops.shape(values)[2:]))
    return ops.take(flat, rows, axis=0)
