"""Stores the variables of a SavedModel in fewer bits, exactly or rounded."""

import uuid

import numpy as np
import tensorflow as tf

SMALLEST = 4096  # elements; storing a smaller weight in fewer bits saves too little
STORAGES = ("exact", "float16", "int8")


def stored(weights, storage="exact"):
    """Return the objects that a module must track, so that a SavedModel contains the weights.

    Large weights are stored in fewer bits, and converted back to float32 once, when the SavedModel
    is loaded. The variables in memory are also rounded, so that they equal the stored weights.

    Args:
        weights: Variables of a model that is exported and not trained afterwards.
        storage: One of `STORAGES`. `exact` stores a weight in float16 if float16 changes none of
            its numbers. Float16 changes no weight of the captioners that come with this package,
            except in their folded networks. `float16` rounds to float16, unless a number is too
            large. `int8` rounds to 8-bit multiples of a scale. Each row or each column of a weight
            has its own scale.
    """
    objects = []
    for number, weight in enumerate(weights):
        # Layers may have names that are not valid in a graph, such as `_bn1`.
        weight._handle_name = f"weights/{number}:0"
        parts = encode(weight.numpy(), storage)
        if parts is None:
            objects.append(weight)
            continue
        weight.assign(decode(parts))
        variables = [
            tf.Variable(part, trainable=False, name=f"stored/{number}/{index}")
            for index, part in enumerate(parts)
        ]
        objects += [*variables, StoredWeight(weight, variables)]
    return objects


def encode(values, storage):
    """Return the arrays from which `decode` computes a weight, or None to store it unchanged."""
    if values.dtype != np.float32 or values.size < SMALLEST:
        return None
    if storage == "int8":
        return quantize(values)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if storage == "exact":
        return (half,) if np.array_equal(half.astype(np.float32), values) else None
    # A number that is too large for float16 becomes infinite.
    return (half,) if np.isfinite(half).all() else None


def quantize(values):
    """Return 8-bit integers and scales. The product of both is close to `values`.

    The scales vary along the last axis or the axis before it, whichever makes the error smaller.
    For example, a convolution has a scale for each output, and an embedding matrix has a scale for
    each word.
    """
    candidates = []
    for axis in range(max(values.ndim - 2, 0), values.ndim):
        others = tuple(number for number in range(values.ndim) if number != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        integers = np.round(values / scale).astype(np.int8)
        candidates.append((float(np.square(integers * scale - values).sum()), integers, scale))
    return min(candidates, key=lambda candidate: candidate[0])[1:]


def decode(parts):
    """Return the float32 tensor that `parts` represent: their product."""
    first, *scales = (tf.cast(part, tf.float32) for part in parts)
    return first * scales[0] if scales else first


class StoredWeight(tf.saved_model.experimental.TrackableResource):
    """A float32 variable that a SavedModel stores in fewer bits.

    Args:
        variable: The variable that the exported functions capture.
        parts: Variables from which `decode` computes the numbers of `variable`.
    """

    def __init__(self, variable, parts):
        self._shape = variable.shape
        self._parts = parts
        # Different exports that one process loads must not share variables.
        self._name = f"{variable.name.split(':')[0]}-{uuid.uuid4()}"
        super().__init__()
        self._resource_handle = variable.handle

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=self._shape, shared_name=self._name)

    def _initialize(self):
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=decode(self._parts))
