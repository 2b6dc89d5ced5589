"""Convolutional networks that turn pixels into an activation map and one image vector.

Every backbone is one `keras.Model` from RGB pixels, 0..255, `(n, rows, columns, 3)`, to
`{"map": (n, rows, columns, f), "vector": (n, d)}`. Its own preprocessing is inside, so a saved
backbone cannot be fed the wrong way.
"""

import os
import pathlib
from dataclasses import dataclass

import keras
from keras import layers, ops

from keras_aoa.errors import UserError
from keras_aoa.suggestions import closest

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
    `vector_layer` is the mean of the map (VGG16: fc7).
    """

    name: str
    image_size: int
    preprocessing: str = ""
    map_layer: str = ""
    vector_layer: str = ""
    weights: str = "imagenet"


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


def make_backbone(settings):
    """Build or load the backbone that `BackboneSettings` name.

    Raises:
        UserError: an unknown name, a missing or unfit file, weights that cannot be fetched.
    """
    if settings.name == "scenes":
        return scenes_backbone()
    if settings.name.endswith(".keras") or os.sep in settings.name:
        return _from_file(settings)
    return _from_applications(settings)


def load_backbone(path):
    """Load a backbone that was saved by `model.save`; nothing in the file is executed."""
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError) as error:
        raise UserError(
            f"{path}: expected a backbone in Keras's .keras format, received a file that does "
            f"not load ({_first_line(error)}); give another file."
        ) from error


def scenes_backbone(channels=(32, 64, 128, 192)):
    """A small network for drawn scenes, trained from scratch: 96 pixels to 12x12 regions.

    Its last layer is told where it is, since left and right are said of things further apart
    than a region sees; that is 47 pixels, a big object. Batch normalisation, since with group
    normalisation no shapes were learnt in four epochs.
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


def is_pretrained(name, weights):
    """Whether the backbone of a name and `weights` setting brings weights to start from.

    A `.keras` file counts as pretrained.
    """
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
    return _with_outputs(network, _application_mode(name), map_layer, vector_layer)


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
    )


def _with_outputs(network, mode, map_layer, vector_layer):
    """One model from pixels to the named layers of a network, its preprocessing included."""
    if not isinstance(network, keras.Model) or len(getattr(network, "inputs", None) or ()) != 1:
        raise UserError(
            f"backbone: expected a functional or sequential Keras model of one input, received "
            f"{type(network).__name__} {network.name!r}; wrap it in keras.Model(pixels, maps)."
        )
    outputs = [_output(network, map_layer, 4) if map_layer else _last_map(network)]
    if vector_layer != "mean":
        outputs.append(_output(network, vector_layer, 2))
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    features = keras.Model(network.input, outputs, name=network.name)(
        ImagePreprocessing(mode)(pixels)
    )
    features = features if isinstance(features, list | tuple) else [features]
    vector = features[1] if len(features) > 1 else layers.GlobalAveragePooling2D()(features[0])
    return keras.Model(pixels, {"map": features[0], "vector": vector}, name="backbone")


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
