"""Soft attention of "Show, Attend and Tell", to compare the areas of attention with.

Source: Xu et al., ICML 2015, arXiv:1502.03044, sections 3.1.2 and 4.2. Axis letters: see
`joint.py`; a is the width of the attention's hidden layer, here that of the embeddings.
"""

import keras
from keras import ops

from keras_aoa.layers.joint import normalize
from keras_aoa.layers.memory import ImageMemory, JointScores, mask_regions
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.words import WordLayer


@keras.saving.register_keras_serializable(package="keras_aoa")
class SoftAttention(WordLayer):
    """A state's weights over regions, and the next word from state and attended region together.

    `e_r = theta_a tanh(theta_ar R_r + theta_ah h + b)` of the state before the word,
    `v = softmax(e)^T R`, which is fed with the word; then `p(w)` is the softmax of
    `W (theta_wh h' + theta_wr v + theta_w)`. In an `AttentionGRUCell` in place of
    `AreaAttention`, with which it shares all that both have: unlike Xu et al. the recurrence is
    the GRU, the word that is fed does not enter the output a second time, and nothing gates or
    regularizes the weights.

    Args:
        As of `AreaAttention`, without `variant`.

    Call arguments:
        states: After the word, `(n, u)`, or with any axes between such as captions and time.
        previous_states: Before it, of the same shape.
        regions: `(n, r, f)`.
        region_mask: Booleans, `(n, r)`; false marks padding. Each image keeps one at least.

    Returns:
        `word_log_probs (n, …, w)`, natural logarithms, and `region_probs (n, …, r)`; float32
        even in mixed precision.

    Source: Xu et al., equations 4, 5, 7 and 13.
    """

    variant = "soft"
    has_feedback = True

    def build(self, states_shape, previous_states_shape=None, regions_shape=None):
        # The cell, whose one state is enough, gives two shapes by their order.
        regions_shape = regions_shape or previous_states_shape
        units, features, hidden = states_shape[-1], regions_shape[-1], self.embedding_dim
        self.build_words()
        self.word_state = self.add_weight(name="word_state", shape=(hidden, units))
        self.word_region = self.add_weight(name="word_region", shape=(hidden, features))
        self.word_bias = self.add_weight(name="word_bias", shape=(hidden,), initializer="zeros")
        self.hidden_region = self.add_weight(name="hidden_region", shape=(features, hidden))
        self.hidden_state = self.add_weight(name="hidden_state", shape=(units, hidden))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(hidden,), initializer="zeros")
        self.score_hidden = self.add_weight(name="score_hidden", shape=(hidden, 1))
        self.built = True

    def precompute(self, regions, region_mask=None):
        """Compute once what all captions and steps need of an image: `ImageMemory`."""
        regions = ops.cast(regions, self._wide)
        keys = dense(regions, self.hidden_region, self.compute_dtype)
        return ImageMemory(regions, region_mask, keys, None)

    def glimpse(self, states, memory):
        """Scores of regions `(n, c, r)` for states `(n, c, u)`, and what they see, `(n, c, f)`."""
        query = dense(states, self.hidden_state, self.compute_dtype) + ops.cast(
            self.hidden_bias, self._wide
        )
        hidden = ops.tanh(memory.keys[:, None] + query[:, :, None])
        scores = dense(hidden, self.score_hidden, self.compute_dtype)[..., 0]
        scores = mask_regions(scores, memory)
        probs, _ = normalize(scores)
        return scores, batched_product(probs, memory.regions, self.compute_dtype)

    def score(self, seen, region_scores):
        """`JointScores` of what is seen, states and attended regions `(n, c, u + f)`."""
        return JointScores(self.word_scores(seen), region_scores, None)

    def word_query(self, seen):
        """theta_wh h + theta_wr v + theta_w, `(n, c, u + f)` to `(n, c, e)`."""
        kernel = ops.concatenate([self.word_state, self.word_region], axis=1)
        query = dense(seen, ops.transpose(kernel), self.compute_dtype)
        return query + ops.cast(self.word_bias, self._wide)

    def log_probs(self, scores, memory):
        """log p(w) `(n, c, w)` and p(r) `(n, c, r)` of `JointScores`."""
        return ops.log_softmax(scores.words, axis=-1), normalize(scores.regions)[0]

    def target_log_probs(self, seen, targets, memory, log_normalizer=None):
        """log p(w*) of known next words `(n, c)` for what is seen, `(n, c, u + f)`: `(n, c)`."""
        return self.target_softmax(seen, targets)

    def call(self, states, previous_states, regions, region_mask=None):
        leading = ops.shape(states)[:-1]
        flat = [
            ops.cast(ops.reshape(part, (leading[0], -1, part.shape[-1])), self._wide)
            for part in (states, previous_states)
        ]
        memory = self.precompute(regions, region_mask)
        region_scores, attended = self.glimpse(flat[1], memory)
        scores = self.score(ops.concatenate([flat[0], attended], axis=-1), region_scores)
        outputs = self.log_probs(scores, memory)
        return tuple(ops.reshape(output, (*leading, ops.shape(output)[-1])) for output in outputs)

    def compute_output_spec(self, states, previous_states, regions, region_mask=None):
        leading = tuple(states.shape[:-1])
        return (
            keras.KerasTensor((*leading, self.vocabulary_size), dtype=self._wide),
            keras.KerasTensor((*leading, regions.shape[1]), dtype=self._wide),
        )
