"""The attention of Areas of Attention: words and regions chosen together from the state.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.2, equations 4 to 6. Axis letters: see `joint.py`.
"""

import keras
from keras import ops

from keras_aoa.layers.joint import (
    factorize,
    normalize,
    region_marginal,
    target_log_prob,
    word_log_marginal,
)
from keras_aoa.layers.memory import (
    ImageMemory,
    JointScores,
    mask_regions,
    uniform_regions,
)
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.words import WordLayer

VARIANTS = ("baseline", "word_region", "word_region_state", "conditional", "full")
FEEDBACK_VARIANTS = ("conditional", "full")


@keras.saving.register_keras_serializable(package="keras_aoa")
class AreaAttention(WordLayer):
    """Joint distribution of the next word and the region it describes, given the state.

    `s(w, r, h) = W_w theta_wh h + W_w theta_wr R_r + R_r theta_rh h + W_w theta_w + R_r theta_r`
    (equation 5); its softmax over words and regions together has the marginals p(w) and p(r).
    The tensor of all pairs is never made for a state (see `joint.py`).

    Args:
        vocabulary_size: Number of words, n_w.
        embedding_dim: Width of word embeddings, d_w.
        variant: Row of the paper's Table 1: `baseline` (no regions), `word_region`,
            `word_region_state`, `conditional` or `full`. The last two have the same scores and
            differ in the feedback to the recurrent cell.
        never_predicted: Ids that get probability 0, such as padding and START.
        tied: Whether `W` also embeds the input word (the paper), or a second matrix does.

    Call arguments:
        states: `(n, u)`, or with any axes between such as captions and time.
        regions: `(n, r, f)`.
        region_mask: Booleans, `(n, r)`; false marks padding. Each image keeps one at least.

    Returns:
        `word_log_probs (n, …, w)`, natural logarithms, and `region_probs (n, …, r)`; float32
        even in mixed precision.

    Raises:
        ValueError: an unknown variant, or inputs of another rank.

    Source: equations 4 and 5, Table 1.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        variant="full",
        never_predicted=(),
        tied=True,
        **kwargs,
    ):
        super().__init__(vocabulary_size, embedding_dim, never_predicted, tied, **kwargs)
        if variant not in VARIANTS:
            raise ValueError(
                f"AreaAttention: `variant` must be one of {', '.join(VARIANTS)}; "
                f"received {variant!r}."
            )
        if variant == "conditional" and not tied:
            raise ValueError(
                "AreaAttention: variant='conditional' needs tied=True, since the feedback scores "
                "the word that is fed; received tied=False."
            )
        self.variant = variant

    def build(self, states_shape, regions_shape):
        if len(regions_shape) != 3:
            raise ValueError(
                "AreaAttention: `regions` must be (batch, regions, features); received shape "
                f"{tuple(regions_shape)}. Flatten a grid first: "
                "`ops.reshape(grid, (batch, -1, features))`."
            )
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
        """Whether the scores depend on regions at all."""
        return self.variant != "baseline"

    @property
    def has_feedback(self):
        """Whether attended regions are fed back to the recurrent cell."""
        return self.variant in FEEDBACK_VARIANTS

    def precompute(self, regions, region_mask=None):
        """Compute once what all captions and steps need of an image: `ImageMemory`."""
        regions = ops.cast(regions, self._wide)
        if not self.uses_regions:
            return ImageMemory(regions, region_mask, None, None)
        keys = dense(regions, ops.transpose(self.word_region), self.compute_dtype)
        # One product for all images: a batched one would take the words once an image.
        scores = dense(keys, ops.transpose(self.words), self.compute_dtype)
        factors = factorize(scores, self._word_mask(), region_mask, self.compute_dtype)
        return ImageMemory(regions, region_mask, keys, factors)

    def word_query(self, states):
        """theta_wh h + theta_w, `(n, c, u)` to `(n, c, e)`: its product with W is `a`."""
        query = dense(states, ops.transpose(self.word_state), self.compute_dtype)
        return query + ops.cast(self.word_bias, self._wide)

    def region_scores(self, states, memory):
        """Scores `c` of regions, `(n, c, u)` to `(n, c, r)`: equation 5's terms without words."""
        query = ops.broadcast_to(
            ops.cast(self.region_bias, self._wide),
            (*ops.shape(states)[:-1], self.region_bias.shape[0]),
        )
        if self.region_state is not None:
            query = query + dense(states, ops.transpose(self.region_state), self.compute_dtype)
        scores = batched_product(query, ops.swapaxes(memory.regions, 1, 2), self.compute_dtype)
        return mask_regions(scores, memory)

    def score(self, states, memory):
        """Scores of words and regions for states `(n, c, u)`, and p(r): `JointScores`."""
        words = self.word_scores(states)
        if not self.uses_regions:
            return JointScores(words, None, None)
        regions = self.region_scores(states, memory)
        marginal = region_marginal(words, regions, memory.factors, self.compute_dtype)
        return JointScores(words, regions, marginal)

    def log_probs(self, scores, memory):
        """log p(w) `(n, c, w)` and p(r) `(n, c, r)` of `JointScores`."""
        if not self.uses_regions:
            return ops.log_softmax(scores.words, axis=-1), uniform_regions(scores.words, memory)
        word_log_probs = word_log_marginal(
            scores.words,
            scores.regions,
            memory.factors,
            scores.marginal.log_normalizer,
            self.compute_dtype,
        )
        return word_log_probs, scores.marginal.probs

    def target_log_probs(self, states, targets, memory, log_normalizer=None):
        """log p(w*) of known next words, without the distribution over the others.

        Args:
            states: `(n, c, u)`.
            targets: Ids, `(n, c)`.
            memory: `ImageMemory`.
            log_normalizer: `(n, c)`, where the recurrence has computed it already.

        Returns:
            `(n, c)`.
        """
        if not self.uses_regions:
            return self.target_softmax(states, targets)
        scores, words = self.target_scores(states, targets)
        region_scores = self.region_scores(states, memory)
        if log_normalizer is None:
            log_normalizer = region_marginal(
                self.word_scores(states), region_scores, memory.factors, self.compute_dtype
            ).log_normalizer
        pair_scores = batched_product(words, ops.swapaxes(memory.keys, 1, 2), self.compute_dtype)
        return target_log_prob(scores, pair_scores, region_scores, log_normalizer)

    def attended(self, scores, memory):
        """v = p(r | h)^T R (equation 6) of `JointScores`: `(n, c, f)`."""
        return batched_product(scores.marginal.probs, memory.regions, self.compute_dtype)

    def attended_given_word(self, states, words, memory):
        """v = p(r | w, h)^T R, with the embedding `words (n, c, e)` of the word that is fed.

        Source: section 3.2, "conditional feedback".
        """
        query = dense(words, ops.convert_to_tensor(self.word_region), self.compute_dtype)
        scores = batched_product(query, ops.swapaxes(memory.regions, 1, 2), self.compute_dtype)
        scores = mask_regions(scores, memory) + self.region_scores(states, memory)
        probs, _ = normalize(scores)
        return batched_product(probs, memory.regions, self.compute_dtype)

    def call(self, states, regions, region_mask=None):
        leading = ops.shape(states)[:-1]
        states = ops.reshape(states, (leading[0], -1, states.shape[-1]))
        memory = self.precompute(regions, region_mask)
        scores = self.score(ops.cast(states, self._wide), memory)
        outputs = self.log_probs(scores, memory)
        return tuple(ops.reshape(output, (*leading, ops.shape(output)[-1])) for output in outputs)

    def compute_output_spec(self, states, regions, region_mask=None):
        leading = tuple(states.shape[:-1])
        return (
            keras.KerasTensor((*leading, self.vocabulary_size), dtype=self._wide),
            keras.KerasTensor((*leading, regions.shape[1]), dtype=self._wide),
        )

    def get_config(self):
        return {**super().get_config(), "variant": self.variant}
