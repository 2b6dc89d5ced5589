"""How a search chooses the hypotheses that it continues: the best ones, or random ones.

Letters in shapes: n image, k beam, t time step, w vocabulary word.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.models.sampling import at_temperature, sample_words

# With a finite number, the length penalty could rank a missing hypothesis above a real one.
IMPOSSIBLE = -math.inf


class Sampling(NamedTuple):
    """How to sample captions.

    A word is sampled from p(w)^(1 / `temperature`). Only the `top_k` most probable words can be
    sampled. Nucleus sampling (Holtzman et al., arXiv:1904.09751) further restricts the choice to
    the fewest words whose probabilities add up to `top_p`. With `top_k` 0 and `top_p` 1, all words
    are allowed. All images share the random numbers of `seed`, so an image's captions do not depend
    on its batch.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


def best_words(groups, diversity, rank):
    """Return a function that chooses the k best continuations of k hypotheses.

    With several groups, each group of k / `groups` hypotheses is continued separately. In each
    group, a word's log-probability falls by `diversity` for each time that an earlier group chose
    the word at the same step (diverse beam search with Hamming diversity, Vijayakumar et al.,
    arXiv:1610.02424).

    Args:
        groups: Number of groups.
        diversity: Nats.
        rank: Function of log-probabilities and lengths, see `search.ranking`.
    """

    def choose(step, log_probs, next_log_probs, lengths, penalties):
        images, beam, words = ops.shape(next_log_probs)
        totals = log_probs[:, :, None] + next_log_probs
        size = beam // groups
        parents, chosen, paid = [], [], []
        used = ops.zeros((images, words))
        for group in range(groups):
            own = slice(group * size, (group + 1) * size)
            values = totals[:, own]
            if groups > 1:
                values = values - penalties[:, own, None] - diversity * used[:, None]
            ranks = rank(values, lengths[:, own, None])
            _, best = ops.top_k(ops.reshape(ranks, (images, size * words)), size)
            parents.append(best // words + group * size)
            chosen.append(best % words)
            if groups > 1:
                before = ops.take_along_axis(penalties, parents[-1], axis=1)
                paid.append(before + diversity * ops.take_along_axis(used, chosen[-1], axis=1))
                # Padding follows every finished hypothesis. It is not a choice.
                counts = ops.sum(ops.one_hot(chosen[-1], words), axis=1)
                used = used + ops.where(ops.arange(words) == PAD, 0.0, counts)
        if groups == 1:
            return parents[0], chosen[0], penalties
        return tuple(ops.concatenate(parts, axis=1) for parts in (parents, chosen, paid))

    return choose


def sampled_words(sampling, beam, max_words):
    """Return a function that samples the next word of each of k hypotheses."""
    numbers = np.random.default_rng(sampling.seed).random((max_words, beam), "float32")
    uniform = ops.convert_to_tensor(numbers)

    def choose(step, log_probs, next_log_probs, lengths, penalties):
        images, _, words = ops.shape(next_log_probs)
        scores = at_temperature(next_log_probs, sampling.temperature)
        if 0 < sampling.top_k < words:
            least = ops.top_k(scores, sampling.top_k)[0][:, :, -1:]
            scores = ops.where(scores < least, IMPOSSIBLE, scores)
        if sampling.top_p < 1:
            probs = ops.softmax(scores, axis=-1)
            ordered = ops.top_k(probs, words)[0]
            needed = ops.cumsum(ordered, axis=-1) - ordered < sampling.top_p
            least = ops.min(ops.where(needed, ordered, math.inf), axis=-1, keepdims=True)
            scores = ops.where(probs < least, IMPOSSIBLE, scores)
        row = ops.broadcast_to(ops.take(uniform, step, axis=0), (images, beam))
        chosen = sample_words(scores, row)
        return ops.broadcast_to(ops.arange(beam), (images, beam)), chosen, penalties

    return choose
