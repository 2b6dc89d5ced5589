"""Errors for features of Keras's recurrent layers that fail if a cell attends to regions."""

import keras

from keras_aoa.layers.sharing import running_frames


def refuse_stateful(who, stateful):
    """Raise ValueError if a recurrent layer keeps its states from call to call."""
    if stateful:
        raise ValueError(
            f"{who}: `stateful` must be False, because a state belongs to the regions of one "
            "call; received True. Use return_state=True, and pass the states to the next call as "
            "`initial_state`."
        )


def refuse_bidirectional(cell_class):
    """Raise ValueError if `keras.layers.Bidirectional` is copying a layer with a `cell_class`."""
    for frame in running_frames():
        values = frame.f_locals
        copied = getattr(values.get("layer"), "cell", None)
        if isinstance(values.get("self"), keras.layers.Bidirectional) and isinstance(
            copied, cell_class
        ):
            raise ValueError(
                f"{cell_class.__name__}: `regions` must reach the cell; received the wrapper "
                "Bidirectional, which passes only sequences. Call two AttentionRNN layers, one "
                "with go_backwards=True; reverse its outputs in time and concatenate both."
            )


def refuse_time_distributed(layer):
    """Raise ValueError if `keras.layers.TimeDistributed` is building `layer`."""
    for frame in running_frames():
        wrapper = frame.f_locals.get("self")
        if isinstance(wrapper, keras.layers.TimeDistributed) and wrapper.layer is layer:
            raise ValueError(
                f"{type(layer).__name__}: `regions` must reach the layer; received the wrapper "
                "TimeDistributed, which passes only sequences. Merge the second axis into the "
                "batch of sequences, repeat the regions, call the layer, and split the axis."
            )
