"""One step of Keras's GRU. For the letters in shapes, see `joint.py`."""

from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.products import dense

Tensor = Any


class Gates(NamedTuple):
    """Intermediate values of one GRU step, each of shape `(n, c, u)`."""

    update: Tensor
    reset: Tensor
    candidate: Tensor
    state_candidate: Tensor


def gru(state, input_gates, recurrent_kernel, recurrent_bias, compute_dtype=None):
    """Compute one step of Keras's GRU with `reset_after=True`.

    Args:
        state: State before the step, `(n, c, u)`.
        input_gates: The inputs multiplied by their kernel, plus the bias, `(n, c, 3 u)`. The
            gates are in Keras's order: update, reset, candidate.
        recurrent_kernel: `(u, 3 u)`.
        recurrent_bias: `(3 u,)`.
        compute_dtype: Dtype in which `state` is multiplied by `recurrent_kernel`.

    Returns:
        The new state `(n, c, u)` and the `Gates` of this step.
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
