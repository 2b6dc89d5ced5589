"""Stores the variables of a SavedModel in 16 bits if 16 bits represent their values exactly."""

import uuid

import numpy as np
import tensorflow as tf

SMALLEST = 4096  # elements; storing a smaller weight in 16 bits saves too little


def stored(weights):
    """Return the objects that a module must track, so that a SavedModel contains the weights.

    A weight is stored in float16 if float16 changes none of its numbers. This is the case for the
    captioners that come with this package. The weight is converted back to float32 once, when the
    SavedModel is loaded.

    Args:
        weights: Variables of a model that is exported and not trained afterwards.
    """
    objects = []
    for number, weight in enumerate(weights):
        # Layers may have names that are not valid in a graph, such as `_bn1`.
        weight._handle_name = f"weights/{number}:0"
        if fits_in_half(weight.numpy()):
            half = tf.Variable(tf.cast(weight, tf.float16), trainable=False, name=f"half/{number}")
            objects += [half, HalfWeight(weight, half)]
        else:
            objects.append(weight)
    return objects


def fits_in_half(values):
    """Return whether a float32 array is large and can be stored in float16 without rounding."""
    if values.dtype != np.float32 or values.size < SMALLEST:
        return False
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16).astype(np.float32), values)


class HalfWeight(tf.saved_model.experimental.TrackableResource):
    """A float32 variable that a SavedModel stores in float16.

    Args:
        variable: The variable that the exported functions capture.
        half: Variable with the same numbers in float16.
    """

    def __init__(self, variable, half):
        self._shape = variable.shape
        self._half = half
        # Different exports that one process loads must not share variables.
        self._name = f"{variable.name.split(':')[0]}-{uuid.uuid4()}"
        super().__init__()
        self._resource_handle = variable.handle

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=self._shape, shared_name=self._name)

    def _initialize(self):
        tf.raw_ops.AssignVariableOp(
            resource=self.resource_handle, value=tf.cast(self._half, tf.float32)
        )
