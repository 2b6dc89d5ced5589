"""Areas that attention chooses from: regions, the boxes they stand for, and a mask.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.3. Axis letters: see `joint.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any


class Regions(NamedTuple):
    """The three things that every kind of area hands on.

    `features (n, r, f)`; `boxes (n, r, 4, 2)`, corners (x, y) clockwise from the top left, in
    0..1 of the network's input; `mask (n, r)`, booleans, false for padding.
    """

    features: Tensor
    boxes: Tensor
    mask: Tensor


@keras.saving.register_keras_serializable(package="keras_aoa")
class GridRegions(keras.layers.Layer):
    """Every cell of an activation map, or every `stride`-th in both directions, is a region.

    Args:
        stride: Takes cells 0, s, 2s …; 2 makes 49 regions of a 14x14 map.
        block: Cells on a side of a region's box: 1 for its cell, 3 for the 3x3 block that the
            paper draws.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        stride: In place of the layer's own, for this call.

    Returns:
        `Regions`, row by row.

    Raises:
        ValueError: a stride or block below 1, or a map of another rank.

    Source: section 3.3, "activation grid".
    """

    def __init__(self, stride=1, block=1, **kwargs):
        super().__init__(**kwargs)
        require_positive("stride", stride)
        require_positive("block", block)
        self.stride = stride
        self.block = block

    def build(self, activations_shape):
        if len(activations_shape) != 4:
            raise ValueError(
                "GridRegions: `activations` must be (batch, rows, columns, features); received "
                f"shape {tuple(activations_shape)}."
            )
        self.built = True

    def call(self, activations, stride=None):
        stride = self._stride(stride)
        rows, columns = ops.shape(activations)[1:3]
        kept = activations[:, ::stride, ::stride]
        images, kept_rows, kept_columns, features = ops.shape(kept)
        count = kept_rows * kept_columns
        regions = ops.reshape(kept, (images, count, features))
        boxes = cell_boxes(rows, columns, stride, self.block)
        return Regions(
            features=regions,
            boxes=ops.broadcast_to(boxes[None], (images, count, 4, 2)),
            mask=ops.ones((images, count), dtype="bool"),
        )

    def compute_output_spec(self, activations, stride=None):
        stride = self._stride(stride)
        images, rows, columns, features = activations.shape
        count = None
        if rows is not None and columns is not None:
            count = -(-rows // stride) * -(-columns // stride)
        return Regions(
            features=keras.KerasTensor((images, count, features), dtype=self.compute_dtype),
            boxes=keras.KerasTensor((images, count, 4, 2), dtype="float32"),
            mask=keras.KerasTensor((images, count), dtype="bool"),
        )

    def _stride(self, stride):
        if stride is None:
            return self.stride
        require_positive("stride", stride)
        return stride

    def get_config(self):
        return {
            **super().get_config(),
            "stride": self.stride,
            "block": self.block,
        }


def require_positive(name, value):
    """Raise ValueError unless `value` is 1 or more."""
    if value < 1:
        raise ValueError(f"GridRegions: `{name}` must be at least 1; received {value}.")


def cell_boxes(rows, columns, stride=1, block=1):
    """Corners of the grid's cells, `(r, 4, 2)`, in 0..1; a block may reach outside."""
    top, left = ops.meshgrid(
        ops.cast(ops.arange(0, rows, stride), "float32"),
        ops.cast(ops.arange(0, columns, stride), "float32"),
        indexing="ij",
    )
    centre = ops.stack([ops.reshape(left, (-1,)), ops.reshape(top, (-1,))], axis=-1) + 0.5
    half = block / 2
    corners = ops.convert_to_tensor(
        [[-half, -half], [half, -half], [half, half], [-half, half]], dtype="float32"
    )
    size = ops.cast(ops.stack([columns, rows]), "float32")
    return (centre[:, None, :] + corners) / size
