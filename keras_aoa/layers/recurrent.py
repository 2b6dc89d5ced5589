"""The recurrent cell that looks at regions, and the same cell run over known captions.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.2, equations 2, 6 and 7. Axis letters: see `joint.py`.
"""

import contextlib
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.memory import JointScores
from keras_aoa.layers.products import dense, wide_dtype
from keras_aoa.layers.recurrent_gradient import run_full

Tensor = Any


class Gates(NamedTuple):
    """What the GRU computed on its way, each `(n, c, u)`."""

    update: Tensor
    reset: Tensor
    candidate: Tensor
    state_candidate: Tensor


class Step(NamedTuple):
    """New `state (n, c, u)` and `attended (n, c, f)`, and what made them.

    `seen (n, c, u)` is the state as the attention sees it, after dropout; in `SoftAttention`
    `(n, c, u + f)`, with the attended region. `scores` are there where the feedback needed them.
    """

    state: Tensor
    attended: Tensor
    seen: Tensor
    scores: JointScores | None
    gates: Gates


@keras.saving.register_keras_serializable(package="keras_aoa")
class AttentionGRUCell(keras.layers.Layer):
    """GRU cell whose input is the current word and the regions that its state attends to.

    `h' = GRU(h, [x ; v])` (equation 7), `v = p(r | h)^T R` (equation 6). Its state is `(h, v)`:
    each step takes a word and gives the state that scores the next word, and what that state
    looks at, which the next step needs. The GRU is Keras's with `reset_after=True`.

    Regions are the same for all steps, so they are no input: the caller sets them for the
    duration of a call, `with cell.attending(regions, region_mask): rnn(words)`. `AttentionRNN`
    does that, for functional models.

    Args:
        units: Width of the state, d_h.
        region_dim: Width of region features, d_r.
        attention: The `AreaAttention` that scores words and regions, or a `SoftAttention`.

    Call arguments:
        inputs: Embedded words, `(n, e)`, or `(n, c, e)` for several captions of an image.
        states: `h (n, u)` and `v (n, f)`, or with the axis of captions.

    Returns:
        `h'`, and the new states `(h', v')`.

    Raises:
        ValueError: called with no regions set, or with regions of another shape.

    Source: equations 2, 6 and 7.
    """

    def __init__(self, units, region_dim, attention, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.region_dim = region_dim
        self.attention = attention
        self.state_size = (units, region_dim)
        self.output_size = units
        self._memory = None

    def build(self, inputs_shape, states_shape=None):
        self.word_kernel = self.add_weight(
            name="word_kernel", shape=(inputs_shape[-1], 3 * self.units)
        )
        self.region_kernel = None
        if self.attention.has_feedback:
            self.region_kernel = self.add_weight(
                name="region_kernel", shape=(self.region_dim, 3 * self.units)
            )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, 3 * self.units),
            initializer="orthogonal",
        )
        self.bias = self.add_weight(name="bias", shape=(2, 3 * self.units), initializer="zeros")
        self._build_attention()
        self.built = True

    @contextlib.contextmanager
    def attending(self, regions, region_mask=None):
        """Set the regions `(n, r, f)` that calls inside the `with` block look at."""
        if len(regions.shape) != 3 or regions.shape[-1] != self.region_dim:
            raise ValueError(
                f"AttentionGRUCell: `regions` must be (batch, regions, {self.region_dim}), as "
                f"region_dim={self.region_dim} says; received shape {tuple(regions.shape)}."
            )
        self._build_attention()
        self._memory = self.attention.precompute(regions, region_mask)
        try:
            yield self._memory
        finally:
            self._memory = None

    def get_initial_state(self, batch_size=None):
        """A state of zeros and what it looks at, while regions are set."""
        state = ops.zeros((batch_size, 1, self.units), dtype=self._wide)
        return [part[:, 0] for part in self.start(state, self._current_memory())]

    def start(self, state, memory):
        """States `(h, v)` before the first word, from `h (n, c, u)`."""
        if self.attention.variant == "full":
            return state, self.attention.attended(self.attention.score(state, memory), memory)
        return state, ops.zeros((*ops.shape(state)[:-1], self.region_dim), dtype=state.dtype)

    def project(self, words):
        """The words' part of the gates, `(…, e)` to `(…, 3 u)`; for a known caption once."""
        return dense(words, self.word_kernel, self.compute_dtype) + ops.cast(
            self.bias[0], self._wide
        )

    def step(self, words, word_gates, states, memory, state_dropout=None):
        """One step of the recurrence, for training and for search.

        Args:
            words: Embedded words, `(n, c, e)`.
            word_gates: `project(words)`, `(n, c, 3 u)`.
            states: `h (n, c, u)` and `v (n, c, f)`.
            memory: The images' `ImageMemory`.
            state_dropout: Factors of `h'` as the attention sees it, `(n, c, u)`, or None.

        Returns:
            `Step`. In the variants `conditional` and `soft`, `attended` is what was fed with
            the word.
        """
        state, attended = states
        if self.attention.variant == "conditional":
            attended = self.attention.attended_given_word(state, words, memory)
        elif self.attention.variant == "soft":
            region_scores, attended = self.attention.glimpse(state, memory)
        gates = word_gates
        if self.attention.has_feedback:
            gates = gates + dense(attended, self.region_kernel, self.compute_dtype)
        state, gates = gru(state, gates, self.recurrent_kernel, self.bias[1], self.compute_dtype)
        seen = state if state_dropout is None else state * state_dropout
        scores = None
        if self.attention.variant == "full":
            scores = self.attention.score(seen, memory)
            attended = self.attention.attended(scores, memory)
        elif self.attention.variant == "soft":
            seen = ops.concatenate([seen, attended], axis=-1)
            scores = self.attention.score(seen, region_scores)
        return Step(state, attended, seen, scores, gates)

    def run(self, words, states, memory, state_dropout=None):
        """The recurrence over known captions.

        In the variant `full` its gradient is written by hand (see `sequence.py`).

        Args:
            words: Embedded words, `(n, c, t, e)`; `t` known before the graph is made.
            states: `h (n, c, u)` and `v (n, c, f)` before the first word.
            memory: The images' `ImageMemory`.
            state_dropout: Factors of each state as the attention sees it, `(n, c, t, u)`.

        Returns:
            States as the attention sees them, `seen` of each `Step`, and the joint's log
            normalizers, `(n, c, t)`, or None where no feedback needed them.
        """
        if words.shape[2] is None:
            raise ValueError(
                "AttentionGRUCell: `words` must have a known number of time steps; received "
                f"shape {tuple(words.shape)}. Pad all captions to one length."
            )
        word_gates = self.project(words)
        if self.attention.variant == "full":
            return run_full(self, word_gates, states, memory, state_dropout)
        steps = self.unrolled(words, word_gates, states, memory, state_dropout)
        return ops.stack([step.seen for step in steps], axis=2), None

    def unrolled(self, words, word_gates, states, memory, state_dropout=None):
        """Every `Step` of the recurrence over known captions; arguments as of `run`."""
        steps = []
        for t in range(word_gates.shape[2]):
            dropout = None if state_dropout is None else state_dropout[:, :, t]
            word = None if words is None else words[:, :, t]
            step = self.step(word, word_gates[:, :, t], states, memory, dropout)
            states = step.state, step.attended
            steps.append(step)
        return steps

    def call(self, inputs, states):
        captions = len(inputs.shape) == 3
        inputs, *states = (
            ops.cast(part if captions else part[:, None], self._wide) for part in (inputs, *states)
        )
        step = self.step(inputs, self.project(inputs), states, self._current_memory())
        new_states = step.state, step.attended
        if not captions:
            new_states = [part[:, 0] for part in new_states]
        new_states = [ops.cast(part, self.compute_dtype) for part in new_states]
        return new_states[0], new_states

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        # A model also calls it to score words. Keras loses this mark of a shared object where
        # the object comes first inside another's configuration, and would load two of it.
        attention["shared_object_id"] = id(self.attention)
        return {
            **super().get_config(),
            "units": self.units,
            "region_dim": self.region_dim,
            "attention": attention,
        }

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})

    @property
    def _wide(self):
        return wide_dtype(self.compute_dtype)

    def _build_attention(self):
        if not self.attention.built:
            self.attention.build((None, self.units), (None, None, self.region_dim))

    def _current_memory(self):
        if self._memory is None:
            raise ValueError(
                "AttentionGRUCell: no regions are set; call the layer inside "
                "`with cell.attending(regions, region_mask):` or use AttentionRNN."
            )
        return self._memory


