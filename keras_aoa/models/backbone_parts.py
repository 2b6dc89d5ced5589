"""Parts of a backbone that some region layers need separately."""

import keras
from keras import layers

from keras_aoa.models.scenes_network import ImagePreprocessing
from keras_aoa.utils.errors import UserError


def check_image_size(backbone, size):
    """Check that a backbone accepts images of `size` pixels and returns a map with a cell.

    Raises:
        UserError: the backbone has another input size, or the images are too small.
    """
    fixed = backbone.input_shape[1]
    if fixed not in (None, size):
        raise UserError(
            f"image_size: expected {fixed}, the size of the backbone's input, received {size}; set "
            f"image_size to {fixed}, or choose another backbone."
        )
    try:
        cells = backbone.compute_output_spec(keras.KerasTensor((1, size, size, 3)))["map"].shape
        too_small = 0 in cells
    except ValueError:  # the size of a layer's output would be 0 or less
        too_small = True
    if too_small:
        raise UserError(
            f"image_size: the backbone's layers need larger images, received {size}; increase "
            "image_size, or choose another backbone."
        )


def map_filter(backbone):
    """Return the 3x3 convolution that follows the map in a backbone built with `before_map`.

    Returns:
        The convolution layer, with its kernel, bias and activation.

    Raises:
        UserError: no 3x3 convolution follows the map, or several 3x3 convolutions follow it.
    """
    network = _network(backbone)
    activations = network.outputs[0] if network is not backbone else backbone.output["map"]
    filters = [
        layer for layer in network.layers if is_block_filter(layer) and layer.input is activations
    ]
    if len(filters) != 1:
        raise UserError(
            f"transformer_filter: expected one 3x3 convolution after the map of {network.name}, "
            f"found {len(filters)}; set transformer_filter to 'own'."
        )
    return filters[0]


def convolutional_part(backbone):
    """Copy a backbone's layers up to the map, with weights. The copy accepts images of any size."""
    network = _network(backbone)
    if network is backbone:
        activations = keras.Model(backbone.input, backbone.output["map"])
    else:
        activations = keras.Model(network.input, network.outputs[0])
    copy = keras.models.clone_model(activations, input_tensors=keras.Input((None, None, 3)))
    copy.set_weights(activations.get_weights())
    if network is backbone:
        return copy
    pixels = keras.Input((None, None, 3), name="pixels")
    mode = next(layer.mode for layer in backbone.layers if isinstance(layer, ImagePreprocessing))
    return keras.Model(pixels, copy(ImagePreprocessing(mode)(pixels)), name="region_backbone")


def _network(backbone):
    """Return the network inside a backbone, or the backbone itself if it contains no network."""
    inside = (layer for layer in backbone.layers if isinstance(layer, keras.Model))
    return next(inside, backbone)


def is_block_filter(layer):
    """Whether a layer is a plain 3x3 convolution that keeps the map's size."""
    return (
        type(layer) is layers.Conv2D
        and layer.kernel_size == (3, 3)
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and layer.groups == 1
    )
