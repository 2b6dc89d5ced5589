"""Gradient accumulation: one optimizer step for several batches."""

import itertools

import tensorflow as tf


class Accumulator:
    """Sums the gradients of several batches, each weighted by its count of words or images.

    Each replica has its own sums, so that replicas communicate once per optimizer step. Create the
    accumulator in the scope of the training strategy.

    Args:
        variables: Keras variables that are trained. A step may train only the first few variables.
    """

    def __init__(self, variables):
        self._sums = [own_sum(variable.shape, variable.dtype) for variable in variables]
        self._count = own_sum((), tf.float32)

    def add(self, gradients, count):
        """Add the gradients of a mean over `count` words or images, in replica context.

        Gradients that are None are ignored.
        """
        for total, gradient in zip(self._sums, gradients, strict=False):
            if gradient is not None:
                total.assign_add(tf.convert_to_tensor(gradient) * tf.cast(count, total.dtype))
        self._count.assign_add(count)

    def take(self, gradients):
        """Return the gradients of the mean over all added batches, and start again from 0.

        Args:
            gradients: Gradients of the last batch. Where a gradient is None, the result is None.
        """
        count = tf.maximum(self._count.read_value(), 1.0)
        means = [
            None if gradient is None else total.read_value() / tf.cast(count, total.dtype)
            for total, gradient in zip(self._sums, gradients, strict=False)
        ]
        for total in (*self._sums, self._count):
            total.assign(tf.zeros_like(total.read_value()))
        return means


def own_sum(shape, dtype):
    """Return a variable with a separate value on each replica, initially 0."""
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def groups(batches, size):
    """Yield lists of `size` batches. The last list may have fewer batches."""
    batches = iter(batches)
    while group := list(itertools.islice(batches, size)):
        yield group
