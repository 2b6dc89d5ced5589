"""Bilinear resampling of activation maps at any points, and of blocks moved by affine transforms.

Sources: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, arXiv:1506.02025, section
3.3; Pedersoli et al., arXiv:1612.01033, section 3.3. Axis letters: n image, p point, r region,
f feature. Points are (x, y) in cells of the map; (0, 0) is the center of its first cell.
"""

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype

BORDERS = ("zero", "replicate")


def resample(activations, points, border="zero"):
    """Bilinear interpolation of maps at points.

    Written as a product with the points' weights on all cells, which has the gradients by itself
    and costs about what gathering four cells does on maps of a few hundred cells.

    Args:
        activations: `(n, rows, columns, f)`.
        points: `(n, p, 2)`, x and y in cells; may lie outside.
        border: What lies outside the map: `zero`, or `replicate`, the nearest cell.

    Returns:
        `(n, p, f)`.
    """
    images, rows, columns, features = ops.shape(activations)
    across = _weights(points[..., 0], columns, border)
    down = _weights(points[..., 1], rows, border)
    weights = down[..., :, None] * across[..., None, :]
    weights = ops.reshape(weights, (images, ops.shape(points)[1], rows * columns))
    cells = ops.reshape(activations, (images, rows * columns, features))
    return ops.matmul(ops.cast(weights, cells.dtype), cells)


def _weights(coordinate, count, border):
    """Weight of each of `count` cells for a coordinate: 1 at its center, 0 from the next on."""
    cells = ops.arange(count, dtype=coordinate.dtype)
    after = _positive(coordinate[..., None] - cells)
    before = _positive(cells - coordinate[..., None])
    if border == "replicate":
        after = ops.where(cells < count - 1, after, 0.0)
        before = ops.where(cells > 0, before, 0.0)
    return _positive(1.0 - after - before)


def _positive(values):
    # Like relu, but its derivative at 0 is 1/2: on a cell's center, where the anchors' points lie
    # at first, relu loses the derivatives of both sides, and this has their mean.
    return values * ((1.0 + ops.sign(values)) / 2)


def block_offsets(block, dtype="float32"):
    """Places of a block's cells about its center, `(block * block, 2)`, (x, y), row by row."""
    places = ops.arange(block, dtype=dtype) - (block - 1) / 2
    y, x = ops.meshgrid(places, places, indexing="ij")
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def anchor_centers(rows, columns, stride=1, dtype="float32"):
    """Centers of every `stride`-th cell, `(r, 2)`, (x, y) in cells, row by row."""
    y, x = ops.meshgrid(
        ops.arange(0, rows, stride, dtype=dtype),
        ops.arange(0, columns, stride, dtype=dtype),
        indexing="ij",
    )
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def transformed(offsets, centers, transforms):
    """Points about each center, moved by its affine transform.

    Args:
        offsets: `(p, 2)`, in cells about the center.
        centers: `(r, 2)`.
        transforms: `(n, r, 2, 3)`, rows (a, b, shift in x) and (c, d, shift in y).

    Returns:
        `(n, r, p, 2)`: center + matrix · offset + shift.
    """
    turned = ops.einsum("nrij,pj->nrpi", transforms[..., :2], offsets)
    return turned + (centers[:, None] + transforms[..., None, :, 2])


@keras.saving.register_keras_serializable(package="keras_aoa")
class AffineResampling(keras.layers.Layer):
    """Resamples at each location of a map a block of cells that an affine transform has moved.

    Args:
        block: Cells on a side of the block.
        border: What lies outside the map: `zero`, or `replicate`, the nearest cell.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        transforms: `(n, rows / stride, columns / stride, 2, 3)`, rounded up: for every
            `stride`-th cell (x, y) -> matrix · (x, y) + shift, about the cell's center, in cells;
            `[[1, 0, 0], [0, 1, 0]]` moves nothing.
        stride: Cells from one location to the next.

    Returns:
        `(n, rows / stride, columns / stride, block, block, f)`.

    Raises:
        ValueError: a block below 1, another border, shapes that do not fit.

    Source: section 3.3, "spatial transformers".
    """

    def __init__(self, block=3, border="zero", **kwargs):
        # Transforms in bfloat16 would move points by a sixteenth of a cell.
        super().__init__(autocast=False, **kwargs)
        if block < 1:
            raise ValueError(f"AffineResampling: `block` must be at least 1; received {block}.")
        check_border("AffineResampling", border)
        self.block = block
        self.border = border

    def build(self, activations_shape, transforms_shape):
        if len(activations_shape) != 4 or tuple(transforms_shape[3:]) != (2, 3):
            raise ValueError(
                "AffineResampling: `activations` must be (batch, rows, columns, features) and "
                "`transforms` (batch, rows, columns, 2, 3); received shapes "
                f"{tuple(activations_shape)} and {tuple(transforms_shape)}."
            )
        self.built = True

    def call(self, activations, transforms, stride=1):
        activations = ops.cast(activations, self.compute_dtype)
        transforms = ops.cast(transforms, wide_dtype(self.compute_dtype))
        images, rows, columns, features = ops.shape(activations)
        kept = ops.shape(transforms)[1:3]
        transforms = ops.reshape(transforms, (images, kept[0] * kept[1], 2, 3))
        points = transformed(
            block_offsets(self.block, transforms.dtype),
            anchor_centers(rows, columns, stride, transforms.dtype),
            transforms,
        )
        sampled = resample(activations, ops.reshape(points, (images, -1, 2)), self.border)
        return ops.reshape(sampled, (images, *kept, self.block, self.block, features))

    def compute_output_shape(self, activations_shape, transforms_shape):
        return (*transforms_shape[:3], self.block, self.block, activations_shape[-1])

    def get_config(self):
        return {**super().get_config(), "block": self.block, "border": self.border}


def check_border(who, border):
    """Raise ValueError unless `border` is one of `BORDERS`."""
    if border not in BORDERS:
        raise ValueError(f"{who}: `border` must be one of {BORDERS}; received {border!r}.")
