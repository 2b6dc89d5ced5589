"""Batched greedy search, beam search and sampling of captions, in one graph.

Letters in shapes: n image, k beam, t time step, w vocabulary word, r region.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.models.choices import IMPOSSIBLE, best_words, sampled_words
from keras_aoa.models.constraints import Constraints, restriction

LARGEST_LOG_DIVISOR = 80.0  # float32 can represent e^80 and e^-80

Tensor = Any


class SearchResult(NamedTuple):
    """The best captions of each image, best first.

    `ids (n, k, t)` contains words and STOP, then PAD. `log_probs (n, k)` are natural logarithms of
    the caption probabilities, STOP included. `scores (n, k)` are the log-probabilities with the
    length penalty. Search ranks captions by score. `attention (n, k, t, r)` is p(r | h) for each
    word, where h is the state that predicts the word. `word_log_probs (n, k, t)` add up to
    `log_probs`. Constraints exclude words, but do not change the probabilities of the other words.

    If search finds fewer than k captions for an image, the image's last rows are empty. The ids of
    an empty row are PAD, its log-probability and score are -inf, and its other numbers are 0.
    """

    ids: Tensor
    log_probs: Tensor
    scores: Tensor
    attention: Tensor
    word_log_probs: Tensor


NO_CONSTRAINTS = Constraints()


def search(
    captioner,
    encoded,
    beam=1,
    max_words=20,
    length_penalty=0.0,
    constraints=NO_CONSTRAINTS,
    groups=1,
    diversity=0.5,
    sampling=None,
):
    """Search for the most probable captions. With `beam=1`, the search is greedy.

    For each image, a step keeps the k hypotheses with the highest scores. The score is
    log-probability / length^`length_penalty`, where the length counts words and STOP. A finished
    hypothesis stays unchanged and occupies one of the k beams. Search never generates PAD, START
    or OOV.

    Args:
        captioner: `Captioner` or `Ensemble`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        beam: Number of hypotheses per image, k.
        max_words: Maximum length of a caption. A caption of this length may lack STOP.
        length_penalty: Any finite number. A penalty of 0 ranks captions by log-probability. A
            penalty of 1 ranks captions by mean log-probability per word.
        constraints: `Constraints`.
        groups: Number of groups of a diverse beam search, a divisor of `beam`; see
            `choices.best_words`.
        diversity: Strength of the diversity between groups, in nats.
        sampling: `Sampling`, to sample `beam` captions instead of searching. Sampled captions may
            be equal.

    Returns:
        `SearchResult`.
    """
    images = ops.shape(encoded.state)[0]
    regions = ops.shape(encoded.boxes)[1]
    words = captioner.attention.vocabulary_size
    restrict = restriction(constraints, words)
    only_padding = ops.where(ops.arange(words) == PAD, 0.0, IMPOSSIBLE)
    rank = ranking(length_penalty, max_words)
    if sampling is None:
        choose = best_words(groups, diversity, rank)
        # Each group starts with one hypothesis, because equal hypotheses find equal captions.
        start_log_probs = ops.where(ops.arange(beam) % (beam // groups) == 0, 0.0, IMPOSSIBLE)
    else:
        choose = sampled_words(sampling, beam, max_words)
        start_log_probs = ops.zeros(beam)

    # An image's first row, if the beams of all images are joined.
    first_rows = ops.arange(images, dtype="int32")[:, None] * beam

    def is_unfinished(step, ids, finished, *_):
        return ops.logical_and(step < max_words, ops.logical_not(ops.all(finished)))

    def advance(
        step, ids, finished, log_probs, lengths, penalties, probs, attention, state, attended
    ):
        last = ops.where(step == 0, START, ops.take(ids, ops.maximum(step - 1, 0), axis=2))
        state, attended, next_log_probs, region_probs = captioner.decode_step(
            last, state, attended, encoded.memory
        )
        next_log_probs = ops.where(
            finished[:, :, None], only_padding, restrict(step, ids, next_log_probs)
        )
        lengths = lengths + ops.cast(ops.logical_not(finished), "float32")
        parents, chosen, penalties = choose(step, log_probs, next_log_probs, lengths, penalties)
        chosen_log_probs = ops.take_along_axis(
            ops.reshape(next_log_probs, (images, beam * words)), parents * words + chosen, axis=1
        )

        rows = first_rows + parents

        def of_parents(values):
            return ops.reshape(gather_rows(values, rows), ops.shape(values))

        now = ops.arange(max_words) == step
        ids = ops.where(now, chosen[:, :, None], of_parents(ids))
        attention = ops.where(
            now[:, None], gather_rows(region_probs, rows)[:, :, None], of_parents(attention)
        )
        probs = ops.where(now, chosen_log_probs[:, :, None], of_parents(probs))
        log_probs = of_parents(log_probs) + chosen_log_probs
        # A hypothesis that does not exist cannot continue, so it counts as finished.
        ended = ops.logical_or(chosen == STOP, log_probs == IMPOSSIBLE)
        finished = ops.logical_or(of_parents(finished), ended)
        return (
            step + 1,
            ids,
            finished,
            log_probs,
            of_parents(lengths),
            penalties,
            probs,
            attention,
            of_parents(state),
            of_parents(attended),
        )

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.full((images, beam, max_words), PAD, dtype="int32"),
        ops.zeros((images, beam), dtype="bool"),
        ops.broadcast_to(start_log_probs, (images, beam)),
        ops.zeros((images, beam)),
        ops.zeros((images, beam)),
        ops.zeros((images, beam, max_words)),
        ops.zeros((images, beam, max_words, regions)),
        ops.repeat(encoded.state, beam, axis=1),
        ops.repeat(encoded.attended, beam, axis=1),
    )
    _, ids, _, log_probs, lengths, _, probs, attention, _, _ = ops.while_loop(
        is_unfinished, advance, start
    )
    exists = log_probs != IMPOSSIBLE
    result = SearchResult(
        ids=ops.where(exists[:, :, None], ids, PAD),
        log_probs=log_probs,
        scores=ops.where(exists, log_probs / lengths**length_penalty, IMPOSSIBLE),
        attention=ops.where(exists[:, :, None, None], attention, 0.0),
        word_log_probs=ops.where(exists[:, :, None], probs, 0.0),
    )
    if groups == 1 and sampling is None:
        return result
    rows = first_rows + ops.argsort(-rank(log_probs, lengths), axis=1)
    return SearchResult(*(gather_rows(part, rows) for part in result))


def ranking(length_penalty, max_words):
    """Return a function that ranks hypotheses by score, even if the score would overflow."""
    if abs(length_penalty) * math.log(max_words) < LARGEST_LOG_DIVISOR:
        return lambda log_probs, lengths: log_probs / lengths**length_penalty

    def rank(log_probs, lengths):
        # The score could overflow, so rank by its logarithm. All powers beyond 1e6 rank alike.
        power = max(-1e6, min(length_penalty, 1e6))
        lengths, wide = ops.cast(lengths, "float64"), ops.cast(log_probs, "float64")
        ranks = power * ops.log(lengths) - ops.log(-wide)
        return ops.where(log_probs == IMPOSSIBLE, IMPOSSIBLE, ranks)

    return rank


def gather_rows(values, rows):
    """Select the rows `rows (n, k)` from `values (n, k, …)`, the beams of all images joined."""
    images, beams = ops.shape(values)[:2]
    flat = ops.reshape(values, (images * beams, *ops.shape(values)[2:]))
    return ops.take(flat, rows, axis=0)
