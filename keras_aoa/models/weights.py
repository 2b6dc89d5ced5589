"""Weights of a captioner in one file: named arrays and JSON metadata, without executable code."""

import hashlib
import json
import os
import re

import numpy as np

from keras_aoa.models.image_inputs import IMAGE_LAYERS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write


def save_arrays(path, arrays, metadata, before_replacing=lambda: None):
    """Write arrays and their metadata to a temporary file, then rename it atomically.

    Args:
        path: File to write, `.npz`.
        arrays: NumPy arrays by name.
        metadata: JSON-serializable dictionary.
        before_replacing: Function that is called after the temporary file is written and before it
            is renamed.
    """
    with atomic_write(path) as temporary:
        with open(temporary, "wb") as file:
            # The key of the metadata is "facts" because files of earlier versions use it.
            np.savez(file, facts=np.array(json.dumps(metadata)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        before_replacing()


def load_arrays(path):
    """Read a file written by `save_arrays`.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(arrays.pop("facts")))
        if not isinstance(metadata, dict):
            raise ValueError("metadata is not a dictionary")
        return arrays, metadata
    except FileNotFoundError:
        raise UserError(f"{path}: expected saved weights, found no file.") from None
    except Exception as error:  # NumPy raises many types of errors for damaged bytes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected saved weights, received a damaged file ({reason}); "
            "restore it or train again."
        ) from None


def named_variables(prefix, variables):
    """Name variables independently of the models that the process built earlier."""
    # Keras numbers models and layers. The names of optimizer variables contain these numbers.
    names = [re.sub(r"_\d+(?=_|$)", "", variable.name) for variable in variables]
    return {f"{prefix}/{i:03d}/{names[i]}": variable for i, variable in enumerate(variables)}


def captioner_variables(captioner, with_backbone):
    """Return a captioner's variables by name. Include the backbones if `with_backbone` is true."""
    parts = {
        "cell": captioner.cell,
        **{name: getattr(captioner, name) for name in IMAGE_LAYERS},
        "regions": captioner.regions,
    }
    if with_backbone:
        parts |= {"backbone": captioner.backbone, "region_backbone": captioner.region_backbone}
    named = {}
    for name, part in parts.items():
        if part is not None:
            named |= named_variables(name, part.variables)
    return named


def values(variables):
    """Return the values of named variables as NumPy arrays."""
    return {name: np.asarray(v.value) for name, v in variables.items()}


def assign(variables, arrays, source):
    """Set named variables to saved arrays.

    Raises:
        UserError: an array is missing or has the wrong shape.
    """
    for name, variable in variables.items():
        if name not in arrays:
            raise UserError(
                f"{source}: expected weights {name}, found none; check that the file belongs to "
                "this model."
            )
        if arrays[name].shape != tuple(variable.shape):
            raise UserError(
                f"{source}: expected {name} of shape {tuple(variable.shape)}, received "
                f"{arrays[name].shape}; check that the file belongs to this vocabulary and "
                "backbone."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def file_digest(path):
    """Return the first 16 digits of a file's SHA-256, by which a replaced backbone is detected."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
