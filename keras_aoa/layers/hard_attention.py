"""Hard attention of "Show, Attend and Tell": one region at each step.

Source: Xu et al., ICML 2015, arXiv:1502.03044, section 4.1. For the letters in shapes, see
`joint.py`.
"""

import keras
from keras import ops

from keras_aoa.layers.joint import normalize
from keras_aoa.layers.products import batched_product
from keras_aoa.layers.soft_attention import SoftAttention

SMALLEST_PROB = 1e-30  # keeps logarithms and their gradients finite in float32


@keras.saving.register_keras_serializable(package="keras_aoa")
class HardAttention(SoftAttention):
    """Hard attention: the GRU and the prediction receive one region instead of a weighted sum.

    The layer computes p(r) as `SoftAttention` does. The region vector is the feature vector of the
    most probable region. If the `ImageMemory` contains `noise`, the region is sampled from p(r)
    instead. The choice of a region has no gradient. Training therefore uses REINFORCE: the gradient
    of `choice_log_probs`, weighted by the reward of the choices. With probability 0.5, Xu et al.
    replace the sampled region by the weighted sum of all regions; this layer never does.

    Args:
        vocabulary_size, embedding_dim, never_predicted, tied, feature_length, gate: As in
            `SoftAttention`.

    Call arguments:
        states, previous_states, regions, region_mask: As in `SoftAttention`.

    Returns:
        `word_log_probs (n, …, w)`, natural logarithms given the most probable region, and
        `region_probs (n, …, r)`. Both outputs are float32, even in mixed precision.

    Raises:
        ValueError: an argument or a shape is wrong, as in `AreaAttention`.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import GridRegions, HardAttention

    regions = GridRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    states = np.random.normal(size=(2, 6, 32))  # of any recurrent network: initial state, 5 steps
    attention = HardAttention(vocabulary_size=20, embedding_dim=16)
    word_log_probs, region_probs = attention(states[:, 1:], states[:, :-1], regions)
    print(word_log_probs.shape, region_probs.shape)  # (2, 5, 20) (2, 5, 49)
    ```

    Source: Xu et al., equations 8 and 9.
    """

    samples_regions = True

    def attend_before(self, state, word, attended, memory):
        region_probs, _ = normalize(self.region_scores(state, memory))
        noisy = region_probs
        if memory.noise is not None:
            noisy = log_of(region_probs) + ops.cast(memory.noise, self._wide)
        chosen = ops.cast(ops.argmax(noisy, axis=-1), "int32")[..., None]
        # Unlike `ops.one_hot`, this works if the number of regions is unknown in the graph.
        is_chosen = ops.arange(ops.shape(region_probs)[-1], dtype="int32") == chosen
        one_hot = ops.cast(is_chosen, self._wide)
        attended = batched_product(one_hot, memory.regions, self.compute_dtype)
        # `attend_after` appends the context to the output.
        context = ops.concatenate([region_probs, ops.cast(chosen, self._wide)], axis=-1)
        return self.gated(attended, state), context

    def run(self, cell, words, states, memory, state_dropout=None):
        if memory.noise is None:
            return super().run(cell, words, states, memory, state_dropout)
        gates, outputs = cell.project(words, memory), []
        for t in range(words.shape[2]):
            dropout = None if state_dropout is None else state_dropout[:, :, t : t + 1]
            (step,) = cell.unrolled(
                words[:, :, t : t + 1],
                gates[:, :, t : t + 1],
                states,
                memory._replace(noise=memory.noise[:, :, t]),
                dropout,
            )
            states = step.state, step.attended
            outputs.append(step.output)
        return ops.stack(outputs, axis=2), None

    def region_probs(self, output, memory):
        return super().region_probs(output, memory)[..., :-1]

    def choice_log_probs(self, output, memory):
        """Return the log-probabilities `(n, c)` of the regions that were chosen."""
        chosen = ops.cast(output[..., -1:], "int32")
        probs = ops.take_along_axis(self.region_probs(output, memory), chosen, axis=-1)
        return log_of(probs)[..., 0]

    def choice_entropy(self, output, memory):
        """Return the entropy `(n, c)` of p(r), in nats."""
        probs = self.region_probs(output, memory)
        return -ops.sum(probs * log_of(probs), axis=-1)


def log_of(probs):
    """Return the logarithms of probabilities. Where the probability is 0, the gradient is 0."""
    return ops.log(ops.maximum(probs, SMALLEST_PROB))
