"""Convolutional networks that turn pixels into an activation map and one image vector.

Every backbone is one `keras.Model`. The input of a backbone is RGB pixels `(n, rows, columns, 3)`
in 0..255. The output is a dictionary with the activation map `"map"` of shape
`(n, rows, columns, f)` and the image vector `"vector"` of shape `(n, d)`. The model includes
preprocessing, so a saved backbone always scales its input correctly.
"""

import functools
import os
import pathlib
import zipfile
from dataclasses import dataclass

import keras
from keras import layers

from keras_aoa.models.backbone_parts import is_block_filter
from keras_aoa.models.efficientnet_lite import LITE_NETWORKS, efficientnet_lite
from keras_aoa.models.scenes_network import ImagePreprocessing, scenes_backbone
from keras_aoa.utils.errors import UserError, is_lost_worker
from keras_aoa.utils.keras_settings import channels_last
from keras_aoa.utils.text import closest

PRETRAINED_SCENES = "scenes-pretrained"
PREPROCESSINGS = ("caffe", "tf", "torch", "unit", "raw")

# Preprocessing of networks in keras.applications, by family. All other networks preprocess pixels
# themselves.
APPLICATION_PREPROCESSING = {
    "VGG": "caffe",
    "ResNet": "caffe",
    "ResNetV2": "tf",
    "DenseNet": "torch",
    "Inception": "tf",
    "MobileNet": "tf",
    "MobileNetV3": "raw",
    "NASNet": "tf",
    "Xception": "tf",
}


@dataclass(frozen=True)
class BackboneSettings:
    """Selects a backbone network and its output layers.

    `name` is `scenes` (a small network, trained from scratch), a network of keras.applications such
    as `VGG16`, `EfficientNetLite0` (or 1, 2), or the path of a `.keras` file. `preprocessing`
    applies only to `.keras` files. An empty `map_layer` selects the last layer with an activation
    map (VGG16: conv5_3). An empty `vector_layer` selects the layer fc7 of VGG networks, and the
    mean of the map of other networks. If `before_map` is true, the map is the input of the map
    layer, not its output (VGG16: the output of conv5_2).
    """

    name: str
    image_size: int
    preprocessing: str = ""
    map_layer: str = ""
    vector_layer: str = ""
    weights: str = "imagenet"
    before_map: bool = False


def make_backbone(settings):
    """Build or load the backbone that `BackboneSettings` describe.

    Raises:
        UserError: the name is unknown, the file is missing or unsuitable, the package of weights is
            not installed, or the weights cannot be downloaded.
    """
    if settings.name == "scenes":
        if settings.before_map:
            raise UserError(
                "transformer_filter: expected a backbone whose map is the output of a 3x3 "
                "convolution, received 'scenes'; set transformer_filter to 'own'."
            )
        build = scenes_backbone
    elif settings.name.endswith(".keras") or os.sep in settings.name:
        build = functools.partial(_from_file, settings)
    else:
        build = functools.partial(_from_name, settings)
    with channels_last():
        return build()


def load_backbone(path):
    """Load a backbone saved by `model.save`, without executing code from the file.

    In safe mode, Keras loads only its own layers and layers registered in this process. In safe
    mode, Keras refuses a file that contains Python code or refers to other files.

    Raises:
        UserError: the file is not a `.keras` file, is damaged, or is unsafe.
    """
    try:
        # Keras also loads other formats, with weaker safety checks.
        if not str(path).endswith(".keras") or not zipfile.is_zipfile(path):
            raise ValueError("another format, or a damaged file")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # an untrusted file can raise any error in Keras
        if is_lost_worker(error):  # not caused by the file
            raise
        # Keras nests its errors; the innermost message names the cause.
        reason = _first_line(str(error).rpartition("Exception encountered: ")[2])
        raise UserError(
            f"{path}: expected a backbone in Keras's .keras format, received a file that does "
            f"not load ({reason}); give another file."
        ) from error


def check_floatx(backbone, source):
    """Check that the weights of a backbone have the dtype of Keras's `floatx`.

    Raises:
        UserError: the dtype of the weights differs from `floatx`, so that the first step would
            fail.
    """
    floatx = keras.config.floatx()
    dtypes = {weight.dtype for weight in backbone.weights}
    if dtypes & {"float32", "float64"} and floatx not in dtypes:
        expected = "float32" if "float32" in dtypes else "float64"
        raise UserError(
            f"{source}: expected Keras's floatx to be {expected}, as in the run's backbone, "
            f"received {floatx}; remove floatx from keras.json, or call "
            f"keras.config.set_floatx({expected!r}) first."
        )


def is_pretrained(name, weights):
    """Whether the settings `name` and `weights` of a backbone select pretrained weights.

    A `.keras` file counts as pretrained.
    """
    if name == PRETRAINED_SCENES:
        return True
    return name != "scenes" and (name.endswith(".keras") or weights.lower() not in ("none", ""))


