"""A small network for drawn scenes, and two layers that backbones contain."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="keras_aoa")
class ImagePreprocessing(layers.Layer):
    """Converts RGB pixels in 0..255 to the input range that a network was trained with.

    Args:
        mode: `caffe` (BGR minus the ImageNet mean), `tf` (-1..1), `torch` (0..1, then
            normalized by ImageNet's mean and deviation), `unit` (0..1) or `raw` (unchanged).
    """

    def __init__(self, mode, **kwargs):
        super().__init__(**kwargs)
        self.mode = mode

    def call(self, pixels):
        pixels = ops.convert_to_tensor(pixels)
        if self.mode == "raw":
            return pixels
        if self.mode == "unit":
            return pixels / 255.0
        return keras.applications.imagenet_utils.preprocess_input(
            pixels, data_format="channels_last", mode=self.mode
        )

    def compute_output_shape(self, pixels_shape):
        return pixels_shape

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="keras_aoa")
class Coordinates(layers.Layer):
    """Appends the coordinates x and y of each cell, in -1..1, to the features of the cell.

    Source: Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv
    solution", NeurIPS 2018, arXiv:1807.03247.
    """

    def call(self, activations):
        images, rows, columns = ops.shape(activations)[:3]
        y, x = ops.meshgrid(self._centers(rows), self._centers(columns), indexing="ij")
        centers = ops.broadcast_to(ops.stack([x, y], axis=-1), (images, rows, columns, 2))
        return ops.concatenate([activations, ops.cast(centers, activations.dtype)], axis=-1)

    def compute_output_shape(self, activations_shape):
        return (*activations_shape[:-1], activations_shape[-1] + 2)

    def _centers(self, count):
        return (2 * ops.arange(count, dtype="float32") + 1) / ops.cast(count, "float32") - 1


def scenes_backbone(channels=(32, 64, 128, 192)):
    """Build a small network for drawn scenes. The network has random weights and needs training.

    The network maps an image of 96x96 pixels to 12x12 regions.

    A region has a receptive field of 47 pixels, the size of a big object. Captions use "left" and
    "right" for objects that are further apart than 47 pixels. The last layer therefore also
    receives the coordinates of its cells. The network uses batch normalization. With group
    normalization, the network did not learn shapes within four epochs.
    """
    pixels = keras.Input((None, None, 3), name="pixels")
    x = ImagePreprocessing("tf")(pixels)
    for index, width in enumerate(channels):
        strides = 2 if index < 3 else 1
        padding = "same"
        if index == 2:
            # On maps of even size, "same" pads only the bottom and the right. Over three layers,
            # this would shift the receptive field by 0.5 + 1 + 2 pixels. Padding the top and the
            # left in the third layer reduces the shift to 0.5 pixels.
            x, padding = layers.ZeroPadding2D(((1, 0), (1, 0)))(x), "valid"
        if strides == 1:
            x = Coordinates()(x)
        x = layers.Conv2D(
            width,
            3,
            strides=strides,
            dilation_rate=1 if strides == 2 else 2,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu")(x)
    vector = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, {"map": x, "vector": vector}, name="scenes")
