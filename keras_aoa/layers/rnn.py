"""A Keras RNN that runs the recurrent cell and receives the regions as a call argument."""

import keras

from keras_aoa.layers.recurrent import AttentionGRUCell
from keras_aoa.layers.regions import split_region_arguments
from keras_aoa.layers.wrappers import refuse_stateful, refuse_time_distributed


@keras.saving.register_keras_serializable(package="keras_aoa")
class AttentionRNN(keras.layers.RNN):
    """A `keras.layers.RNN` with an `AttentionGRUCell` and with regions as a call argument.

    Several layers may share one cell. In a copy of the model, the layers share the copied cell. A
    wrapper that passes only the sequences, such as `keras.layers.Bidirectional`, causes an error.

    Args:
        cell: An `AttentionGRUCell`.
        stateful: Must be False, because a state belongs to the regions of one call.
        return_sequences, return_state, go_backwards, unroll, zero_output_for_mask: As in
            `keras.layers.RNN`.

    Call arguments:
        sequences: Embedded words, `(n, t, e)`.
        regions: Region features `(n, r, f)`, or the `Regions` that a region layer returns.
        region_mask: Booleans `(n, r)`, false for padding. `region_mask` replaces the mask of a
            `Regions`.
        initial_state, mask, training: The same as in `keras.layers.RNN`.
        sequences_mask: The mask that Keras passes with `sequences`, which is used unless you pass
            `mask`.

    Returns:
        The last state `(n, u)`. With `return_sequences=True`, all states `(n, t, u)`.

    Raises:
        ValueError: `cell` is not an `AttentionGRUCell`, or `stateful` is True. A call receives no
            regions, or their number of features is not the cell's `region_dim`. The layer is in
            `keras.layers.Bidirectional` or `keras.layers.TimeDistributed`.

    Example:

    ```python
    import keras
    from keras_aoa.layers import AreaAttention, AttentionGRUCell, AttentionRNN, GridRegions

    word_ids = keras.Input((None,), dtype="int32")
    activations = keras.Input((14, 14, 64))  # of any CNN
    regions = GridRegions(stride=2)(activations)
    words = keras.layers.Embedding(20, 16, mask_zero=True)(word_ids)
    attention = AreaAttention(vocabulary_size=20, embedding_dim=16)
    cell = AttentionGRUCell(units=32, region_dim=64, attention=attention)
    states = AttentionRNN(cell, return_sequences=True)(words, regions)
    word_log_probs, region_probs = attention(states, regions)
    model = keras.Model([word_ids, activations], [word_log_probs, region_probs])
    print(model.output_shape)  # [(None, None, 20), (None, None, 49)]
    ```
    """

    def __init__(self, cell, return_sequences=False, return_state=False, **kwargs):
        if not isinstance(cell, AttentionGRUCell):
            raise ValueError(
                "AttentionRNN: `cell` must be one AttentionGRUCell; received "
                f"{type(cell).__name__}. Instead of a list of cells or StackedRNNCells, pass the "
                "output of one layer with return_sequences=True to the next layer."
            )
        super().__init__(cell, return_sequences, return_state, **kwargs)
        refuse_stateful("AttentionRNN", self.stateful)

    def __call__(self, *args, **kwargs):
        args, kwargs, regions = split_region_arguments(self, args, kwargs)
        if regions is None:
            raise ValueError(
                "AttentionRNN: `regions` must be an argument of the call; received none. Call "
                "`rnn(words, regions)`; keras.Sequential cannot pass regions, a functional model "
                "can."
            )
        if hasattr(regions, "shape"):
            self.cell.require_regions(regions.shape)
        return super().__call__(*args, **kwargs)

    def build(self, sequences_shape, regions_shape=None, **_):
        refuse_time_distributed(self)
        super().build(sequences_shape)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        # No call is running, so no regions are set. The cell must not raise an error about it.
        with self.cell.setting(memory=()):
            return super().compute_output_shape(sequences_shape, initial_state_shape)

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
