"""The recurrent cell that attends to regions.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.2, equations 2, 6 and 7. For the letters in shapes, see `joint.py`.
"""

import contextlib
import contextvars
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.gru import Gates, gru
from keras_aoa.layers.products import dense, wide_dtype
from keras_aoa.layers.regions import split_regions
from keras_aoa.layers.sharing import copy_once, identity, running_frames
from keras_aoa.layers.wrappers import refuse_bidirectional, refuse_stateful

Tensor = Any

# The `ImageMemory` of each running call, by the id of the cell. The variable is a context variable
# because several threads may call one cell, and because calls may be nested.
_MEMORIES = contextvars.ContextVar("memories", default=None)


class RegionsNotSet(ValueError, NotImplementedError):
    """Error that a cell raises if no regions are set.

    The class derives from NotImplementedError. When Keras prints a model's summary, it catches this
    error and omits the output shape.
    """


class Step(NamedTuple):
    """Result of one step of `AttentionGRUCell`.

    `state (n, c, u)` and `attended (n, c, f)` are the new states. `output (n, c, o)` predicts the
    next word. The output is the state after dropout. In `SoftAttention`, the output also contains
    the region vector and p(r). `scores` are the `scores` of `Attended`. `gates` are the `Gates` of
    the GRU.
    """

    state: Tensor
    attended: Tensor
    output: Tensor
    scores: Any
    gates: Gates


