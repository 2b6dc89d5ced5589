"""The baseline of hard attention: a moving average of the captions' log-likelihood."""

import keras
import tensorflow as tf

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.training.accumulation import own_sum

DECAY = 0.9


class Baseline:
    """Moving average of the captions' log-likelihood, which REINFORCE subtracts from the reward.

    Each replica sums over its own captions. `update` is called once per optimizer step and uses the
    captions of all replicas and of all accumulated batches. Create the baseline in the scope of the
    training strategy.

    Attributes:
        value: Keras variable, which is saved in checkpoints. The initial value is 0, as in the
            authors' code.

    Source: Xu et al., arXiv:1502.03044, section 4.1.
    """

    def __init__(self):
        self.value = keras.Variable(0.0, trainable=False, name="value", dtype="float32")
        self._sums = own_sum((2,), tf.float32)

    def add(self, log_probs, captions):
        """Add the log-probabilities `(n, c, t)` of captions, in replica context."""
        has_words = tf.reduce_sum(tf.cast(captions[:, :, 1] != PAD, tf.float32))
        total = tf.cast(tf.reduce_sum(log_probs), tf.float32)
        self._sums.assign_add(tf.stack([total, has_words]))

    def update(self):
        """Move the average by the mean over all added captions, outside replica context."""
        total, count = tf.unstack(self._sums.read_value())
        mean = total / tf.maximum(count, 1.0)
        value = tf.convert_to_tensor(self.value.value)
        self.value.assign(tf.where(count > 0, DECAY * value + (1 - DECAY) * mean, value))
        self._sums.assign(tf.zeros(2))
