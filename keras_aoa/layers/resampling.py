"""Bilinear interpolation of activation maps, at points or at affinely transformed blocks.

Sources: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, arXiv:1506.02025, section
3.3; Pedersoli et al., arXiv:1612.01033, section 3.3. Letters in shapes: n image, p point,
r region, f feature. A point (x, y) is in units of cells. The first cell's center is (0, 0).
"""

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype

BORDERS = ("zero", "replicate")


def resample(activations, points, border="zero"):
    """Interpolate activation maps bilinearly at points.

    For each point, every cell has a weight. One matrix product multiplies the weights by the cells,
    so automatic differentiation can compute the gradients. On maps of a few hundred cells, the
    product costs about as much as gathering four cells per point.

    Args:
        activations: `(n, rows, columns, f)`.
        points: Points (x, y), `(n, p, 2)`, in cells. Points may lie outside the map. The gradient
            of an infinite or NaN coordinate is 0.
        border: Outside the map, `zero` uses zeros and `replicate` uses the nearest cell.

    Returns:
        Features at the points, `(n, p, f)`.
    """
    images, rows, columns, features = ops.shape(activations)
    across = _weights(points[..., 0], columns, border)
    down = _weights(points[..., 1], rows, border)
    weights = down[..., :, None] * across[..., None, :]
    weights = ops.reshape(weights, (images, ops.shape(points)[1], rows * columns))
    cells = ops.reshape(activations, (images, rows * columns, features))
    return ops.matmul(ops.cast(weights, cells.dtype), cells)


def _weights(coordinate, count, border):
    """Compute a cell's weight for a point: 1 at the cell's center, 0 at a distance of 1 or more."""
    # All points more than one cell outside the map have equal weights, so clipping changes none of
    # them. Clipping keeps infinity out of the products. NaN becomes a point before the first cell.
    coordinate = ops.where(ops.isnan(coordinate), -2.0, coordinate)
    coordinate = ops.clip(coordinate, -2.0, ops.cast(count, coordinate.dtype) + 1.0)
    cells = ops.arange(count, dtype=coordinate.dtype)
    after = _positive(coordinate[..., None] - cells)
    before = _positive(cells - coordinate[..., None])
    if border == "replicate":
        after = ops.where(cells < count - 1, after, 0.0)
        before = ops.where(cells > 0, before, 0.0)
    return _positive(1.0 - after - before)


def _positive(values):
    # This function is relu with derivative 1/2 at 0, the mean of the one-sided derivatives. The
    # points of untrained anchor boxes lie on cell centers, where relu's derivative would be 0.
    return values * ((1.0 + ops.sign(values)) / 2)


def block_offsets(block, dtype="float32"):
    """Return the offsets (x, y) of a block's cells from its center, row by row.

    The shape is `(block * block, 2)`.
    """
    offsets = ops.arange(block, dtype=dtype) - (block - 1) / 2
    y, x = ops.meshgrid(offsets, offsets, indexing="ij")
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def anchor_centers(rows, columns, stride=1, dtype="float32"):
    """Return the centers (x, y) of every `stride`-th cell, an array `(r, 2)` in row-major order."""
    y, x = ops.meshgrid(
        ops.arange(0, rows, stride, dtype=dtype),
        ops.arange(0, columns, stride, dtype=dtype),
        indexing="ij",
    )
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def transformed(offsets, centers, transforms):
    """Move points around the center of each region by the region's affine transform.

    Args:
        offsets: Offsets (x, y) `(p, 2)` of the points from the center, in cells.
        centers: Centers (x, y) `(r, 2)` of the regions, in cells.
        transforms: Affine transforms `(n, r, 2, 3)`. The rows of a transform are (a, b, shift in x)
            and (c, d, shift in y).

    Returns:
        Points (x, y) `(n, r, p, 2)`, each equal to center + matrix · offset + shift.
    """
    turned = ops.einsum("nrij,pj->nrpi", transforms[..., :2], offsets)
    return turned + (centers[:, None] + transforms[..., None, :, 2])


@keras.saving.register_keras_serializable(package="keras_aoa")
class AffineResampling(keras.layers.Layer):
    """Interpolates a block of cells, moved by an affine transform, at each location of a map.

    Args:
        block: Side of the block in cells.
        border: Outside the map, `zero` uses zeros and `replicate` uses the nearest cell.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        transforms: One affine transform per location. The shape is
            `(n, rows / stride, columns / stride, 2, 3)`, with quotients rounded up. A transform
            maps an offset (x, y) from a cell's center to matrix · (x, y) + shift, in cells. The
            identity transform is `[[1, 0, 0], [0, 1, 0]]`.
        stride: Step between locations, in cells.

    Returns:
        The interpolated blocks, `(n, rows / stride, columns / stride, block, block, f)`.

    Raises:
        ValueError: `block` is below 1, `border` is unknown, or a shape is wrong.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import AffineResampling

    activations = np.random.normal(size=(2, 14, 14, 64))
    half_size = np.zeros((2, 14, 14, 2, 3)) + [[0.5, 0, 0], [0, 0.5, 0]]
    blocks = AffineResampling(block=3)(activations, half_size)
    print(blocks.shape)  # (2, 14, 14, 3, 3, 64)
    ```

    Source: Pedersoli et al., section 3.3, "spatial transformers".
    """

    def __init__(self, block=3, border="zero", **kwargs):
        # bfloat16 transforms would displace points by up to a sixteenth of a cell.
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
