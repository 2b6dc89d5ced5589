"""A small network for drawn scenes, and the layers that Keras lacks for it and for others."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="keras_aoa")
class ImagePreprocessing(layers.Layer):
    """RGB pixels, 0..255, as a network was trained to see them.

    Args:
        mode: `caffe` (BGR minus the ImageNet mean), `tf` (-1..1), `torch` (0..1, then ImageNet
            mean and deviation), `unit` (0..1) or `raw` (unchanged).
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
    """Appends to each cell of a map its place, x and y in -1..1.

    Source: Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv
    solution", NeurIPS 2018, arXiv:1807.03247.
    """

    def call(self, activations):
        images, rows, columns = ops.shape(activations)[:3]
        y, x = ops.meshgrid(self._places(rows), self._places(columns), indexing="ij")
        places = ops.broadcast_to(ops.stack([x, y], axis=-1), (images, rows, columns, 2))
        return ops.concatenate([activations, ops.cast(places, activations.dtype)], axis=-1)

    def compute_output_shape(self, activations_shape):
        return (*activations_shape[:-1], activations_shape[-1] + 2)

    def _places(self, count):
        return (2 * ops.arange(count, dtype="float32") + 1) / ops.cast(count, "float32") - 1


def scenes_backbone(channels=(32, 64, 128, 192)):
    """A small network for drawn scenes, trained from scratch: 96 pixels to 12x12 regions.

    Its last layer is told where it is, since left and right are said of things further apart
    than a region sees; that is 47 pixels, a big object. Batch normalization, since with group
    normalization no shapes were learnt in four epochs.
    """
    pixels = keras.Input((None, None, 3), name="pixels")
    x = ImagePreprocessing("tf")(pixels)
    for index, width in enumerate(channels):
        strides = 2 if index < 3 else 1
        padding = "same"
        if index == 2:
            # Of an even map "same" pads the far sides alone, which would move what a region sees
            # by 0.5 + 1 + 2 pixels off its cell over three layers; this way it is half a pixel.
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
