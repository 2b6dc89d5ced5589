"""Areas that a network aims itself: blocks of a map, moved by an affine transform of their own.

Source: Pedersoli et al., arXiv:1612.01033, section 3.3, "spatial transformers". Axis letters: n
image, r region, f feature. Lengths are in cells of the map.
"""

import keras
from keras import ops

from keras_aoa.layers.products import wide_dtype
from keras_aoa.layers.regions import (
    CORNERS,
    Regions,
    kept_cells,
    regions_spec,
    require_positive,
    stride_of,
)
from keras_aoa.layers.resampling import (
    AffineResampling,
    anchor_centers,
    check_border,
    transformed,
)
from keras_aoa.layers.scaling import scale_to_length

BLOCK = 3  # cells on a side of an anchor box, and of the filter


@keras.saving.register_keras_serializable(package="keras_aoa")
class TransformerRegions(keras.layers.Layer):
    """Regions that a network aims: 3x3 anchor boxes, each moved by an affine transform of its own.

    Two convolutions, 3x3 and 1x1, regress a transform at every location. Over the moved box 3x3
    points of the map are interpolated, and a 3x3 filter makes the region's features of them. At
    first the filter takes the middle point alone: the regions are those of `GridRegions`.

    Args:
        stride: A region at cells 0, s, 2s … in both directions.
        anchor_scale: How much larger than 3x3 cells the boxes are at first.
        rotation: Whether a transform may rotate and shear; else it scales and shifts alone.
        border: What lies outside the map: `zero`, or `replicate` as in the authors' code.
        features: Features of a region; those of the map by default.
        activation: Of the filter; none by default.
        localization_width: Features between the two convolutions; those of the map by default.

    Call arguments:
        activations: `(n, rows, columns, f)`.
        stride: In place of the layer's own, for this call.

    Returns:
        `Regions`, row by row.

    Raises:
        ValueError: a stride below 1, a scale of 0 or less, another border, a map of another rank.

    Source: section 3.3; the anchors' scale at start, its last paragraph.
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
        # Zeros: at first every box is the anchor, scaled, whatever the image.
        self.localization = keras.layers.Conv2D(
            len(self._numbers()),
            1,
            kernel_initializer="zeros",
            bias_initializer=self._first_transform,
            dtype=wide_dtype(self.compute_dtype),  # as in AffineResampling
            **options,
        )
        self.localization.build((None, None, None, width))
        self.resampling = AffineResampling(BLOCK, self.border, dtype=self.dtype_policy)
        features = self.features or channels
        self.kernel = self.add_weight(
            shape=(BLOCK, BLOCK, channels, features),
            initializer=_middle_alone,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(features,), initializer="zeros", name="bias")
        self.built = True

    def set_filter(self, kernel, bias=None):
        """Start from another convolution's filter, `(3, 3, f, features)` and `(features,)`."""
        self.kernel.assign(kernel)
        self.bias.assign(ops.zeros(self.bias.shape) if bias is None else bias)

    def transforms(self, activations, stride=None):
        """The affine transform of each region, `(n, rows / s, columns / s, 2, 3)`.

        Rows (a, b, shift in x), (c, d, shift in y), about the region's cell, in cells.
        """
        stride = stride_of(self, stride)
        # The authors' code scales to 1, too: transforms answer to what is there, not how much.
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
        """Corners of the moved anchor boxes in 0..1 of the map, `(n, r, 4, 2)`."""
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


def _middle_alone(shape, dtype=None):
    """A filter that hands on the middle of its block."""
    middle = ops.reshape(ops.arange(BLOCK * BLOCK) == BLOCK * BLOCK // 2, (BLOCK, BLOCK, 1, 1))
    return ops.cast(middle, dtype) * ops.eye(*shape[2:], dtype=dtype)
