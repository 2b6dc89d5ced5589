"""Marginals of the joint distribution of words and regions, without the joint tensor.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, equation 4. With word scores `a`, region scores `c` and word-region
scores `B`, p(w, r) is proportional to exp(a_w + B_wr + c_r). `B` depends only on the
image, so its exponentials are computed once per image, shifted by the maximum of each
word and of each region. Every marginal is then one matrix product with them. The region
axis precedes the word axis in memory, so no step needs a transposed copy of the scores
or of their gradients.

Axis letters of every shape in `keras_aoa.layers`:
    n image   c caption   t time step   w vocabulary word   r region
    e embedding   f region feature   u state unit
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.products import batched_product

MASKED_SCORE = -1e9  # finite: a masked score has gradient 0, where -inf gives NaN
SMALLEST_SUM = 1e-30  # its reciprocal, summed over regions and captions, stays finite

Tensor = Any


class PairFactors(NamedTuple):
    """The word-region scores of an image, factored for `region_marginal`.

    `exponentials` has shape `(n, r, w)` and `by_word` is its transpose, `(n, w, r)`. `word_max`
    has shape `(n, w)` and `region_max` `(n, r)`. The scores equal
    `word_max + region_max + log(exponentials)`. The exponentials are used only in matrix
    products and have the dtype of these products.
    """

    exponentials: Tensor
    by_word: Tensor
    word_max: Tensor
    region_max: Tensor


class RegionMarginal(NamedTuple):
    """Region probabilities `probs (n, c, r)`, `log_normalizer (n, c)` and intermediate terms.

    `word_weights (n, c, w)` are exp(a + word_max), shifted by their maximum, in the dtype of the
    matrix products. `sums (n, c, r)` are the products of `word_weights` and the exponentials,
    before they are clipped to `SMALLEST_SUM`.
    """

    log_normalizer: Tensor
    probs: Tensor
    word_weights: Tensor
    sums: Tensor


def factorize(scores, word_mask=None, region_mask=None, compute_dtype=None):
    """Split word-region scores into per-word maxima, per-region maxima and exponentials.

    A region may have low scores for all words but a high score for the state. Shifting by both
    maxima keeps such a region exact; shifting only by the word maxima would underflow. The maxima
    carry no gradient because no marginal depends on them.

    Args:
        scores: `(n, r, w)`.
        word_mask: Booleans, `(w,)`; false for a word that is never predicted.
        region_mask: Booleans, `(n, r)`; false marks padding.
        compute_dtype: Dtype of the exponentials; the dtype of `scores` by default.

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
    """Compute p(r) and the log normalizer of the joint (equation 4) with one product with B.

    Args:
        word_scores: `a`, `(n, c, w)`.
        region_scores: `c`, `(n, c, r)`.
        factors: The image's `PairFactors`.
        compute_dtype: Dtype of the product; the dtype of the scores by default.

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
    """Maximum over an axis, also of a batch without images, which `ops.max` refuses."""
    initial = -math.inf if 0 in values.shape else None
    return ops.max(values, axis=axis, keepdims=keepdims, initial=initial)


def normalize(log_terms):
    """Softmax over the last axis, and the log of its denominator with that axis kept as size 1.

    Unlike `keras.ops.softmax`, it does not warn when the axis has size 1.
    """
    largest = ops.stop_gradient(largest_of(log_terms, axis=-1, keepdims=True))
    terms = ops.exp(log_terms - largest)
    total = ops.sum(terms, axis=-1, keepdims=True)
    return terms / total, largest + ops.log(total)


def word_log_marginal(word_scores, region_scores, factors, log_normalizer, compute_dtype=None):
    """Compute log p(w) for search, with a second product with B.

    Args:
        word_scores: `a`, `(n, c, w)`.
        region_scores: `c`, `(n, c, r)`.
        factors: The image's `PairFactors`.
        log_normalizer: As returned by `region_marginal`, `(n, c)`.
        compute_dtype: Dtype of the product; the dtype of the scores by default.

    Returns:
        Natural logarithms, `(n, c, w)`, never above 0.
    """
    region_scores = region_scores + factors.region_max[:, None, :]
    largest = largest_of(region_scores, axis=2, keepdims=True)
    weights = ops.exp(region_scores - largest)
    sums = batched_product(weights, factors.exponentials, compute_dtype)
    log_sums = largest + ops.log(ops.maximum(sums, SMALLEST_SUM))
    log_probs = word_scores + factors.word_max[:, None, :] + log_sums - log_normalizer[:, :, None]
    return ops.minimum(log_probs, 0.0)


def target_log_prob(target_score, target_region_scores, region_scores, log_normalizer):
    """Compute log p(w*) of a target word for training, without the word distribution.

    Args:
        target_score: `a` of the target word, `(n, c)`.
        target_region_scores: `B` of the target word, `(n, c, r)`; finite for masked regions.
        region_scores: `c`, `(n, c, r)`; very low for masked regions.
        log_normalizer: As returned by `region_marginal`, `(n, c)`.

    Returns:
        Natural logarithms, `(n, c)`, never above 0. The target word's own term is a lower bound
        of the normalizer, even if the matrix product underflowed.
    """
    own_term = target_score + ops.logsumexp(target_region_scores + region_scores, axis=2)
    return own_term - ops.maximum(log_normalizer, own_term)
