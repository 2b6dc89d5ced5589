"""Weights of a captioner as one file: arrays by name, nothing that is executed."""

import hashlib
import json
import os
import re

import numpy as np

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write


def save_arrays(path, arrays, facts, before_replacing=lambda: None):
    """Write arrays and a json of facts about them temporary, then rename: never half a file.

    `before_replacing` is called when the new file is whole and the old one still there.
    """
    with atomic_write(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        before_replacing()


def load_arrays(path):
    """Read what `save_arrays` wrote: the arrays by name, and the facts.

    Raises:
        UserError: no such file, or a damaged one.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(str(arrays.pop("facts")))
        if not isinstance(facts, dict):
            raise ValueError("facts that are none")
        return arrays, facts
    except FileNotFoundError:
        raise UserError(f"{path}: expected saved weights, found no file.") from None
    except Exception as error:  # NumPy raises half a dozen kinds on damaged bytes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected saved weights, received a damaged file ({reason}); "
            "restore it or train again."
        ) from None


def named_variables(prefix, variables):
    """Variables by names that do not depend on how many models the process made before."""
    # Keras numbers models and layers, and an optimizer's variables have these names in theirs.
    names = [re.sub(r"_\d+(?=_|$)", "", variable.name) for variable in variables]
    return {f"{prefix}/{i:03d}/{names[i]}": variable for i, variable in enumerate(variables)}


def captioner_variables(captioner, with_backbone):
    """The captioner's weights by name; those of a backbone that is never trained are left out."""
    parts = {
        "cell": captioner.cell,
        "image_projection": captioner.image_projection,
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
    """Arrays of named variables."""
    return {name: np.asarray(v.value) for name, v in variables.items()}


def assign(variables, arrays, source):
    """Set named variables to saved arrays.

    Raises:
        UserError: an array is missing or has another shape.
    """
    for name, variable in variables.items():
        if name not in arrays:
            raise UserError(f"{source}: expected weights {name}, found none; another model's file?")
        if arrays[name].shape != tuple(variable.shape):
            raise UserError(
                f"{source}: {name} should have shape {tuple(variable.shape)}, received "
                f"{arrays[name].shape}; another vocabulary's or backbone's file?"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def file_digest(path):
    """Short SHA-256 of a file, to tell another backbone."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
