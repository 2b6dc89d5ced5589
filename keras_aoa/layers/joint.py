"""Marginals of the joint distribution of words and regions, without the joint tensor.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, equation 4. With the scores of words `a`, of regions `c` and of
pairs `B`, p(w, r) is proportional to exp(a_w + B_wr + c_r). `B` depends on the image
alone, so its exponentials are taken once an image, shifted by the maximum of each word
and of each region; every marginal is then one product with them. In memory regions come
before words: so the scores and the gradients of all steps need no transposed copy.

Axis letters of every shape in this package's layers:
    n image   c caption   t time step   w vocabulary word   r region
    e embedding   f region feature   u state unit
"""

from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.products import batched_product

MASKED_SCORE = -1e9  # finite: a masked score has gradient 0, where -inf gives NaN
SMALLEST_SUM = 1e-30  # its reciprocal, summed over regions and captions, stays finite

Tensor = Any


class PairFactors(NamedTuple):
    """What the joint distribution needs of an image's word-region scores.

    `exponentials` is `(n, r, w)`, `by_word` the same as `(n, w, r)`, `word_max` is `(n, w)`,
    `region_max` `(n, r)`; the scores are `word_max + region_max + log(exponentials)`. The
    exponentials are there for products alone, and in these products' dtype.
    """

    exponentials: Tensor
    by_word: Tensor
    word_max: Tensor
    region_max: Tensor


class RegionMarginal(NamedTuple):
    """`log_normalizer (n, c)`, `probs (n, c, r)`, and the terms that made them.

    `word_weights (n, c, w)` are exp(a + word_max), shifted by their maximum, in the products'
    dtype; `sums (n, c, r)` are their products with the exponentials, before the floor.
    """

    log_normalizer: Tensor
    probs: Tensor
    word_weights: Tensor
    sums: Tensor


def factorize(scores, word_mask=None, region_mask=None, compute_dtype=None):
    """Split word-region scores into maxima of words, maxima of regions, and exponentials.

    The double shift keeps exact a region that all words dislike and the state likes; a shift
    by words alone loses it. The maxima carry no gradient: no marginal depends on them.

    Args:
        scores: `(n, r, w)`.
        word_mask: Booleans, `(w,)`; false for a word that is never predicted.
        region_mask: Booleans, `(n, r)`; false marks padding.
        compute_dtype: Dtype of products with the exponentials; that of the scores by default.

    Returns:
        `PairFactors`.
    """
    if region_mask is not None:
        scores = ops.where(region_mask[:, :, None], scores, MASKED_SCORE)
    word_max = ops.stop_gradient(ops.max(scores, axis=1))
    shifted = scores - word_max[:, None, :]
    if word_mask is not None:
        shifted = ops.where(word_mask, shifted, MASKED_SCORE)
    region_max = ops.stop_gradient(ops.max(shifted, axis=2))
    exponentials = ops.exp(shifted - region_max[:, :, None])
    exponentials = ops.cast(exponentials, compute_dtype or scores.dtype)
    return PairFactors(exponentials, ops.swapaxes(exponentials, 1, 2), word_max, region_max)


def region_marginal(word_scores, region_scores, factors, compute_dtype=None):
    """p(r) and the logarithm of the joint's normalizer (equation 4), one product with B.

    Args:
        word_scores: `a`, `(n, c, w)`.
        region_scores: `c`, `(n, c, r)`.
        factors: The image's `PairFactors`.
        compute_dtype: Dtype of the product; that of the scores by default.

    Returns:
        `RegionMarginal`.
    """
    word_scores = word_scores + factors.word_max[:, None, :]
    largest = ops.stop_gradient(ops.max(word_scores, axis=2, keepdims=True))
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


def normalize(log_terms):
    """Softmax over the last axis, and the logarithm of its denominator with that axis kept.

    Unlike Keras's it does not warn of a single region.
    """
    largest = ops.stop_gradient(ops.max(log_terms, axis=-1, keepdims=True))
    terms = ops.exp(log_terms - largest)
    total = ops.sum(terms, axis=-1, keepdims=True)
    return terms / total, largest + ops.log(total)


def word_log_marginal(word_scores, region_scores, factors, log_normalizer, compute_dtype=None):
    """log p(w), for search: a second product with B.

    Args and dtypes as in `region_marginal`, whose `log_normalizer (n, c)` it takes.

    Returns:
        Natural logarithms, `(n, c, w)`, never above 0.
    """
    region_scores = region_scores + factors.region_max[:, None, :]
    largest = ops.max(region_scores, axis=2, keepdims=True)
    weights = ops.exp(region_scores - largest)
    sums = batched_product(weights, factors.exponentials, compute_dtype)
    log_sums = largest + ops.log(ops.maximum(sums, SMALLEST_SUM))
    log_probs = word_scores + factors.word_max[:, None, :] + log_sums - log_normalizer[:, :, None]
    return ops.minimum(log_probs, 0.0)


def target_log_prob(target_score, target_region_scores, region_scores, log_normalizer):
    """log p(w*) of a known word, for training: its own scores and no word distribution.

    Args:
        target_score: `a` of the word, `(n, c)`.
        target_region_scores: The word's own `B`, `(n, c, r)`; finite where a region is masked.
        region_scores: `c`, `(n, c, r)`; very low where a region is masked.
        log_normalizer: `(n, c)`.

    Returns:
        Natural logarithms, `(n, c)`, never above 0: the word's own term bounds the normalizer
        from below even where the product underflowed.
    """
    own_term = target_score + ops.logsumexp(target_region_scores + region_scores, axis=2)
    return own_term - ops.maximum(log_normalizer, own_term)