@keras.saving.register_keras_serializable(package="keras_aoa")
class AttentionGRUCell(keras.layers.Layer):
    """GRU cell that receives the current word and the regions to which its state attends.

    A step computes `h' = GRU(h, [x ; v])` (equation 7) with `v = p(r | h)^T R` (equation 6). The
    states of the cell are the GRU's state `h` and the region vector `v`. A region vector is the sum
    of the region features, weighted by attention. Each step receives a word, and returns the state
    that predicts the next word and the region vector of this state. The GRU equals
    `keras.layers.GRUCell` with `reset_after=True`.

    All steps attend to the same regions. The regions are therefore not an input of a step. A `with`
    block sets the regions for calls, as in `with cell.attending(regions): rnn(words)`.
    `AttentionRNN` sets the regions itself. A functional model must use `AttentionRNN`.

    Args:
        units: Width of the state, d_h.
        region_dim: Width of region features, d_r.
        attention: An `AttentionLayer`, such as `AreaAttention` or `SoftAttention`.

    Call arguments:
        inputs: Embedded words `(n, e)`, or `(n, c, e)` for several captions per image.
        states: `h (n, u)` and `v (n, f)`. For several captions per image, `h (n, c, u)` and
            `v (n, c, f)`.

    Returns:
        `h'`, and the new states `(h', v')`.

    Raises:
        ValueError: no regions are set, or their shape is wrong. A functional model without regions
            raises ValueError when it is built. The attention was built for another number of
            features. The layer that runs the cell is stateful or in `keras.layers.Bidirectional`.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_aoa.layers import AreaAttention, AttentionGRUCell, GridRegions

    regions = GridRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    words = np.random.normal(size=(2, 5, 16))  # embedded words of 5 steps
    attention = AreaAttention(vocabulary_size=20, embedding_dim=16)
    cell = AttentionGRUCell(units=32, region_dim=64, attention=attention)
    rnn = keras.layers.RNN(cell, return_sequences=True)
    with cell.attending(regions):
        states = rnn(words)
    print(states.shape)  # (2, 5, 32)
    ```

    Source: equations 2, 6 and 7.
    """

    def __init__(self, units, region_dim, attention, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.region_dim = region_dim
        self.attention = attention
        attention.in_cell = True
        self.attended_dim = attention.embedding_dim if attention.attends_words else region_dim
        self.state_size = (units, self.attended_dim)

    def build(self, inputs_shape, states_shape=None):
        self.word_kernel = self.add_weight(
            name="word_kernel", shape=(inputs_shape[-1], 3 * self.units)
        )
        self.region_kernel = None
        if self.attention.attends_words:
            self.region_kernel = self.word_kernel
        elif self.attention.has_feedback:
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

    @property
    def output_size(self):
        """Width of the output, which equals `units`.

        `keras.layers.RNN` reads this property when a functional model is built. If no regions are
        set, `output_size` raises an error, because the model could not run.
        """
        self._current_memory()
        return self.units

    def require_regions(self, shape):
        """Raise ValueError unless regions of this shape fit `region_dim`."""
        if len(shape) != 3 or shape[-1] != self.region_dim:
            raise ValueError(
                f"AttentionGRUCell: `regions` must be (batch, regions, {self.region_dim}), "
                f"because region_dim={self.region_dim}; received shape {tuple(shape)}. Set "
                "region_dim to the number of features, and flatten a grid to one axis of regions."
            )

    @contextlib.contextmanager
    def attending(self, regions, region_mask=None):
        """Set the regions that calls inside the `with` block attend to.

        Args:
            regions: Region features `(n, r, f)`, or a `Regions`. Symbolic tensors raise an error,
                because a functional model must use `AttentionRNN`.
            region_mask: Booleans `(n, r)`, false for padding. `region_mask` replaces the mask of a
                `Regions`.
        """
        regions, region_mask = split_regions(regions, region_mask)
        if isinstance(regions, keras.KerasTensor):
            raise ValueError(
                "AttentionGRUCell: `attending` needs regions with values; received a symbolic "
                "tensor. In a functional model use `AttentionRNN(cell)(words, regions)`."
            )
        self.require_regions(regions.shape)
        self._build_attention()
        memory = self.attention.precompute(regions, region_mask)
        with self.setting(memory):
            yield memory

    @contextlib.contextmanager
    def setting(self, memory):
        """Set the images' `ImageMemory` for calls inside the `with` block."""
        token = _MEMORIES.set({**(_MEMORIES.get() or {}), id(self): memory})
        try:
            yield
        finally:
            _MEMORIES.reset(token)

    def get_initial_state(self, batch_size=None):
        """Return a zero state and its region vector; the regions must be set before this call."""
        callers = (frame.f_locals.get("self") for frame in running_frames())
        rnn = next((caller for caller in callers if isinstance(caller, keras.layers.RNN)), None)
        refuse_stateful("AttentionGRUCell", rnn is not None and rnn.stateful)
        state = ops.zeros((batch_size, 1, self.units), dtype=self._wide)
        return [part[:, 0] for part in self.start(state, self._current_memory())]

    def start(self, state, memory):
        """Return the states `(h, v)` before the first word, given `h (n, c, u)`."""
        nothing = ops.zeros((*ops.shape(state)[:-1], self.attended_dim), dtype=state.dtype)
        memory = memory._replace(transposed_words=None)  # not worth the copy: one product
        return state, self.attention.attend_after(state, nothing, None, memory).attended

    def project(self, words, memory):
        """Return the part of the gates that does not depend on the state.

        Args:
            words: Embedded words, `(n, c, e)` or `(n, c, t, e)`.
            memory: The images' `ImageMemory`.

        Returns:
            The projected words, plus the images' `step_gates`, `(…, 3 u)`.
        """
        gates = dense(words, self.word_kernel, self.compute_dtype)
        gates = gates + ops.cast(self.bias[0], self._wide)
        if memory.step_gates is None:
            return gates
        each_step = memory.step_gates
        return gates + (each_step if len(gates.shape) == 3 else each_step[:, :, None])

    def step(self, words, word_gates, states, memory, state_dropout=None):
        """Run one step of the recurrence. Training and search both call this method.

        Args:
            words: Embedded words, `(n, c, e)`.
            word_gates: `project(words, memory)`, `(n, c, 3 u)`.
            states: `h (n, c, u)` and `v (n, c, f)`.
            memory: The images' `ImageMemory`.
            state_dropout: Dropout mask `(n, c, u)` applied to `h'` before attention, or None.

        Returns:
            `Step`.
        """
        state, attended = states
        attended, context = self.attention.attend_before(state, words, attended, memory)
        gates = word_gates
        if self.attention.has_feedback:
            gates = gates + dense(attended, self.region_kernel, self.compute_dtype)
        state, gates = gru(state, gates, self.recurrent_kernel, self.bias[1], self.compute_dtype)
        dropped = state if state_dropout is None else state * state_dropout
        output, attended, scores = self.attention.attend_after(dropped, attended, context, memory)
        return Step(state, attended, output, scores, gates)

    def run(self, words, states, memory, state_dropout=None):
        """Run the recurrence over known captions (teacher forcing).

        Args:
            words: Embedded words `(n, c, t, e)`. The size `t` must be known when the graph is
                built.
            states: `h (n, c, u)` and `v (n, c, f)` before the first word.
            memory: The images' `ImageMemory`.
            state_dropout: Dropout mask `(n, c, t, u)` applied to each state before attention, or
                None.

        Returns:
            The outputs `(n, c, t, o)` and the log normalizers `(n, c, t)` of all steps. The log
            normalizers are None if the attention does not compute them.

        Raises:
            ValueError: the number of time steps is unknown.
        """
        if words.shape[2] is None:
            raise ValueError(
                "AttentionGRUCell: `words` must have a known number of time steps; received "
                f"shape {tuple(words.shape)}. Pad all captions to one length."
            )
        return self.attention.run(self, words, states, memory, state_dropout)

    def unrolled(self, words, word_gates, states, memory, state_dropout=None):
        """Run all steps over known captions and return a list of one `Step` per time step.

        `word_gates` is `project(words, memory)`. If the attention does not use the input word,
        `words` may be None. The other arguments are as in `run`.
        """
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
        memory = self._current_memory()
        step = self.step(inputs, self.project(inputs, memory), states, memory)
        new_states = step.state, step.attended
        if not captions:
            new_states = [part[:, 0] for part in new_states]
        new_states = [ops.cast(part, self.compute_dtype) for part in new_states]
        return new_states[0], new_states

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        # If `load_model` loads the cell before the attention, it finds the attention by this id.
        attention["shared_object_id"] = id(self.attention)
        return {
            **super().get_config(),
            "shared_object_id": identity(self),
            "units": self.units,
            "region_dim": self.region_dim,
            "attention": attention,
        }

    @classmethod
    def from_config(cls, config):
        refuse_bidirectional(cls)
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return copy_once(cls, {**config, "attention": attention})

    @property
    def _wide(self):
        return wide_dtype(self.compute_dtype)

    def _build_attention(self):
        if not self.attention.built:
            self.attention.build(
                states_shape=(None, self.units), regions_shape=(None, None, self.region_dim)
            )
        if self.attention.region_dim not in (None, self.region_dim):
            raise ValueError(
                f"AttentionGRUCell: `region_dim` must be {self.attention.region_dim}, the number "
                "of features that the attention was built for; received "
                f"{self.region_dim}. Change region_dim or use another attention layer."
            )

    def _current_memory(self):
        memory = (_MEMORIES.get() or {}).get(id(self))
        if memory is None:
            raise RegionsNotSet(
                "AttentionGRUCell: regions must be set before the cell runs; received none. Use "
                "`AttentionRNN(cell)(words, regions)`, or call the layer inside "
                "`with cell.attending(regions):`."
            )
        return memory
