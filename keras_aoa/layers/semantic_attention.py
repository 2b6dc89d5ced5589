"""Semantic attention: attention over words that were predicted from the image.

Source: You et al., "Image Captioning with Semantic Attention", CVPR 2016, arXiv:1603.03925.
For the letters in shapes, see `joint.py`. Two more letters are k for an attended concept and a for
any concept.
"""

import keras
from keras import ops

from keras_aoa.layers.attention import uniform_regions
from keras_aoa.layers.base import (
    Attended,
    AttentionLayer,
    ImageMemory,
    merge_captions,
    split_captions,
)
from keras_aoa.layers.joint import normalize
from keras_aoa.layers.products import batched_product, dense
from keras_aoa.layers.regions import require_regions


@keras.saving.register_keras_serializable(package="keras_aoa")
class SemanticAttention(AttentionLayer):
    """Attention to the most probable concepts of an image, which are words, instead of its regions.

    `E_k` are the embeddings of the concepts. At the input, the word `x` weights the concepts by
    `alpha = softmax(x^T U E_k)`. The GRU receives `x + diag(w_x) sum_k alpha_k E_k`. At the output,
    the state `h` weights the concepts by `beta = softmax(h^T V tanh(E_k))`. Then `p(w)` is the
    softmax of `W (theta_wh (h + diag(w_h) sum_k beta_k V tanh(E_k)) + theta_w)`. The region
    probabilities are uniform.

    As in the paper, the layer attends only to the `attended` most probable concepts. The layer
    differs from You et al. in three points. The recurrence is a GRU, the prediction has a bias, and
    the attention weights are not regularized.

    Args:
        vocabulary_size, embedding_dim, never_predicted, tied, feature_length: As in
            `AreaAttention`. With `tied=False`, `E_k` are embeddings of input words.
        concept_ids: Ids of the words that are concepts, in the order of their probabilities.
        attended: Number of concepts per image that the layer attends to.

    Call arguments:
        states: `(n, u)`, or `(n, …, u)` with axes for captions and time.
        regions: Region features `(n, r, f)`, or the `Regions` that a region layer returns. The
            layer uses only the number of regions and the mask.
        region_mask: Booleans `(n, r)`, false for padding.
        concepts: Probabilities of the concepts, `(n, a)`.

    Returns:
        `word_log_probs (n, …, w)`, which are natural logarithms, and `region_probs (n, …, r)`. Both
        outputs are float32, even in mixed precision. A direct call computes only the attention at
        the output, because the attention at the input needs a cell.

    Raises:
        ValueError: an argument or a shape is wrong, as in `AreaAttention`. `concept_ids` is empty
            or contains an id outside the vocabulary. A call has no `concepts`, or not as many as
            `concept_ids`.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import AttentionGRUCell, SemanticAttention

    attention = SemanticAttention(20, 16, concept_ids=(4, 7, 9, 11), attended=2)
    cell = AttentionGRUCell(units=32, region_dim=64, attention=attention)
    cell.build((None, 16))
    regions = np.random.normal(size=(2, 49, 64))  # of any region layer
    concepts = np.random.uniform(size=(2, 4))  # of any predictor
    memory = attention.precompute(regions, concepts=concepts)
    words = np.random.normal(size=(2, 16))
    with cell.setting(memory):
        state, _ = cell(words, cell.get_initial_state(2))
    word_log_probs, _ = attention(state, regions, concepts=concepts)
    print(word_log_probs.shape)  # (2, 20)
    ```

    Source: You et al.
    """

    attends_words = True
    needs_concepts = True

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        never_predicted=(),
        tied=True,
        feature_length=4.0,
        concept_ids=(),
        attended=10,
        **kwargs,
    ):
        super().__init__(
            vocabulary_size, embedding_dim, never_predicted, tied, feature_length, **kwargs
        )
        if not concept_ids or not all(0 <= word < vocabulary_size for word in concept_ids):
            raise ValueError(
                "SemanticAttention: `concept_ids` must contain at least one id, from 0 to "
                f"{vocabulary_size - 1}; received {tuple(concept_ids)}."
            )
        if attended < 1:
            raise ValueError(
                f"SemanticAttention: `attended` must be at least 1; received {attended}."
            )
        self.concept_ids = tuple(map(int, concept_ids))
        self.attended = attended

    def build(self, states_shape, regions_shape=None, concepts_shape=None):
        require_regions("SemanticAttention", regions_shape)
        units, width = states_shape[-1], self.embedding_dim
        self.build_words()
        self.word_state = self.add_weight(name="word_state", shape=(width, units))
        self.word_bias = self.add_weight(name="word_bias", shape=(width,), initializer="zeros")
        self.word_concept = self.add_weight(name="word_concept", shape=(width, width))
        self.state_concept = self.add_weight(name="state_concept", shape=(units, width))
        self.input_scale = self.add_weight(name="input_scale", shape=(width,), initializer="ones")
        self.output_scale = self.add_weight(name="output_scale", shape=(units,), initializer="ones")
        self.built = True

    def precompute(self, regions, region_mask=None, concepts=None):
        """Return the `ImageMemory`; its `concepts` embed the most probable concepts.

        Args:
            regions: Region features, `(n, r, f)`.
            region_mask: Booleans `(n, r)`, false for padding, or None.
            concepts: Probabilities of the concepts, `(n, a)`.

        Raises:
            ValueError: `concepts` is missing, or does not have one probability for each of
                `concept_ids`.
        """
        count = len(self.concept_ids)
        if concepts is None or concepts.shape[-1] != count:
            received = "none" if concepts is None else f"shape {tuple(concepts.shape)}"
            raise ValueError(
                f"SemanticAttention: `concepts` must be (batch, {count}), one probability for each "
                f"of `concept_ids`; received {received}."
            )
        regions = self.scale_regions(regions)
        _, best = ops.top_k(ops.convert_to_tensor(concepts), min(self.attended, count))
        ids = ops.take(ops.convert_to_tensor(self.concept_ids, dtype="int32"), best, axis=0)
        return ImageMemory(
            regions,
            region_mask,
            concepts=self.embed(ids),
            transposed_words=self.transpose_words(),
        )

    def attend_before(self, state, word, attended, memory):
        query = dense(word, self.word_concept, self.compute_dtype)
        probs = self._weights(query, memory.concepts)
        vector = batched_product(probs, memory.concepts, self.compute_dtype)
        return vector * ops.cast(self.input_scale, self._wide), None

    def attend_after(self, state, attended, context, memory):
        hidden = ops.tanh(memory.concepts)
        query = dense(state, self.state_concept, self.compute_dtype)
        mean = batched_product(self._weights(query, hidden), hidden, self.compute_dtype)
        vector = dense(mean, ops.transpose(self.state_concept), self.compute_dtype)
        output = state + vector * ops.cast(self.output_scale, self._wide)
        return Attended(output, attended, None)

    def _weights(self, query, concepts):
        """Return the attention weights `(n, c, k)` of concepts `(n, k, e)`."""
        scores = batched_product(query, ops.swapaxes(concepts, 1, 2), self.compute_dtype)
        return normalize(scores)[0]

    def word_query(self, output):
        """Compute theta_wh times the output, plus theta_w, `(n, c, e)`."""
        query = dense(output, ops.transpose(self.word_state), self.compute_dtype)
        return query + ops.cast(self.word_bias, self._wide)

    def region_probs(self, output, memory):
        return uniform_regions(output, memory)

    def log_probs(self, output, memory, scores=None):
        word_scores = self.word_scores(output, memory.transposed_words)
        word_log_probs = ops.log_softmax(word_scores, axis=-1)
        return word_log_probs, self.region_probs(output, memory)

    def target_log_probs(self, output, targets, memory, log_normalizer=None, smoothing=0.0):
        return self.target_softmax(output, targets, smoothing)

    def call(self, states, regions, region_mask=None, concepts=None):
        memory = self.precompute(regions, region_mask, concepts)
        flat = ops.cast(merge_captions(states), self._wide)
        output = self.attend_after(flat, None, None, memory).output
        word_log_probs, region_probs = self.log_probs(output, memory)
        return split_captions(word_log_probs, states), split_captions(region_probs, states)

    def compute_output_spec(self, states, regions, region_mask=None, concepts=None):
        leading = tuple(states.shape[:-1])
        return (
            keras.KerasTensor((*leading, self.vocabulary_size), dtype=self._wide),
            keras.KerasTensor((*leading, regions.shape[1]), dtype=self._wide),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "concept_ids": self.concept_ids,
            "attended": self.attended,
        }
