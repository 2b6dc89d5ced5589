"""Spatial-transformer regions: blocks of an activation map, each moved by an affine transform.

Source: Pedersoli et al., arXiv:1612.01033, section 3.3, "spatial transformers". Shapes use n for
images, r for regions and f for features. Lengths are in cells of the map.
"""

import keras
from keras import ops

from keras_aoa.layers.products import scale_to_length, wide_dtype
from keras_aoa.layers.regions import (
    CORNERS,
    Regions,
    kept_cells,
    regions_spec,
    require_map,
    require_positive,
    stride_of,
)
from keras_aoa.layers.resampling import (
    AffineResampling,
    anchor_centers,
    check_border,
    transformed,
)

BLOCK = 3  # side of an anchor box and of the filter, in cells


@keras.saving.register_keras_serializable(package="keras_aoa")
class TransformerRegions(keras.layers.Layer):
    """Spatial-transformer regions: 3x3 anchor boxes, each moved by a predicted affine transform.

    A 3x3 convolution followed by a 1x1 convolution predicts one transform per location. The layer
    interpolates the map at 3x3 points of the moved box and applies a 3x3 filter to the points.
    Initially, the filter returns the center point. An untrained layer therefore computes the same
    features as `GridRegions`.

    Args:
        stride: Step between locations, in cells, along both axes.
        anchor_scale: Initial scale of the boxes, relative to 3x3 cells.
        rotation: If True, a transform may rotate and shear. If False, a transform only scales and
            shifts.
        border: Outside the map, `zero` uses zeros. Outside the map, `replicate` uses the nearest
            cell, as in the authors' code.
        features: Number of features per region. The default is the number of features of the map.
        activation: Activation function after the filter. By default, no function is applied.
        localization_width: Number of features between the two convolutions that predict the
            transforms. The default is the number of features of the map.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        stride: Overrides the layer's stride for this call.

    Returns:
        `Regions`, row by row.

    Raises:
        ValueError: `stride` is below 1, `anchor_scale` is not positive, `border` is unknown, or
            `activations` does not have 4 axes.

    Example:

    ```python
    import numpy as np
    from keras_aoa.layers import TransformerRegions

    regions = TransformerRegions(stride=2)(np.random.normal(size=(2, 14, 14, 64)))
    print(regions.features.shape, regions.boxes.shape)  # (2, 49, 64) (2, 49, 4, 2)
    ```

    Source: section 3.3. The last paragraph of section 3.3 specifies the initial scale of the anchor
    boxes.
    """

    def __init__(
        self,
        stride=1,
        anchor_scale=2.0,
        rotation=True,
        border="zero",
        features=None,
        activation=None,
        localization_width=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_positive("TransformerRegions", "stride", stride)
        if not anchor_scale > 0:
            raise ValueError(
                f"TransformerRegions: `anchor_scale` must be more than 0; received {anchor_scale}."
            )
        check_border("TransformerRegions", border)
        self.stride = stride
        self.anchor_scale = anchor_scale
        self.rotation = rotation
        self.border = border
        self.features = features
        self.activation = keras.activations.get(activation)
        self.localization_width = localization_width

    def build(self, activations_shape):
        if len(activations_shape) != 4 or activations_shape[-1] is None:
            raise ValueError(
                "TransformerRegions: `activations` must be (batch, rows, columns, features); "
                f"received shape {tuple(activations_shape)}."
            )
        require_map("TransformerRegions", activations_shape)
        channels = activations_shape[-1]
        width = self.localization_width or channels
        options = {"data_format": "channels_last", "padding": "same"}
        self.hidden = keras.layers.Conv2D(
            width,
            BLOCK,
            activation="relu",
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            **options,
        )
        self.hidden.build((None, None, None, channels))
        # With a zero kernel, the first boxes of every image are the scaled anchor boxes.
        self.localization = keras.layers.Conv2D(
            len(self._numbers()),
            1,
            kernel_initializer="zeros",
            bias_initializer=self._first_transform,
            dtype=wide_dtype(self.compute_dtype),  # see AffineResampling
            **options,
        )
        self.localization.build((None, None, None, width))
        self.resampling = AffineResampling(BLOCK, self.border, dtype=self.dtype_policy)
        features = self.features or channels
        self.kernel = self.add_weight(
            shape=(BLOCK, BLOCK, channels, features),
            initializer=_center_filter,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(features,), initializer="zeros", name="bias")
        self.built = True

    def set_filter(self, kernel, bias=None):
        """Copy the kernel and bias of a convolution into the filter.

        Args:
            kernel: `(3, 3, f, features)`.
            bias: `(features,)`. The default is zeros.
        """
        self.kernel.assign(kernel)
        self.bias.assign(ops.zeros(self.bias.shape) if bias is None else bias)

    def transforms(self, activations, stride=None):
        """Return one affine transform per region, `(n, rows / stride, columns / stride, 2, 3)`.

        A transform has the rows (a, b, shift in x) and (c, d, shift in y). A transform maps an
        offset from the center of the region's cell to another offset, both in cells.
        """
        stride = stride_of(self, stride)
        # Unit length makes transforms independent of the features' norm, as in the authors' code.
        hidden = self.hidden(scale_to_length(activations, 1.0))[:, ::stride, ::stride]
        numbers = self.localization(hidden)
        shape = ops.shape(numbers)[:3]
        if not self.rotation:
            numbers = ops.split(numbers, 4, axis=-1)
            zero = ops.zeros_like(numbers[0])
            numbers = ops.concatenate([numbers[0], zero, numbers[1], zero, *numbers[2:]], axis=-1)
        return ops.reshape(numbers, (*shape, 2, 3))

    def call(self, activations, stride=None):
        stride = stride_of(self, stride)
        if activations.shape[0] == 0:  # TensorFlow's convolutions fail on a batch without images
            spec = self.compute_output_spec(activations, stride)
            return Regions(*(ops.zeros(part.shape, part.dtype) for part in spec))
        transforms = self.transforms(activations, stride)
        patches = self.resampling(activations, transforms, stride=stride)
        images, rows, columns = ops.shape(transforms)[:3]
        inputs = BLOCK * BLOCK * self.kernel.shape[2]
        patches = ops.reshape(patches, (images, rows * columns, inputs))
        kernel = ops.reshape(ops.cast(self.kernel, patches.dtype), (inputs, self.kernel.shape[3]))
        features = ops.matmul(patches, kernel) + ops.cast(self.bias, patches.dtype)
        return Regions(
            features=self.activation(features),
            boxes=self._boxes(transforms, ops.shape(activations)[1:3], stride),
            mask=ops.ones((images, rows * columns), dtype="bool"),
        )

    def compute_output_spec(self, activations, stride=None):
        stride = stride_of(self, stride)
        features = self.features or activations.shape[-1]
        return regions_spec(self, activations.shape[0], kept_cells(activations, stride), features)

    def _boxes(self, transforms, size, stride):
        """Return corners `(n, r, 4, 2)` of the moved anchor boxes, relative (0..1) to the map."""
        images, rows, columns = ops.shape(transforms)[:3]
        corners = transformed(
            ops.convert_to_tensor(CORNERS, dtype=transforms.dtype) * (BLOCK / 2),
            anchor_centers(*size, stride, transforms.dtype),
            ops.reshape(transforms, (images, rows * columns, 2, 3)),
        )
        extent = ops.cast(ops.stack([size[1], size[0]]), transforms.dtype)
        return ops.cast((corners + 0.5) / extent, "float32")

    def _numbers(self):
        scale = self.anchor_scale
        return [scale, 0, 0, 0, scale, 0] if self.rotation else [scale, 0, scale, 0]

    def _first_transform(self, shape, dtype=None):
        return ops.convert_to_tensor(self._numbers(), dtype=dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "stride": self.stride,
            "anchor_scale": self.anchor_scale,
            "rotation": self.rotation,
            "border": self.border,
            "features": self.features,
            "activation": keras.activations.serialize(self.activation),
            "localization_width": self.localization_width,
        }


def _center_filter(shape, dtype=None):
    """Initialize a filter that returns the center point of its block."""
    center = ops.reshape(ops.arange(BLOCK * BLOCK) == BLOCK * BLOCK // 2, (BLOCK, BLOCK, 1, 1))
    return ops.cast(center, dtype) * ops.eye(*shape[2:], dtype=dtype)