def application_names():
    """Names of the networks in keras.applications."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def _from_name(settings):
    names = [*application_names(), *LITE_NETWORKS]
    by_lower_name = {name.lower(): name for name in names}
    if settings.name.lower() not in by_lower_name:
        raise UserError(
            f"backbone: expected 'scenes', a network of keras.applications, EfficientNetLite0 to 2 "
            f"or a .keras file, received {settings.name!r}. {closest(settings.name, names)}"
        )
    if settings.preprocessing:
        raise UserError(
            f"preprocessing: expected no value because {settings.name} includes its own "
            f"preprocessing, received {settings.preprocessing!r}; omit the setting."
        )
    name = by_lower_name[settings.name.lower()]
    is_vgg = name.startswith("VGG")
    last = "5_conv3" if name == "VGG16" else "5_conv4"
    map_layer = settings.map_layer or ("block" + last if is_vgg else "")
    # The layer fc2, which the paper calls fc7, exists only at the network's original input size.
    vector_layer = settings.vector_layer or ("fc2" if is_vgg else "mean")
    is_lite = name in LITE_NETWORKS
    with_top = vector_layer.startswith("fc") and not is_lite
    if with_top and settings.image_size != 224:
        raise UserError(
            f"backbone: {name}'s {vector_layer} needs images of 224 pixels, received "
            f"image_size={settings.image_size}; set image_size to 224 or vector_layer to 'mean'."
        )
    weights = settings.weights if is_pretrained(settings.name, settings.weights) else None
    if weights not in (None, "imagenet") and not pathlib.Path(weights).is_file():
        raise UserError(
            f"backbone_weights: expected 'imagenet', 'none' or a file, received {weights!r}, "
            "which does not exist."
        )
    network = efficientnet_lite(name, weights) if is_lite else _application(name, with_top, weights)
    mode = _application_mode(name)
    return _with_outputs(network, mode, map_layer, vector_layer, settings.before_map)


def _application(name, with_top, weights):
    shape = (224, 224, 3) if with_top else (None, None, 3)
    try:
        return getattr(keras.applications, name)(
            include_top=with_top, weights=weights, input_shape=shape
        )
    except Exception as error:  # a failed download can raise many types of errors
        raise UserError(
            f"backbone: expected to build {name} with weights {weights!r}, received an error "
            f"({_first_line(error)}); without a network connection, set backbone_weights to a file."
        ) from error


def _application_mode(name):
    family = max(
        (family for family in APPLICATION_PREPROCESSING if _is_of(name, family)),
        key=len,
        default=None,
    )
    return APPLICATION_PREPROCESSING.get(family, "raw")


def _is_of(name, family):
    if family.endswith(("V2", "V3")):
        return name.startswith(family[:-2]) and family[-2:] in name
    return name.startswith(family)


def _from_file(settings):
    if settings.preprocessing not in PREPROCESSINGS:
        raise UserError(
            f"preprocessing: a backbone from a file needs one of {', '.join(PREPROCESSINGS)}, "
            f"received {settings.preprocessing!r}; set the preprocessing that {settings.name} was "
            "trained with."
        )
    if not pathlib.Path(settings.name).is_file():
        raise UserError(
            f"backbone: expected a .keras file, received {settings.name}, which does not exist."
        )
    return _with_outputs(
        load_backbone(settings.name),
        settings.preprocessing,
        settings.map_layer,
        settings.vector_layer or "mean",
        settings.before_map,
    )


def _with_outputs(network, mode, map_layer, vector_layer, before_map):
    """Build a model that preprocesses pixels and returns a map and a vector of a network."""
    if not isinstance(network, keras.Model) or len(getattr(network, "inputs", None) or ()) != 1:
        raise UserError(
            f"backbone: expected a functional or sequential Keras model with one input, received "
            f"{type(network).__name__} {network.name!r}; wrap it in keras.Model(pixels, maps)."
        )
    layer_map = _output(network, map_layer, 4) if map_layer else _last_map(network)
    activations = _input_of_convolution(network, layer_map) if before_map else layer_map
    vector = layer_map if vector_layer == "mean" else _output(network, vector_layer, 2)
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    activations, vector = keras.Model(network.input, [activations, vector], name=network.name)(
        ImagePreprocessing(mode)(pixels)
    )
    if vector_layer == "mean":
        vector = layers.GlobalAveragePooling2D()(vector)
    return keras.Model(pixels, {"map": activations, "vector": vector}, name="backbone")


def _input_of_convolution(network, layer_map):
    """Return the input of the 3x3 convolution whose output is `layer_map`."""
    layer = next(layer for layer in network.layers if layer.output is layer_map)
    if not is_block_filter(layer):
        raise UserError(
            f"transformer_filter: expected a 3x3 convolution with stride 1 as the map layer, "
            f"received layer {layer.name} of {network.name}; set map_layer to such a convolution, "
            "or transformer_filter to 'own'."
        )
    return layer.input


def _last_map(network):
    for layer in reversed(network.layers):
        if len(getattr(layer.output, "shape", ())) == 4:
            return layer.output
    raise UserError(
        f"backbone: {network.name} has no layer with an activation map (batch, rows, columns, "
        "features); give another network."
    )


def _output(network, name, rank):
    """Return a layer's output. The output must have `rank` axes: 4 for a map, 2 for a vector."""
    names = [layer.name for layer in network.layers]
    if name not in names:
        raise UserError(f"backbone: {network.name} has no layer {name!r}. {closest(name, names)}")
    output = network.get_layer(name).output
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != rank:
        setting = {4: "map_layer", 2: "vector_layer"}[rank]
        axes = {4: "(batch, rows, columns, features)", 2: "(batch, features)"}[rank]
        raise UserError(
            f"{setting}: expected a layer of shape {axes}, received {name!r} of shape {shape}; "
            "choose another layer."
        )
    return output


def _first_line(error):
    return str(error).strip().split("\n")[0][:200]
