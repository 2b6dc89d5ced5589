"""Image regions for attention: their features, boxes and mask.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, section 3.3. For the letters in shapes, see `joint.py`.
"""

import inspect
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.resampling import anchor_centers

Tensor = Any

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))  # clockwise from the top left


class Regions(NamedTuple):
    """Output of every region layer.

    `features` has shape `(n, r, f)`. `boxes (n, r, 4, 2)` contains the four corners (x, y) of each
    region, clockwise from the top left. The coordinates x and y run from 0 to 1 over the network's
    input. `mask (n, r)` is false for padding.

    Pass a `Regions` as the argument `regions` of an attention layer or of `AttentionRNN`. Build a
    `Regions` from your own features if the images have different numbers of regions.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import AreaAttention, Regions

    regions = Regions(
        features=np.random.normal(size=(2, 10, 64)),  # of any detector
        boxes=np.random.uniform(size=(2, 10, 4, 2)),
        mask=np.arange(10) < np.array([[10], [7]]),  # the second image has 7 regions
    )
    attention = AreaAttention(vocabulary_size=20, embedding_dim=16)
    _, region_probs = attention(np.random.normal(size=(2, 32)), regions)
    print(region_probs[1, 7:])  # zeros
    ```
    """

    features: Tensor
    boxes: Tensor
    mask: Tensor


def split_regions(regions, region_mask=None):
    """Return the features and the mask of regions, or `region_mask` as the mask if it is given."""
    if not isinstance(regions, Regions):
        return regions, region_mask
    return regions.features, regions.mask if region_mask is None else region_mask


