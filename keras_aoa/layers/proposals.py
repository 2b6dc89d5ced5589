"""Regions from given boxes, such as object proposals, by max pooling.

Source: Pedersoli et al., arXiv:1612.01033, section 3.3, "object proposals". Letters in shapes:
n image, r region, f feature.
"""

import keras
from keras import ops

from keras_aoa.layers.regions import Regions, regions_spec, require_map

UNKNOWN_LEVELS = 8  # for maps whose size is unknown when tracing; enough for 256 cells


@keras.saving.register_keras_serializable(package="keras_aoa")
class ProposalRegions(keras.layers.Layer):
    """Max-pools an activation map over given boxes, such as object proposals.

    A box covers the rows and the columns whose centers it contains. If a box contains no row's
    center, it covers the row at the box's own center. A box above or below the map covers the
    nearest row. The rules for rows also hold for columns. The layer first computes maxima over
    blocks with sides of 1, 2, 4 … cells. The maximum over a box of any size is then the maximum of
    only four blocks. If the size of a map is unknown when a graph is traced, the map may have at
    most 256 cells per side.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        proposals: Boxes `(n, r, 4)`: x0, y0, x1, y1 relative (0..1) to the map. A box is padding if
            it has no area or contains an infinite or NaN number. If all boxes of an image are
            padding, the first box becomes the whole map.

    Returns:
        `Regions`. The features of padding regions are 0.

    Raises:
        ValueError: a shape is wrong.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import ProposalRegions

    activations = np.random.normal(size=(1, 14, 14, 64))
    boxes = np.array([[[0.1, 0.1, 0.5, 0.6], [0.0, 0.0, 0.0, 0.0]]])  # the second is padding
    regions = ProposalRegions()(activations, boxes)
    print(regions.features.shape, regions.mask)  # (1, 2, 64) [[True, False]]
    ```

    Source: section 3.3, "object proposals".
    """

    def __init__(self, **kwargs):
        # bfloat16 boxes would be off by a cell.
        super().__init__(autocast=False, **kwargs)

    def build(self, activations_shape, proposals_shape):
        if len(activations_shape) != 4 or len(proposals_shape) != 3 or proposals_shape[-1] != 4:
            raise ValueError(
                "ProposalRegions: `activations` must be (batch, rows, columns, features) and "
                f"`proposals` (batch, regions, 4); received shapes {tuple(activations_shape)} and "
                f"{tuple(proposals_shape)}."
            )
        require_map("ProposalRegions", activations_shape)
        self.built = True

    def call(self, activations, proposals):
        activations = ops.cast(activations, self.compute_dtype)
        proposals = ops.cast(ops.convert_to_tensor(proposals), "float32")
        proposals, mask = _with_whole_image(proposals)
        x0, y0, x1, y1 = (proposals[..., side] for side in range(4))
        pooled = maximum_over_boxes(activations, ops.where(mask[..., None], proposals, 0.0))
        corners = ops.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=-1)
        return Regions(
            features=ops.where(mask[..., None], pooled, ops.zeros_like(pooled)),
            boxes=ops.reshape(corners, (*ops.shape(proposals)[:2], 4, 2)),
            mask=mask,
        )

    def compute_output_spec(self, activations, proposals):
        images, count = proposals.shape[:2]
        return regions_spec(self, images, count, activations.shape[-1])


def _with_whole_image(proposals):
    """Return boxes and their mask; an image with only padding gets one box, the whole map."""
    finite = ops.all(ops.isfinite(proposals), axis=-1, keepdims=True)
    proposals = ops.where(finite, proposals, 0.0)
    mask = ops.logical_and(
        proposals[..., 2] > proposals[..., 0], proposals[..., 3] > proposals[..., 1]
    )
    first = ops.arange(ops.shape(proposals)[1]) == 0
    added = ops.logical_and(ops.logical_not(ops.any(mask, axis=1, keepdims=True)), first)
    whole = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0], dtype=proposals.dtype)
    return ops.where(added[..., None], whole, proposals), ops.logical_or(mask, added)


def maximum_over_boxes(activations, boxes):
    """Max-pool each feature over the cells of each box.

    The docstring of `ProposalRegions` defines which cells belong to a box.

    Args:
        activations: `(n, rows, columns, f)`.
        boxes: Boxes `(n, r, 4)`: x0, y0, x1, y1 relative (0..1) to the map. Numbers outside 0..1
            are clipped.

    Returns:
        Maxima, `(n, r, f)`.
    """
    images, rows, columns, features = ops.shape(activations)
    by_rows = _block_maxima(activations, axis=1)
    tables = [_block_maxima(table, axis=2) for table in by_rows]
    row_levels, column_levels = len(tables), len(tables[0])
    cells = ops.stack([table for line in tables for table in line], axis=1)
    cells = ops.reshape(cells, (-1, features))
    top, bottom, row_level = _covered(boxes[..., 1], boxes[..., 3], rows, row_levels)
    left, right, column_level = _covered(boxes[..., 0], boxes[..., 2], columns, column_levels)
    image = ops.arange(images, dtype="int32")[:, None]
    table = (image * row_levels + row_level) * column_levels + column_level
    pooled = None
    for y in (top, bottom):
        for x in (left, right):
            maxima = ops.take(cells, (table * rows + y) * columns + x, axis=0)
            pooled = maxima if pooled is None else ops.maximum(pooled, maxima)
    return pooled


def _block_maxima(values, axis):
    """Return tables of maxima, one for each size of blocks: 1, 2, 4 … cells.

    A table contains, for each cell, the maximum of the block that starts at this cell. The maximum
    is undefined if the block extends past the map.
    """
    size = values.shape[axis]
    levels = UNKNOWN_LEVELS if size is None else size.bit_length()
    tables = [values]
    for level in range(levels - 1):
        shift = 2**level
        near, far, rest = (
            (slice(None),) * axis + (part,)
            for part in (slice(None, -shift), slice(shift, None), slice(-shift, None))
        )
        last = tables[-1]
        tables.append(ops.concatenate([ops.maximum(last[near], last[far]), last[rest]], axis=axis))
    return tables


def _covered(start, end, count, levels):
    """Find two blocks of 2 ** level cells that together cover the cells from `start` to `end`.

    Args:
        start: Start of each box along the axis, `(n, r)`, in 0..1.
        end: End of each box along the axis, `(n, r)`, in 0..1.
        count: Number of cells along the axis.
        levels: Number of block sizes.

    Returns:
        The first cell of the first block, the first cell of the second block, and the level. Each
        of the three tensors has shape `(n, r)`. The blocks may overlap.
    """
    size = ops.cast(count, start.dtype)
    first = ops.cast(ops.ceil(ops.clip(start, 0.0, 1.0) * size - 0.5), "int32")
    stop = ops.cast(ops.ceil(ops.clip(end, 0.0, 1.0) * size - 0.5), "int32")
    middle = ops.cast(ops.floor(ops.clip((start + end) / 2, 0.0, 1.0) * size), "int32")
    middle = ops.minimum(middle, count - 1)
    empty = stop <= first
    first = ops.where(empty, middle, first)
    stop = ops.where(empty, middle + 1, stop)
    level = ops.zeros_like(first)
    for power in range(1, levels):
        level = level + ops.cast(stop - first >= 2**power, "int32")
    return first, stop - _power_of_two(level, levels), level


def _power_of_two(level, levels):
    power = ops.ones_like(level)
    for step in range(1, levels):
        power = ops.where(level >= step, 2**step, power)
    return power
