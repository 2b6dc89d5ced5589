"""Folds batch normalization into the convolutions before it, so that inference is faster.

At inference, batch normalization multiplies each channel by a number and adds another number.
Scaled kernels and a bias in the convolution have the same effect as batch normalization. The
outputs of the original and the folded network are equal up to rounding.
"""

import keras
import numpy as np

from keras_aoa.models.image_inputs import IMAGE_LAYERS

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def with_folded_networks(captioner):
    """Return a captioner with shared weights and faster networks, which cannot be trained.

    Args:
        captioner: Built `Captioner`.
    """
    names = (name for name in captioner.get_config() if hasattr(captioner, name))
    parts = {name: getattr(captioner, name) for name in names}
    for name in ("backbone", "region_backbone"):
        if parts[name] is not None:
            parts[name] = fold_batch_normalization(parts[name])
    made = type(captioner)(**{**parts, "dtype": captioner.dtype_policy})
    for name in IMAGE_LAYERS:
        setattr(made, name, getattr(captioner, name))
    made.built = captioner.built
    return made


def fold_batch_normalization(network):
    """Return a network with the same outputs at inference, but with fewer layers.

    Layers that need no change are shared with `network`, which is not modified. Nested networks are
    folded, too. A batch normalization is not folded if other layers also use its convolution's
    output.

    Args:
        network: Functional `keras.Model`.
    """
    folded = {id(layer): norm for layer, norm in pairs(network)}
    removed = {id(norm) for norm in folded.values()}

    def make(layer):
        if id(layer) in folded:
            return fold(layer, folded[id(layer)])
        return fold_batch_normalization(layer) if is_functional(layer) else layer

    originals = {}

    def remember(layer):
        made = make(layer)
        originals[id(made)] = layer
        return made

    def call(made, *args, **kwargs):
        if id(originals[id(made)]) in removed:
            return args[0]
        return made(*args, **kwargs)

    return keras.models.clone_model(network, clone_function=remember, call_function=call)


def pairs(network):
    """Yield each convolution with the batch normalization that can be folded into it."""
    for layer in network.layers:
        if not isinstance(layer, keras.layers.BatchNormalization) or len(layer._inbound_nodes) != 1:
            continue
        before = layer.input._keras_history.operation
        if (
            isinstance(before, CONVOLUTIONS)
            and before.activation is keras.activations.linear
            and before.data_format == "channels_last"
            and len(before._inbound_nodes) == 1
            and len(before._outbound_nodes) == 1
        ):
            yield before, layer


def fold(convolution, norm):
    """Return a convolution that includes the arithmetic of a batch normalization."""
    by_filter = isinstance(convolution, keras.layers.DepthwiseConv2D)
    # Zeros, because it takes longer to draw random kernels, which are replaced below.
    initializer = "depthwise_initializer" if by_filter else "kernel_initializer"
    config = {**convolution.get_config(), "use_bias": True, initializer: "zeros"}
    made = type(convolution).from_config(config)
    made.build(convolution.input.shape)
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance, "float64") + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    shift = -np.asarray(norm.moving_mean) * scale
    if norm.center:
        shift = shift + np.asarray(norm.beta)
    kernel = np.asarray(convolution.kernel)
    by_kernel = scale
    if by_filter:
        by_kernel = scale.reshape(kernel.shape[2:])
    if convolution.use_bias:
        shift = shift + np.asarray(convolution.bias) * scale
    made.kernel.assign(kernel * by_kernel)
    made.bias.assign(shift)
    return made


def is_functional(layer):
    """Return whether a layer is a network whose layers and connections are known."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "operations", ()))