@keras.saving.register_keras_serializable(package="keras_aoa")
class AttentionRNN(keras.layers.RNN):
    """`keras.layers.RNN` of an `AttentionGRUCell` that takes the regions as a call argument.

    Call arguments:
        sequences: Embedded words, `(n, t, e)`.
        regions: `(n, r, f)`.
        region_mask: Booleans, `(n, r)`; false marks padding.
        initial_state, mask, training: As in `keras.layers.RNN`.
        sequences_mask: The mask that Keras hands on with `sequences`; `mask` goes before it.

    Returns:
        As `keras.layers.RNN`: `(n, u)`, or `(n, t, u)` with `return_sequences=True`.
    """

    def build(self, sequences_shape, regions_shape=None, **_):
        super().build(sequences_shape)

    def call(
        self,
        sequences,
        regions,
        region_mask=None,
        initial_state=None,
        mask=None,
        training=False,
        sequences_mask=None,
    ):
        mask = sequences_mask if mask is None else mask
        with self.cell.attending(regions, region_mask):
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )


def gru(state, input_gates, recurrent_kernel, recurrent_bias, compute_dtype=None):
    """One step of Keras's GRU with `reset_after=True`.

    Args:
        state: `(n, c, u)`.
        input_gates: The inputs' product with their kernel, plus bias, `(n, c, 3 u)`, in Keras's
            order: update, reset, candidate.
        recurrent_kernel: `(u, 3 u)`.
        recurrent_bias: `(3 u,)`.
        compute_dtype: Dtype of the product.

    Returns:
        The new state, `(n, c, u)`, and its `Gates`.
    """
    state_gates = dense(state, recurrent_kernel, compute_dtype) + ops.cast(
        recurrent_bias, state.dtype
    )
    input_update, input_reset, input_candidate = ops.split(input_gates, 3, axis=-1)
    state_update, state_reset, state_candidate = ops.split(state_gates, 3, axis=-1)
    update = ops.sigmoid(input_update + state_update)
    reset = ops.sigmoid(input_reset + state_reset)
    candidate = ops.tanh(input_candidate + reset * state_candidate)
    gates = Gates(update, reset, candidate, state_candidate)
    return update * state + (1 - update) * candidate, gates
