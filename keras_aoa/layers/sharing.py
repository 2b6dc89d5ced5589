"""Copies a shared layer only once when Keras copies a model."""

import sys
import uuid

COPIERS = ("clone_model", "deserialize_keras_object", "load_model", "model_from_json")
KEY = "keras_aoa.copies"


def identity(layer):
    """Return the unique id of a layer, which is the same at each call."""
    if not hasattr(layer, "_identity"):
        layer._identity = uuid.uuid4().hex
    return layer._identity


def copy_once(cls, config):
    """Create a layer from its configuration, or return the copy that this model already has.

    Keras copies a model layer by layer. If two layers share a third layer, only `load_model` copies
    the shared layer once. `clone_model`, `Model.from_config` and `model_from_json` would copy the
    shared layer twice. The configuration of a shared layer therefore contains the layer's
    `identity`, so that this function can find the first copy. This function forgets the first copy
    when the outermost function that is copying a model returns. The next copy of the model
    therefore has its own layers.

    Args:
        cls: Class of the layer.
        config: Arguments of the class, and optionally the identity as `shared_object_id`.

    Returns:
        The layer.

    Raises:
        ValueError: a `clone_function` changed the layer's configuration in only one of the layers
            that contain it.
    """
    config = dict(config)
    original = config.pop("shared_object_id", None)
    if original is None:
        return cls(**config)
    copies = _running_copy().setdefault(KEY, {})
    if original not in copies:
        copies[original] = cls(**config), config
    layer, first = copies[original]
    for name, value in config.items():
        # The form of other values can differ between two equal configurations.
        if isinstance(value, (str, int, float)) and value != first.get(name):
            raise ValueError(
                f"{cls.__name__}: `{name}` must be equal wherever a copied model contains this "
                f"layer; received {first.get(name)!r} and {value!r}. Change it in the original "
                "model, or in all configurations that contain the layer."
            )
    return layer


def running_frames():
    """Yield the frames of the running functions, the innermost first."""
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


def _running_copy():
    """Return the local variables of the outermost running function that copies a model."""
    outermost = None
    for frame in running_frames():
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if name == "__init__":
            break  # layers that a constructor copies belong only to the new object
        if name == "from_config" or (name in COPIERS and module.startswith("keras.")):
            outermost = frame
    return outermost.f_locals
