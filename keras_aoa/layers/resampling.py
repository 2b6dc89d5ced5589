"""Bilinear resampling of activation maps at arbitrary points and at affinely moved blocks.

Sources: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, arXiv:1506.02025, section
3.3; Pedersoli et al., arXiv:1612.01033, section 3.3. Axis letters: n image, p point, r region,
f feature. Points are (x, y) in cells of the map; (0, 0) is the center of its first cell.
"""

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype

BORDERS = ("zero", "replicate")


def resample(activations, points, border="zero"):
    """Interpolate activation maps bilinearly at points.

    One matrix product multiplies all cells by the weights of each point, so the gradients need no
    extra code. On maps of a few hundred cells this costs about as much as gathering four cells
    per point.

    Args:
        activations: `(n, rows, columns, f)`.
        points: `(n, p, 2)`, x and y in cells; may lie outside the map. The gradient of a
            coordinate that is infinite or NaN is 0.
        border: Values outside the map: `zero`, or `replicate` for the nearest cell.

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
    """Interpolation weight of each of `count` cells: 1 at its center, 0 beyond its neighbors'."""
    # A point more than one cell outside has the weights of any point beyond it. The bounds keep
    # infinite coordinates and NaN, which is placed before the first cell, out of the products.
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
    # Like relu, but with derivative 1/2 at 0. The anchors' points initially lie on cell centers:
    # there relu has derivative 0, whereas this is the mean of the one-sided derivatives.
    return values * ((1.0 + ops.sign(values)) / 2)


def block_offsets(block, dtype="float32"):
    """Offsets of a block's cells from its center, `(block * block, 2)`, (x, y), row-major."""
    offsets = ops.arange(block, dtype=dtype) - (block - 1) / 2
    y, x = ops.meshgrid(offsets, offsets, indexing="ij")
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def anchor_centers(rows, columns, stride=1, dtype="float32"):
    """Centers of every `stride`-th cell, `(r, 2)`, (x, y) in cells, row-major."""
    y, x = ops.meshgrid(
        ops.arange(0, rows, stride, dtype=dtype),
        ops.arange(0, columns, stride, dtype=dtype),
        indexing="ij",
    )
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def transformed(offsets, centers, transforms):
    """Apply each region's affine transform to points around its center.

    Args:
        offsets: `(p, 2)`, offsets from the center in cells.
        centers: `(r, 2)`, in cells.
        transforms: `(n, r, 2, 3)`, rows (a, b, shift in x) and (c, d, shift in y).

    Returns:
        `(n, r, p, 2)`: center + matrix · offset + shift.
    """
    turned = ops.einsum("nrij,pj->nrpi", transforms[..., :2], offsets)
    return turned + (centers[:, None] + transforms[..., None, :, 2])


@keras.saving.register_keras_serializable(package="keras_aoa")
class AffineResampling(keras.layers.Layer):
    """Resamples one affinely transformed block of cells per location of an activation map.

    Args:
        block: Side of the block in cells.
        border: Values outside the map: `zero`, or `replicate` for the nearest cell.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        transforms: `(n, rows / stride, columns / stride, 2, 3)`, sizes rounded up. Each maps
            offsets (x, y) from a cell's center, in cells, to matrix · (x, y) + shift;
            `[[1, 0, 0], [0, 1, 0]]` is the identity.
        stride: Step between locations, in cells.

    Returns:
        `(n, rows / stride, columns / stride, block, block, f)`.

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

    Source: section 3.3, "spatial transformers".
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
