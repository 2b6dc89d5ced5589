"""The attention of "Areas of Attention": a joint distribution of words and regions.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.2, equations 4 to 6. For the letters in shapes, see
`joint.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.base import (
    Attended,
    AttentionLayer,
    ImageMemory,
    mask_regions,
    merge_captions,
    split_captions,
)
from keras_aoa.layers.joint import (
    RegionMarginal,
    factorize,
    normalize,
    region_marginal,
    target_log_prob,
    word_log_marginal,
)
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.recurrent_gradient import run_full
from keras_aoa.layers.regions import require_regions

VARIANTS = ("baseline", "word_region", "word_region_state", "conditional", "full")
FEEDBACK_VARIANTS = ("conditional", "full")

Tensor = Any


class JointScores(NamedTuple):
    """Word scores `(n, c, w)`, region scores `(n, c, r)`, and the region marginal.

    In the variant `baseline`, `regions` and `marginal` are None.
    """

    words: Tensor
    regions: Tensor | None
    marginal: RegionMarginal | None


@keras.saving.register_keras_serializable(package="keras_aoa")
class AreaAttention(AttentionLayer):
    """Joint distribution of the next word and the region that it describes, given the state.

    `s(w, r, h) = W_w theta_wh h + W_w theta_wr R_r + R_r theta_rh h + W_w theta_w + R_r theta_r`
    (equation 5). The joint distribution is the softmax of `s` over all pairs of a word and a
    region. The layer returns the marginals p(w) and p(r) of the joint distribution. The layer
    computes both marginals without a tensor of all pairs (see `joint.py`).

    First, the layer scales each region's features to the L2 norm `feature_length`. Features of a
    CNN often have an L2 norm of 200, and scores grow with the norm. Without scaling, the softmax
    saturates at one region and one word, and its gradient vanishes. Without scaling, the training
    loss stays at 30 or more instead of falling below 2. The recurrent cell also receives the scaled
    regions.

    Args:
        vocabulary_size: Number of words in the vocabulary, n_w.
        embedding_dim: Width of word embeddings, d_w.
        variant: Row of the paper's Table 1: `baseline` (no regions), `word_region`,
            `word_region_state`, `conditional` or `full`. `conditional` and `full` compute the same
            scores but pass different region vectors to the recurrent cell.
        never_predicted: Ids of words whose probability is always 0, such as padding and START.
        tied: If True, the matrix `W`, which scores words, also embeds the input word, as in the
            paper; if False, a second matrix embeds the input word.
        feature_length: L2 norm to which region features are scaled. 0 leaves the features unscaled,
            as in the paper's equations.

    Call arguments:
        states: `(n, u)`, or `(n, …, u)` with axes for captions and time.
        regions: Region features `(n, r, f)`, or the `Regions` that a region layer returns.
        region_mask: Booleans `(n, r)`, false for padding. `region_mask` replaces the mask of a
            `Regions`. Each image needs at least one unmasked region.

    Returns:
        `word_log_probs (n, …, w)`, which are natural logarithms, and `region_probs (n, …, r)`. Both
        outputs are float32, even in mixed precision.

    Raises:
        ValueError: an argument of the layer is invalid, an input has the wrong number of axes, or
            the layer was built for another number of features per region.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import AreaAttention, GridRegions

    activations = np.random.normal(size=(2, 14, 14, 64))  # of any CNN
    states = np.random.normal(size=(2, 5, 32))  # of any recurrent network, 5 steps
    regions = GridRegions(stride=2)(activations)
    attention = AreaAttention(vocabulary_size=20, embedding_dim=16)
    word_log_probs, region_probs = attention(states, regions)
    print(word_log_probs.shape, region_probs.shape)  # (2, 5, 20) (2, 5, 49)
    ```

    Source: equations 4 and 5, Table 1.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        variant="full",
        never_predicted=(),
        tied=True,
        feature_length=4.0,
        **kwargs,
    ):
        super().__init__(
            vocabulary_size, embedding_dim, never_predicted, tied, feature_length, **kwargs
        )
        if variant not in VARIANTS:
            raise ValueError(
                f"AreaAttention: `variant` must be one of {', '.join(VARIANTS)}; "
                f"received {variant!r}."
            )
        if variant == "conditional" and not tied:
            raise ValueError(
                "AreaAttention: variant='conditional' needs tied=True, because the region vector "
                "depends on the input word's score; received tied=False."
            )
        self.variant = variant

    def build(self, states_shape, regions_shape):
        require_regions("AreaAttention", regions_shape)
        if len(states_shape) < 2:
            raise ValueError(
                "AreaAttention: `states` must be (batch, …, units); received shape "
                f"{tuple(states_shape)}."
            )
        units, features = states_shape[-1], regions_shape[-1]
        self.build_words()
        self.word_state = self.add_weight(name="word_state", shape=(self.embedding_dim, units))
        self.word_bias = self.add_weight(
            name="word_bias", shape=(self.embedding_dim,), initializer="zeros"
        )
        self.word_region = self.region_state = self.region_bias = None
        if self.uses_regions:
            self.region_dim = features
            self.word_region = self.add_weight(
                name="word_region", shape=(self.embedding_dim, features)
            )
            self.region_bias = self.add_weight(
                name="region_bias", shape=(features,), initializer="zeros"
            )
        if self.uses_regions and self.variant != "word_region":
            self.region_state = self.add_weight(name="region_state", shape=(features, units))
        self.built = True

    @property
    def uses_regions(self):
        """Whether the scores depend on regions."""
        return self.variant != "baseline"

    @property
    def has_feedback(self):
        """Whether the recurrent cell receives the attended region."""
        return self.variant in FEEDBACK_VARIANTS

    def precompute(self, regions, region_mask=None):
        regions = self.scale_regions(regions)
        words = self.transpose_words()
        if not self.uses_regions:
            return ImageMemory(regions, region_mask, transposed_words=words)
        keys = dense(regions, ops.transpose(self.word_region), self.compute_dtype)
        # `dense` computes one product for all images. A batched product would copy the word matrix.
        scores = dense(keys, ops.transpose(self.words), self.compute_dtype)
        factors = factorize(scores, self._word_mask(), region_mask, self.compute_dtype)
        return ImageMemory(regions, region_mask, keys, factors, transposed_words=words)

    def attend_before(self, state, word, attended, memory):
        if self.variant == "conditional":
            attended = self.attended_given_word(state, word, memory)
        return attended, None

    def attend_after(self, state, attended, context, memory):
        if self.variant != "full":
            return Attended(state, attended, None)
        scores = self.score(state, memory)
        return Attended(state, self.attended(scores, memory), scores)

    def run(self, cell, words, states, memory, state_dropout=None):
        if self.variant != "full":
            return super().run(cell, words, states, memory, state_dropout)
        return run_full(cell, cell.project(words, memory), states, memory, state_dropout)

    def word_query(self, states):
        """Compute theta_wh h + theta_w `(n, c, e)`, which W maps to the word scores `a`."""
        query = dense(states, ops.transpose(self.word_state), self.compute_dtype)
        return query + ops.cast(self.word_bias, self._wide)

    def region_scores(self, states, memory):
        """Return the region scores `c (n, c, r)`: the terms of equation 5 that contain no word."""
        query = ops.broadcast_to(
            ops.cast(self.region_bias, self._wide),
            (*ops.shape(states)[:-1], self.region_bias.shape[0]),
        )
        if self.region_state is not None:
            query = query + dense(states, ops.transpose(self.region_state), self.compute_dtype)
        scores = batched_product(query, ops.swapaxes(memory.regions, 1, 2), self.compute_dtype)
        return mask_regions(scores, memory)

    def score(self, states, memory):
        """Return the `JointScores` of states `(n, c, u)`."""
        words = self.word_scores(states, memory.transposed_words)
        if not self.uses_regions:
            return JointScores(words, None, None)
        regions = self.region_scores(states, memory)
        marginal = region_marginal(words, regions, memory.factors, self.compute_dtype)
        return JointScores(words, regions, marginal)

    def region_probs(self, output, memory):
        if not self.uses_regions:
            return uniform_regions(output, memory)
        return self.score(output, memory).marginal.probs

    def log_probs(self, output, memory, scores=None):
        scores = scores or self.score(output, memory)
        if not self.uses_regions:
            return ops.log_softmax(scores.words, axis=-1), uniform_regions(output, memory)
        word_log_probs = word_log_marginal(
            scores.words,
            scores.regions,
            memory.factors,
            scores.marginal.log_normalizer,
            self.compute_dtype,
        )
        return word_log_probs, scores.marginal.probs

    def target_log_probs(self, output, targets, memory, log_normalizer=None, smoothing=0.0):
        if not self.uses_regions:
            return self.target_softmax(output, targets, smoothing)
        scores, words = self.target_scores(output, targets)
        region_scores = self.region_scores(output, memory)
        word_scores = None
        if log_normalizer is None or smoothing:
            word_scores = self.word_scores(output)
        if log_normalizer is None:
            log_normalizer = region_marginal(
                word_scores, region_scores, memory.factors, self.compute_dtype
            ).log_normalizer
        pair_scores = batched_product(words, ops.swapaxes(memory.keys, 1, 2), self.compute_dtype)
        log_probs = target_log_prob(scores, pair_scores, region_scores, log_normalizer)
        if not smoothing:
            return log_probs
        of_all_words = word_log_marginal(
            word_scores, region_scores, memory.factors, log_normalizer, self.compute_dtype
        )
        return (1 - smoothing) * log_probs + smoothing * self.mean_over_words(of_all_words)

    def attended(self, scores, memory):
        """Compute v = p(r | h)^T R `(n, c, f)` from `JointScores` (equation 6)."""
        return batched_product(scores.marginal.probs, memory.regions, self.compute_dtype)

    def attended_given_word(self, states, words, memory):
        """Compute the region vectors v = p(r | w, h)^T R for the input words w.

        The embedded input words are `words (n, c, e)`. The result has shape `(n, c, f)`.

        Source: section 3.2, "conditional feedback".
        """
        query = dense(words, ops.convert_to_tensor(self.word_region), self.compute_dtype)
        scores = batched_product(query, ops.swapaxes(memory.regions, 1, 2), self.compute_dtype)
        scores = mask_regions(scores, memory) + self.region_scores(states, memory)
        probs, _ = normalize(scores)
        return batched_product(probs, memory.regions, self.compute_dtype)

    def call(self, states, regions, region_mask=None):
        memory = self.precompute(regions, region_mask)
        flat = ops.cast(merge_captions(states), self._wide)
        word_log_probs, region_probs = self.log_probs(flat, memory)
        return split_captions(word_log_probs, states), split_captions(region_probs, states)

    def compute_output_spec(self, states, regions, region_mask=None):
        leading = tuple(states.shape[:-1])
        return (
            keras.KerasTensor((*leading, self.vocabulary_size), dtype=self._wide),
            keras.KerasTensor((*leading, regions.shape[1]), dtype=self._wide),
        )

    def get_config(self):
        return {**super().get_config(), "variant": self.variant}


def uniform_regions(states, memory):
    """Return p(r) `(n, c, r)` of the variant `baseline`: uniform over the unmasked regions."""
    regions = ops.shape(memory.regions)[1]
    scores = ops.zeros((*ops.shape(states)[:-1], regions), dtype=states.dtype)
    return normalize(mask_regions(scores, memory))[0]
