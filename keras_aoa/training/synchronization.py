"""Synchronizes replicas: sums of gradients, and statistics of batch normalization."""

import keras
import tensorflow as tf


class PreReducedGradients:
    """Optimizer mixin for gradients that were already summed over replicas and clipped."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Keras would sum the gradients here a second time.
        return grads_and_vars


class Adam(PreReducedGradients, keras.optimizers.Adam):
    """Adam for gradients that were already summed over replicas."""


def synchronize_normalization(captioner):
    """Make batch normalization use the whole batch's statistics instead of each replica's."""
    for network in (captioner.backbone, captioner.region_backbone):
        for layer in all_layers(network) if network is not None else ():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


def all_layers(model):
    """Yield the layers of a model and of its nested models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def sum_over_replicas(gradients):
    """Sum gradients over all replicas.

    Call this method in replica context. Gradients that are None remain None.
    """
    known = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    sums = iter(tf.distribute.get_replica_context().all_reduce("SUM", known))
    return [None if g is None else next(sums) for g in gradients]
