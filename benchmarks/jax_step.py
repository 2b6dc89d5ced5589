"""Training step of the decoder on the JAX backend of Keras, for accelerators."""

import jax
import keras

from keras_aoa.models.teacher_forcing import caption_loss


def make_jax_step(captioner, clip_norm, rate):
    """Return a function that trains on a batch as `Trainer` does, and waits for the loss."""
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=clip_norm)
    optimizer.build(captioner.trainable_variables)
    state = {
        "weights": [v.value for v in captioner.trainable_variables],
        "others": [v.value for v in captioner.non_trainable_variables],
        "slots": [v.value for v in optimizer.variables],
    }

    def loss(weights, others, batch):
        log_probs, others = captioner.stateless_call(weights, others, batch, training=True)
        return caption_loss(log_probs, batch["captions"]), others

    def step(weights, others, slots, batch):
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(weights, others, batch)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return value, {"weights": weights, "others": others, "slots": slots}

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))

    def train(batch):
        value, new_state = compiled(**state, batch=batch)
        state.update(new_state)
        return value.block_until_ready()

    return train
