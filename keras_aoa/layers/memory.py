"""What the attention keeps of an image, and small steps on the scores of words and regions.

Axis letters: see `joint.py`.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.joint import MASKED_SCORE, PairFactors, RegionMarginal, normalize

Tensor = Any


class ImageMemory(NamedTuple):
    """What every step needs of an image, computed once for all its captions.

    `regions (n, r, f)`, `region_mask (n, r)` or None; `keys (n, r, e)`, whose products with words
    are the word-region scores, and the `factors` of these, None in the baseline, which has none.
    """

    regions: Tensor
    region_mask: Tensor | None
    keys: Tensor | None
    factors: PairFactors | None


class JointScores(NamedTuple):
    """What states say of words `(n, c, w)` and of regions `(n, c, r)`, and p(r).

    The last two are None in the baseline.
    """

    words: Tensor
    regions: Tensor | None
    marginal: RegionMarginal | None


def mask_regions(scores, memory):
    """Scores `(n, c, r)` with padding set so low that its probability is 0."""
    if memory.region_mask is None:
        return scores
    return ops.where(memory.region_mask[:, None, :], scores, MASKED_SCORE)


def uniform_regions(states, memory):
    """p(r) of the baseline, which looks nowhere: equal weights, `(n, c, r)`."""
    regions = ops.shape(memory.regions)[1]
    scores = ops.zeros((*ops.shape(states)[:-1], regions), dtype=states.dtype)
    return normalize(mask_regions(scores, memory))[0]
