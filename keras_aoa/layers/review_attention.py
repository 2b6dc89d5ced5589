"""Attention of review networks: the decoder attends to thoughts about the regions.

Source: Yang et al., "Review Networks for Caption Generation", NIPS 2016, arXiv:1605.07912. For
the letters in shapes, see `joint.py`; i is a review step.
"""

import keras
from keras import ops

from keras_aoa.layers.base import mask_regions
from keras_aoa.layers.gru import gru
from keras_aoa.layers.joint import normalize
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.soft_attention import SoftAttention


@keras.saving.register_keras_serializable(package="keras_aoa")
class ReviewAttention(SoftAttention):
    """Review attention: a GRU reviews the regions in steps, and the decoder attends to these steps.

    Step i of the review attends to the regions with the additive attention
    `a_i = softmax_r(theta_c tanh(theta_cr R_r + theta_cf f_(i-1) + b_c))`, and returns the thought
    vector `f_i = GRU(f_(i-1), a_i^T R)`, where `f_0 = 0`. The decoder attends to the projected
    thoughts `theta_f f_i` as `SoftAttention` attends to regions, with probabilities `alpha`. The
    region probabilities p(r) combine both attentions: `sum_i alpha_i a_i(r)`. The layer differs
    from Yang et al. in four points. The recurrences are GRUs, all review steps share their weights,
    the review starts from a zero state, and the cell receives the thoughts projected to the width
    of regions.

    Args:
        vocabulary_size, embedding_dim, never_predicted, tied, feature_length: As in
            `AreaAttention`. The thought vectors have the width `embedding_dim`.
        steps: Number of review steps.

    Call arguments:
        states, previous_states, regions, region_mask: As in `SoftAttention`.

    Returns:
        `word_log_probs (n, …, w)`, which are natural logarithms, and `region_probs (n, …, r)`. Both
        outputs are float32, even in mixed precision.

    Raises:
        ValueError: `steps` is below 1. An argument or a shape is wrong, as in `AreaAttention`.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import GridRegions, ReviewAttention

    regions = GridRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    states = np.random.normal(size=(2, 6, 32))  # of any recurrent network: initial state, 5 steps
    attention = ReviewAttention(vocabulary_size=20, embedding_dim=16, steps=4)
    word_log_probs, region_probs = attention(states[:, 1:], states[:, :-1], regions)
    print(word_log_probs.shape, region_probs.shape)  # (2, 5, 20) (2, 5, 49)
    ```

    Source: Yang et al.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        never_predicted=(),
        tied=True,
        feature_length=4.0,
        steps=8,
        **kwargs,
    ):
        super().__init__(
            vocabulary_size, embedding_dim, never_predicted, tied, feature_length, **kwargs
        )
        if not steps >= 1:
            raise ValueError(f"ReviewAttention: `steps` must be at least 1; received {steps!r}.")
        self.steps = steps

    def build(self, states_shape, previous_states_shape=None, regions_shape=None):
        super().build(states_shape, previous_states_shape, regions_shape)
        features, width = regions_shape[-1], self.embedding_dim
        self.review_region = self.add_weight(name="review_region", shape=(features, width))
        self.review_state = self.add_weight(name="review_state", shape=(width, width))
        self.review_bias = self.add_weight(name="review_bias", shape=(width,), initializer="zeros")
        self.review_score = self.add_weight(name="review_score", shape=(width, 1))
        self.thought_kernel = self.add_weight(name="thought_kernel", shape=(features, 3 * width))
        self.thought_recurrent_kernel = self.add_weight(
            name="thought_recurrent_kernel", shape=(width, 3 * width), initializer="orthogonal"
        )
        self.thought_bias = self.add_weight(
            name="thought_bias", shape=(2, 3 * width), initializer="zeros"
        )
        self.thought_region = self.add_weight(name="thought_region", shape=(width, features))

    def precompute(self, regions, region_mask=None):
        memory = super().precompute(regions, region_mask)
        thoughts, review_probs = self.review(memory)
        projected = dense(thoughts, self.thought_region, self.compute_dtype)
        return memory._replace(
            regions=projected,
            region_mask=None,
            keys=dense(projected, self.hidden_region, self.compute_dtype),
            thoughts=thoughts,
            review_probs=review_probs,
        )

    def review(self, memory):
        """Return the thoughts `(n, i, e)` and the attention `(n, i, r)` of all review steps.

        Args:
            memory: `ImageMemory` of the regions.
        """
        compute_dtype = self.compute_dtype
        keys = dense(memory.regions, self.review_region, compute_dtype)
        bias = ops.cast(self.review_bias, self._wide)
        input_bias = ops.cast(self.thought_bias[0], self._wide)
        thought = ops.zeros_like(keys[:, :1])
        thoughts, review_probs = [], []
        for _ in range(self.steps):
            query = dense(thought, self.review_state, compute_dtype) + bias
            scores = dense(ops.tanh(keys + query), self.review_score, compute_dtype)[..., 0]
            probs, _ = normalize(mask_regions(scores[:, None], memory))
            attended = batched_product(probs, memory.regions, compute_dtype)
            gates = dense(attended, self.thought_kernel, compute_dtype) + input_bias
            thought, _ = gru(
                thought,
                gates,
                self.thought_recurrent_kernel,
                self.thought_bias[1],
                compute_dtype,
            )
            thoughts.append(thought)
            review_probs.append(probs)
        return ops.concatenate(thoughts, axis=1), ops.concatenate(review_probs, axis=1)

    def region_probs(self, output, memory):
        return ops.matmul(super().region_probs(output, memory), memory.review_probs)

    def thought_scores(self, memory):
        """Return the score `(n, w)` of each word: the maximum of its scores in all thoughts.

        The score of a word in a thought is the product of the thought and the word's embedding.

        Source: Yang et al.
        """
        scores = dense(memory.thoughts, ops.transpose(self.words), self.compute_dtype)
        return ops.max(scores, axis=1)

    def get_config(self):
        config = {**super().get_config(), "steps": self.steps}
        del config["gate"]
        return config
