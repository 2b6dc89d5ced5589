"""Convolutional networks that turn pixels into an activation map and one image vector.

Every backbone is one `keras.Model` from RGB pixels, 0..255, `(n, rows, columns, 3)`, to
`{"map": (n, rows, columns, f), "vector": (n, d)}`. Its own preprocessing is inside, so a saved
backbone cannot be fed the wrong way.
"""

import os
import pathlib
import zipfile
from dataclasses import dataclass

import keras
from keras import layers

from keras_aoa.models.backbone_parts import is_block_filter
from keras_aoa.models.scenes_network import ImagePreprocessing, scenes_backbone
from keras_aoa.utils.errors import UserError, is_lost_worker
from keras_aoa.utils.text import closest

PRETRAINED_SCENES = "scenes-pretrained"
PREPROCESSINGS = ("caffe", "tf", "torch", "unit", "raw")

# Preprocessing that each family of keras.applications was trained with; the others have it inside.
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
    """Which network, and which of its layers.

    `name` is `scenes` (a small one, trained from scratch), a network of keras.applications such
    as `VGG16`, or the path of a `.keras` file. `preprocessing` is for files alone. An empty
    `map_layer` is the last layer with an activation map (VGG16: conv5_3); an empty
    `vector_layer` is the mean of the map (VGG16: fc7). `before_map` hands on what the map's
    layer takes (VGG16: conv5_2) in place of what it gives.
    """

    name: str
    image_size: int
    preprocessing: str = ""
    map_layer: str = ""
    vector_layer: str = ""
    weights: str = "imagenet"
    before_map: bool = False


def make_backbone(settings):
    """Build or load the backbone that `BackboneSettings` name.

    Raises:
        UserError: an unknown name, a missing or unfit file, weights that cannot be fetched.
    """
    if settings.name == "scenes":
        if settings.before_map:
            raise UserError(
                "transformer_filter: the map of 'scenes' is no convolution's; set it to 'own'."
            )
        return scenes_backbone()
    if settings.name.endswith(".keras") or os.sep in settings.name:
        return _from_file(settings)
    return _from_applications(settings)


def load_backbone(path):
    """Load a backbone that was saved by `model.save`; nothing in the file is executed.

    In Keras's safe mode: of layers only Keras's own and those that this process has registered,
    no Python in them, and no files named by them.

    Raises:
        UserError: no `.keras` file, a damaged one, or one that asks for more.
    """
    try:
        # Keras would take other formats too, with older rules.
        if not str(path).endswith(".keras") or not zipfile.is_zipfile(path):
            raise ValueError("another format, or a damaged file")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a file from elsewhere can make Keras stumble anywhere
        if is_lost_worker(error):  # of which no file is the cause
            raise
        # The innermost of the errors that Keras wraps into each other says what is wrong.
        reason = _first_line(str(error).rpartition("Exception encountered: ")[2])
        raise UserError(
            f"{path}: expected a backbone in Keras's .keras format, received a file that does "
            f"not load ({reason}); give another file."
        ) from error


def is_pretrained(name, weights):
    """Whether the backbone of a name and `weights` setting brings weights to start from.

    A `.keras` file counts as pretrained.
    """
    if name == PRETRAINED_SCENES:
        return True
    return name != "scenes" and (name.endswith(".keras") or weights.lower() not in ("none", ""))


def application_names():
    """Networks of keras.applications, by the names it gives them."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def _from_applications(settings):
    names = application_names()
    by_lower_name = {name.lower(): name for name in names}
    if settings.name.lower() not in by_lower_name:
        raise UserError(
            f"backbone: expected 'scenes', a network of keras.applications or a .keras file, "
            f"received {settings.name!r}. {closest(settings.name, names)}"
        )
    if settings.preprocessing:
        raise UserError(
            f"backbone: {settings.name} brings its own preprocessing, received "
            f"{settings.preprocessing!r}; leave the setting out."
        )
    name = by_lower_name[settings.name.lower()]
    is_vgg = name.startswith("VGG")
    last = "5_conv3" if name == "VGG16" else "5_conv4"
    map_layer = settings.map_layer or ("block" + last if is_vgg else "")
    # fc7, as the authors call it, exists at its own input size alone.
    vector_layer = settings.vector_layer or ("fc2" if is_vgg else "mean")
    with_top = vector_layer.startswith("fc")
    if with_top and settings.image_size != 224:
        raise UserError(
            f"backbone: {name}'s {vector_layer} needs images of 224 pixels, received "
            f"image_size={settings.image_size}; set it to 224 or vector_layer to 'mean'."
        )
    weights = settings.weights if is_pretrained(settings.name, settings.weights) else None
    if weights not in (None, "imagenet") and not pathlib.Path(weights).is_file():
        raise UserError(
            f"backbone_weights: expected 'imagenet', 'none' or a file, received {weights!r}, "
            "which does not exist."
        )
    shape = (224, 224, 3) if with_top else (None, None, 3)
    try:
        network = getattr(keras.applications, name)(
            include_top=with_top, weights=weights, input_shape=shape
        )
    except Exception as error:  # what a download raises depends on where it breaks off
        raise UserError(
            f"backbone: {name} with weights {weights!r} could not be made "
            f"({_first_line(error)}); for a machine without network give a weights file."
        ) from error
    mode = _application_mode(name)
    return _with_outputs(network, mode, map_layer, vector_layer, settings.before_map)


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
            f"received {settings.preprocessing!r}; say what {settings.name} was trained with."
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
    """One model from pixels to the named layers of a network, its preprocessing included."""
    if not isinstance(network, keras.Model) or len(getattr(network, "inputs", None) or ()) != 1:
        raise UserError(
            f"backbone: expected a functional or sequential Keras model of one input, received "
            f"{type(network).__name__} {network.name!r}; wrap it in keras.Model(pixels, maps)."
        )
    made = _output(network, map_layer, 4) if map_layer else _last_map(network)
    taken = _input_of_convolution(network, made) if before_map else made
    vector = made if vector_layer == "mean" else _output(network, vector_layer, 2)
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    activations, vector = keras.Model(network.input, [taken, vector], name=network.name)(
        ImagePreprocessing(mode)(pixels)
    )
    if vector_layer == "mean":
        vector = layers.GlobalAveragePooling2D()(vector)
    return keras.Model(pixels, {"map": activations, "vector": vector}, name="backbone")


def _input_of_convolution(network, made):
    """What the 3x3 convolution takes that gives the map `made`."""
    layer = next(layer for layer in network.layers if layer.output is made)
    if not is_block_filter(layer):
        raise UserError(
            f"transformer_filter: the map's layer {layer.name} of {network.name} is no 3x3 "
            "convolution with a stride of 1; name one as map_layer, or set transformer_filter to "
            "'own'."
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
    """Output of a layer: an activation map, of rank 4, or a vector, of rank 2."""
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
            "name another layer."
        )
    return output


def _first_line(error):
    return str(error).strip().split("\n")[0][:200]
