"""Marginals of the joint distribution of words and regions, without a tensor of all pairs.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017, arXiv:1612.01033,
equation 4. With word scores `a`, region scores `c` and word-region scores `B`, p(w, r) is
proportional to exp(a_w + B_wr + c_r). `B` depends only on the image. The exponentials of `B` are
therefore computed once per image, after the maximum of each word and of each region is subtracted.
Each marginal then needs one matrix product with the exponentials. The region axis precedes the word
axis in memory. If the word axis came first, each step would copy the scores and their gradients to
transpose them.

Letters in the shapes of `keras_aoa.layers`:
    n image, c caption, t time step, w vocabulary word, r region,
    e embedding, f region feature, u state unit
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.products import batched_product

MASKED_SCORE = -1e9  # finite, because -inf would cause NaN gradients
SMALLEST_SUM = 1e-30  # large enough that sums of its reciprocal stay finite

Tensor = Any


class PairFactors(NamedTuple):
    """The word-region scores of each image, split into maxima and exponentials.

    `exponentials` has shape `(n, r, w)`, and `by_word (n, w, r)` is its transpose. `word_max` has
    shape `(n, w)`. `region_max` has shape `(n, r)`. The word-region scores equal
    `word_max + region_max + log(exponentials)`. The exponentials have the dtype in which matrix
    products are computed.
    """

    exponentials: Tensor
    by_word: Tensor
    word_max: Tensor
    region_max: Tensor


class RegionMarginal(NamedTuple):
    """Region probabilities, the log normalizer, and intermediate terms.

    `probs (n, c, r)` is p(r). `log_normalizer (n, c)` is the logarithm of the sum of exp(a_w + B_wr
    + c_r) over all words and regions. `word_weights (n, c, w)` are exp(a + word_max), divided by
    the maximum over all words. The weights have the dtype of the matrix products. `sums (n, c, r)`
    are the products of `word_weights` and the exponentials, before the lower bound `SMALLEST_SUM`
    is applied.
    """

    log_normalizer: Tensor
    probs: Tensor
    word_weights: Tensor
    sums: Tensor


def factorize(scores, word_mask=None, region_mask=None, compute_dtype=None):
    """Split word-region scores into per-word maxima, per-region maxima and exponentials.

    If only the word maxima were subtracted, the exponentials of a region with low scores for all
    words would underflow, even if its score for the state is high. The maxima need no gradient,
    because they cancel in every marginal.

    Args:
        scores: `(n, r, w)`.
        word_mask: Booleans `(w,)`, false for a word that is never predicted.
        region_mask: Booleans `(n, r)`, false for padding.
        compute_dtype: Dtype of the exponentials. The default is the dtype of `scores`.

    Returns:
        `PairFactors`.
    """
    if region_mask is not None:
        scores = ops.where(region_mask[:, :, None], scores, MASKED_SCORE)
    word_max = ops.stop_gradient(largest_of(scores, axis=1))
    shifted = scores - word_max[:, None, :]
    if word_mask is not None:
        shifted = ops.where(word_mask, shifted, MASKED_SCORE)
    region_max = ops.stop_gradient(largest_of(shifted, axis=2))
    exponentials = ops.exp(shifted - region_max[:, :, None])
    exponentials = ops.cast(exponentials, compute_dtype or scores.dtype)
    return PairFactors(exponentials, ops.swapaxes(exponentials, 1, 2), word_max, region_max)


def region_marginal(word_scores, region_scores, factors, compute_dtype=None):
    """Compute p(r) and the log normalizer of equation 4.

    The function multiplies one matrix by the exponentials.

    Args:
        word_scores: `a (n, c, w)`.
        region_scores: `c (n, c, r)`.
        factors: The image's `PairFactors`.
        compute_dtype: Dtype of the matrix product. The default is the dtype of the scores.

    Returns:
        `RegionMarginal`.
    """
    word_scores = word_scores + factors.word_max[:, None, :]
    largest = ops.stop_gradient(largest_of(word_scores, axis=2, keepdims=True))
    word_weights = ops.exp(word_scores - largest)
    sums = batched_product(word_weights, factors.by_word, compute_dtype)
    log_terms = (
        region_scores + factors.region_max[:, None, :] + ops.log(ops.maximum(sums, SMALLEST_SUM))
    )
    probs, log_total = normalize(log_terms)
    return RegionMarginal(
        log_normalizer=(largest + log_total)[:, :, 0],
        probs=probs,
        word_weights=ops.cast(word_weights, factors.exponentials.dtype),
        sums=sums,
    )


def largest_of(values, axis, keepdims=False):
    """Return the maximum over an axis, even for a batch without images."""
    initial = -math.inf if 0 in values.shape else None
    return ops.max(values, axis=axis, keepdims=keepdims, initial=initial)


def normalize(log_terms):
    """Return the softmax over the last axis, and the logarithm of its denominator.

    The logarithm has a last axis of size 1. Unlike `keras.ops.softmax`, this function does not warn
    if the last axis of `log_terms` has size 1.
    """
    largest = ops.stop_gradient(largest_of(log_terms, axis=-1, keepdims=True))
    terms = ops.exp(log_terms - largest)
    total = ops.sum(terms, axis=-1, keepdims=True)
    return terms / total, largest + ops.log(total)


def word_log_marginal(word_scores, region_scores, factors, log_normalizer, compute_dtype=None):
    """Compute log p(w) for search.

    In addition to `region_marginal`, this function needs one more product with the exponentials.

    Args:
        word_scores: `a (n, c, w)`.
        region_scores: `c (n, c, r)`.
        factors: The image's `PairFactors`.
        log_normalizer: Log normalizer `(n, c)` that `region_marginal` returned.
        compute_dtype: Dtype of the matrix product. The default is the dtype of the scores.

    Returns:
        The natural logarithms log p(w), `(n, c, w)`; all are at most 0.
    """
    region_scores = region_scores + factors.region_max[:, None, :]
    largest = largest_of(region_scores, axis=2, keepdims=True)
    weights = ops.exp(region_scores - largest)
    sums = batched_product(weights, factors.exponentials, compute_dtype)
    log_sums = largest + ops.log(ops.maximum(sums, SMALLEST_SUM))
    log_probs = word_scores + factors.word_max[:, None, :] + log_sums - log_normalizer[:, :, None]
    return ops.minimum(log_probs, 0.0)


def target_log_prob(target_score, target_region_scores, region_scores, log_normalizer):
    """Compute log p(w*) of a target word w* for training, without the word distribution.

    Args:
        target_score: `a (n, c)` of the target word.
        target_region_scores: Scores `B (n, c, r)` of the target word with each region. The scores
            are finite, even for masked regions.
        region_scores: `c (n, c, r)`, very low for masked regions.
        log_normalizer: Log normalizer `(n, c)` that `region_marginal` returned.

    Returns:
        The natural logarithms log p(w*), `(n, c)`; all are at most 0. If the matrix product
        underflowed, the log normalizer is too small. The function therefore uses the target word's
        own term as a lower bound of the log normalizer.
    """
    own_term = target_score + ops.logsumexp(target_region_scores + region_scores, axis=2)
    return own_term - ops.maximum(log_normalizer, own_term)