def split_region_arguments(layer, args, kwargs):
    """Replace a `Regions` in the arguments of a call by its features and its mask.

    A layer calls this function in `__call__`, before Keras records the call. A functional model
    therefore contains only plain tensors, which every file format and backend supports.

    Args:
        layer: Layer whose `call` has the arguments `regions` and `region_mask`, after at least one
            other argument.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        The new positional and keyword arguments, and the features.
    """
    names = list(inspect.signature(layer.call).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    regions = given.get("regions")
    features, region_mask = split_regions(regions, given.get("region_mask"))
    if features is regions:
        return args, kwargs, regions
    named = {**given, "regions": features, "region_mask": region_mask}
    del named[names[0]]
    return (given[names[0]],), named, features


def require_regions(who, shape, features=None):
    """Raise ValueError unless `shape` is `(batch, regions, features)`."""
    shape = tuple(shape)
    if len(shape) != 3:
        raise ValueError(
            f"{who}: `regions` must be (batch, regions, features); received shape {shape}. "
            "Flatten a grid first: `ops.reshape(grid, (batch, -1, features))`."
        )
    if shape[1] == 0:
        raise ValueError(f"{who}: `regions` must have at least one region; received shape {shape}.")
    if features not in (None, shape[-1]):
        raise ValueError(
            f"{who}: `regions` must be (batch, regions, {features}), because the layer was built "
            f"for {features} features; received shape {shape}. Use one layer per kind of regions."
        )


@keras.saving.register_keras_serializable(package="keras_aoa")
class GridRegions(keras.layers.Layer):
    """Uses cells of an activation map as regions: every `stride`-th cell along each axis.

    Args:
        stride: Step between cells along each axis. A stride of 2 gives 49 regions for a 14x14 map.
        block: Side of each region's box, in cells. With a side of 1, the box is the cell itself.
            With a side of 3, the box is the 3x3 block of the paper's figures.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        stride: Overrides the layer's stride for this call.

    Returns:
        `Regions` in row-major order.

    Raises:
        ValueError: `stride` or `block` is below 1, or `activations` does not have 4 axes.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import GridRegions

    regions = GridRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    print(regions.features.shape, regions.boxes.shape)  # (2, 49, 64) (2, 49, 4, 2)
    ```

    Source: section 3.3, "activation grid".
    """

    def __init__(self, stride=1, block=1, **kwargs):
        super().__init__(**kwargs)
        require_positive("GridRegions", "stride", stride)
        require_positive("GridRegions", "block", block)
        self.stride = stride
        self.block = block

    def build(self, activations_shape):
        require_map("GridRegions", activations_shape)
        self.built = True

    def call(self, activations, stride=None):
        stride = stride_of(self, stride)
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
        stride = stride_of(self, stride)
        images, features = activations.shape[0], activations.shape[-1]
        return regions_spec(self, images, kept_cells(activations, stride), features)

    def get_config(self):
        return {
            **super().get_config(),
            "stride": self.stride,
            "block": self.block,
        }


@keras.saving.register_keras_serializable(package="keras_aoa")
class MeanRegion(keras.layers.Layer):
    """Averages an activation map into one region, which is equivalent to uniform attention.

    Args:
        stride: Step between the averaged cells, along each axis.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        stride: Overrides the layer's stride for this call.

    Returns:
        `Regions` with one region, whose box covers the whole map.

    Raises:
        ValueError: `stride` is below 1, or `activations` does not have 4 axes.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import MeanRegion

    region = MeanRegion()(np.random.normal(size=(2, 14, 14, 64)))
    print(region.features.shape)  # (2, 1, 64)
    ```
    """

    def __init__(self, stride=1, **kwargs):
        super().__init__(**kwargs)
        require_positive("MeanRegion", "stride", stride)
        self.stride = stride

    def build(self, activations_shape):
        require_map("MeanRegion", activations_shape)
        self.built = True

    def call(self, activations, stride=None):
        stride = stride_of(self, stride)
        features = ops.mean(activations[:, ::stride, ::stride], axis=(1, 2))[:, None]
        images = ops.shape(features)[0]
        return Regions(
            features=features,
            boxes=ops.broadcast_to(cell_boxes(1, 1)[None], (images, 1, 4, 2)),
            mask=ops.ones((images, 1), dtype="bool"),
        )

    def compute_output_spec(self, activations, stride=None):
        return regions_spec(self, activations.shape[0], 1, activations.shape[-1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


def regions_spec(layer, images, count, features):
    """Return the symbolic `Regions` of a layer. Sizes that are unknown are None."""
    return Regions(
        features=keras.KerasTensor((images, count, features), dtype=layer.compute_dtype),
        boxes=keras.KerasTensor((images, count, 4, 2), dtype="float32"),
        mask=keras.KerasTensor((images, count), dtype="bool"),
    )


def kept_cells(activations, stride):
    """Count the cells that a stride selects from a symbolic map. None means unknown."""
    rows, columns = activations.shape[1:3]
    if rows is None or columns is None:
        return None
    return -(-rows // stride) * -(-columns // stride)


def stride_of(layer, stride):
    """Return the `stride` of a call, or the layer's own stride if `stride` is None."""
    if stride is None:
        return layer.stride
    require_positive(type(layer).__name__, "stride", stride)
    return stride


def require_positive(who, name, value):
    """Raise ValueError unless `value` is 1 or more."""
    if value < 1:
        raise ValueError(f"{who}: `{name}` must be at least 1; received {value}.")


def require_map(who, shape):
    """Raise ValueError unless `shape` is the shape of an activation map with at least one cell."""
    if len(shape) != 4:
        raise ValueError(
            f"{who}: `activations` must be (batch, rows, columns, features); received shape "
            f"{tuple(shape)}."
        )
    if 0 in tuple(shape)[1:3]:
        raise ValueError(
            f"{who}: `activations` must have at least one cell; received shape {tuple(shape)}."
        )


def cell_boxes(rows, columns, stride=1, block=1):
    """Return the corners `(r, 4, 2)` of each grid cell's box, relative (0..1) to the map.

    A box may extend past the map.
    """
    centers = anchor_centers(rows, columns, stride) + 0.5
    corners = ops.convert_to_tensor(CORNERS, dtype="float32") * (block / 2)
    size = ops.cast(ops.stack([columns, rows]), "float32")
    return (centers[:, None, :] + corners) / size
