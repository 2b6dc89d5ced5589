"""Soft attention of "Show, Attend and Tell", for comparison with `AreaAttention`.

Source: Xu et al., ICML 2015, arXiv:1502.03044, sections 3.1.2 and 4.2. For the letters in shapes,
see `joint.py`. The hidden layer of the attention has as many units as a word embedding, e.
"""

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
from keras_aoa.layers.joint import normalize
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.regions import require_regions


@keras.saving.register_keras_serializable(package="keras_aoa")
class SoftAttention(AttentionLayer):
    """Soft attention: the state weights the regions, and their weighted sum helps predict the word.

    From the state `h` before the word, the layer computes the region scores
    `e_r = theta_a tanh(theta_ar R_r + theta_ah h + b)` and the region vector `v = softmax(e)^T R`.
    The GRU receives `v` together with the word and returns the new state `h'`. Then `p(w)` is the
    softmax of `W (theta_wh h' + theta_wr v + theta_w)`. An `AttentionGRUCell` accepts this layer
    instead of `AreaAttention`. With a gate, `v` is multiplied by the scalar
    `beta = sigmoid(theta_b h + b)` before the GRU and the prediction use it. The layer differs from
    Xu et al. in two points. The recurrence is a GRU, and the prediction does not use the input word
    directly.

    Args:
        vocabulary_size, embedding_dim, never_predicted, tied, feature_length: As in
            `AreaAttention`.
        gate: Whether a gate scales the region vector.

    Call arguments:
        states: States after the word, `(n, u)`, or `(n, …, u)` with axes for captions and time.
        previous_states: States before the word, of the same shape as `states`.
        regions: Region features `(n, r, f)`, or the `Regions` that a region layer returns.
        region_mask: Booleans `(n, r)`, false for padding. `region_mask` replaces the mask of a
            `Regions`. Each image needs at least one unmasked region.

    Returns:
        `word_log_probs (n, …, w)`, which are natural logarithms, and `region_probs (n, …, r)`. Both
        outputs are float32, even in mixed precision.

    Raises:
        ValueError: an argument or a shape is wrong, as in `AreaAttention`.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import GridRegions, SoftAttention

    regions = GridRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    states = np.random.normal(size=(2, 6, 32))  # of any recurrent network: initial state, 5 steps
    attention = SoftAttention(vocabulary_size=20, embedding_dim=16)
    word_log_probs, region_probs = attention(states[:, 1:], states[:, :-1], regions)
    print(word_log_probs.shape, region_probs.shape)  # (2, 5, 20) (2, 5, 49)
    ```

    Source: Xu et al., equations 4, 5, 7 and 13; section 4.2.1 for the gate.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        never_predicted=(),
        tied=True,
        feature_length=4.0,
        gate=False,
        **kwargs,
    ):
        super().__init__(
            vocabulary_size, embedding_dim, never_predicted, tied, feature_length, **kwargs
        )
        self.gate = gate

    def build(self, states_shape, previous_states_shape=None, regions_shape=None):
        require_regions(type(self).__name__, regions_shape)
        units, features, hidden = states_shape[-1], regions_shape[-1], self.embedding_dim
        self.region_dim = features
        self.build_words()
        self.word_state = self.add_weight(name="word_state", shape=(hidden, units))
        self.word_region = self.add_weight(name="word_region", shape=(hidden, features))
        self.word_bias = self.add_weight(name="word_bias", shape=(hidden,), initializer="zeros")
        self.hidden_region = self.add_weight(name="hidden_region", shape=(features, hidden))
        self.hidden_state = self.add_weight(name="hidden_state", shape=(units, hidden))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(hidden,), initializer="zeros")
        self.score_hidden = self.add_weight(name="score_hidden", shape=(hidden, 1))
        if self.gate:
            self.gate_state = self.add_weight(name="gate_state", shape=(units, 1))
            self.gate_bias = self.add_weight(name="gate_bias", shape=(1,), initializer="zeros")
        self.built = True

    def precompute(self, regions, region_mask=None):
        regions = self.scale_regions(regions)
        keys = dense(regions, self.hidden_region, self.compute_dtype)
        words = self.transpose_words()
        return ImageMemory(regions, region_mask, keys, transposed_words=words)

    def region_scores(self, state, memory):
        """Return the scores e `(n, c, r)` for states `(n, c, u)`, very low for padding."""
        query = dense(state, self.hidden_state, self.compute_dtype) + ops.cast(
            self.hidden_bias, self._wide
        )
        hidden = ops.tanh(memory.keys[:, None] + query[:, :, None])
        scores = dense(hidden, self.score_hidden, self.compute_dtype)[..., 0]
        return mask_regions(scores, memory)

    def gated(self, attended, state):
        """Multiply region vectors `(n, c, f)` by the gate of the states `(n, c, u)`, if used."""
        if not self.gate:
            return attended
        gate = dense(state, self.gate_state, self.compute_dtype)
        return attended * ops.sigmoid(gate + ops.cast(self.gate_bias, self._wide))

    def attend_before(self, state, word, attended, memory):
        region_probs, _ = normalize(self.region_scores(state, memory))
        attended = batched_product(region_probs, memory.regions, self.compute_dtype)
        return self.gated(attended, state), region_probs

    def attend_after(self, state, attended, context, memory):
        region_probs = ops.zeros_like(attended[..., :1]) if context is None else context
        return Attended(ops.concatenate([state, attended, region_probs], axis=-1), attended, None)

    def word_query(self, output):
        """Compute theta_wh h + theta_wr v + theta_w `(n, c, e)` from the output [h ; v ; p(r)]."""
        kernel = ops.concatenate([self.word_state, self.word_region], axis=1)
        output = output[..., : kernel.shape[1]]
        query = dense(output, ops.transpose(kernel), self.compute_dtype)
        return query + ops.cast(self.word_bias, self._wide)

    def region_probs(self, output, memory):
        return output[..., self.word_state.shape[1] + self.word_region.shape[1] :]

    def log_probs(self, output, memory, scores=None):
        word_scores = self.word_scores(output, memory.transposed_words)
        word_log_probs = ops.log_softmax(word_scores, axis=-1)
        return word_log_probs, self.region_probs(output, memory)

    def target_log_probs(self, output, targets, memory, log_normalizer=None, smoothing=0.0):
        return self.target_softmax(output, targets, smoothing)

    def call(self, states, previous_states, regions, region_mask=None):
        memory = self.precompute(regions, region_mask)
        before = ops.cast(merge_captions(previous_states), self._wide)
        after = ops.cast(merge_captions(states), self._wide)
        attended, context = self.attend_before(before, None, None, memory)
        output = self.attend_after(after, attended, context, memory).output
        word_log_probs, region_probs = self.log_probs(output, memory)
        return split_captions(word_log_probs, states), split_captions(region_probs, states)

    def compute_output_spec(self, states, previous_states, regions, region_mask=None):
        leading = tuple(states.shape[:-1])
        return (
            keras.KerasTensor((*leading, self.vocabulary_size), dtype=self._wide),
            keras.KerasTensor((*leading, regions.shape[1]), dtype=self._wide),
        )

    def get_config(self):
        return {**super().get_config(), "gate": self.gate}
