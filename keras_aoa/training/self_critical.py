"""Self-critical training (stage 3): raises the expected reward of the captioner's own captions.

Sources: Rennie et al., "Self-critical Sequence Training for Image Captioning", CVPR 2017,
arXiv:1612.00563; Luo, "A Better Variant of Self-Critical Sequence Training", 2020,
arXiv:2003.09971. Letters in shapes: n image, c caption, t time step.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.models.sampling import sample_captions
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import decode_captions

SEEDS = 1000  # runs with fewer seeds have different random numbers in all steps
SAMPLE_METRICS = ("loss", "reward", "length", "entropy", "bad_endings")

Tensor = Any


class Samples(NamedTuple):
    """Sampled captions of a batch.

    `captions (n, c, t + 1)` begin with START. `rewards (n, c)` are the scores of the captions, and
    `advantages (n, c)` are the rewards minus the baseline. `bad_endings (n, c)` is 1 where
    `CaptionReward.ends_badly` is true, else 0.
    """

    captions: Tensor
    rewards: Tensor
    advantages: Tensor
    bad_endings: Tensor


def sample(captioner, inputs, step, reward, settings):
    """Sample captions and score them.

    The samples depend on the step and on the images' indices, but not on the number of replicas.

    Args:
        captioner: `Captioner`.
        inputs: A batch of `CaptionBatches` with `features`.
        step: Number of the training step, a scalar.
        reward: `CaptionReward` of the training images.
        settings: `Configuration`.

    Returns:
        `Samples`.
    """
    shape = settings.reward_samples, settings.max_words
    encoded, dropout = captioner.encode(inputs, training=True), (None, None)
    if settings.dropout:
        dropout = captioner.dropout_masks(tf.shape(inputs["index"])[0], *shape)
    seed = captioner.seed + SEEDS * tf.cast(step, tf.int32)
    uniform = tf.map_fn(
        lambda index: tf.random.stateless_uniform(shape, [seed, index]),
        inputs["index"],
        fn_output_signature=tf.float32,
    )
    captions = sample_captions(captioner, encoded, uniform, dropout, settings.reward_temperature)
    scored = captions[:, :, 1:]
    greedy = settings.reward_baseline == "greedy"
    if greedy:
        encoded = captioner.encode(inputs)
        best = search(captioner, encoded, beam=1, max_words=settings.max_words).ids
        scored = tf.concat([scored, best], axis=1)

    def score(index, ids):
        images, count, time = ids.shape
        flat = ids.reshape(-1, time)
        rewards = reward(np.repeat(index, count), flat)
        both = np.stack([rewards, reward.ends_badly(flat)])
        return both.reshape(2, images, count).astype(np.float32)

    both = tf.numpy_function(score, [inputs["index"], scored], tf.float32)
    rewards, bad_endings = tf.unstack(tf.ensure_shape(both, (2, *scored.shape[:2])))
    count = settings.reward_samples
    sampled, baseline = rewards[:, :count], rewards[:, count:]
    if not greedy:
        baseline = mean_of_others(sampled)
    return Samples(captions, sampled, sampled - baseline, bad_endings[:, :count])


def mean_of_others(rewards):
    """Return for each sample `(n, c)` the mean reward of the image's other samples."""
    others = tf.reduce_sum(rewards, axis=1, keepdims=True) - rewards
    return others / (rewards.shape[1] - 1)


def image_count(captions):
    """Count the images of a batch, except images that only fill up a replica's part."""
    return tf.reduce_sum(tf.cast(has_captions(captions), tf.float32))


def has_captions(captions):
    """Return whether each image has a caption, `(n,)`, given captions `(n, c, t)`."""
    return tf.reduce_any(captions[:, :, 0] != PAD, axis=1)


def sampled_log_probs(captioner, encoded, captions, temperature):
    """Return the log-probabilities `(n, c, t)` of sampled words, with 0 at padding.

    With the temperature T, a word w has the probability p(w)^(1/T) divided by the sum of p^(1/T)
    over all words.

    Args:
        captioner: `Captioner`, which uses dropout.
        encoded: `EncodedImages`.
        captions: Word ids `(n, c, t + 1)` that begin with START.
        temperature: T.
    """
    decoded = decode_captions(captioner, encoded, captions, training=True)
    if temperature == 1:
        return decoded.log_probs
    targets = captions[:, :, 1:]
    words, _ = captioner.attention.log_probs(decoded.outputs, encoded.memory)
    # Not `decoded.log_probs`, which are rounded differently in bfloat16.
    log_probs = tf.gather(
        tf.nn.log_softmax(words / temperature),
        tf.reshape(targets, tf.shape(words)[:2]),
        batch_dims=2,
    )
    log_probs = tf.reshape(log_probs, tf.shape(targets))
    return tf.where(targets == PAD, tf.zeros_like(log_probs), log_probs)


def policy_loss(log_probs, advantages, share):
    """Return a loss whose mean gradient is minus the gradient of the expected reward.

    Args:
        log_probs: Log-probabilities of the sampled words, `(n, c, t)`, with 0 at padding.
        advantages: `(n, c)`.
        share: Weight of each caption in the mean over all replicas, `(n, 1)`.
    """
    caption_log_probs = tf.reduce_sum(log_probs, axis=2)
    weights = tf.cast(tf.stop_gradient(share * advantages), log_probs.dtype)
    return -tf.reduce_sum(weights * caption_log_probs)


def sample_metrics(loss, samples, log_probs, share):
    """Return this replica's part of the `SAMPLE_METRICS`, `(5,)`.

    The length counts words without STOP. The entropy, in nats per word, is estimated by the mean
    of minus `log_probs`.
    """
    dtype, ids = log_probs.dtype, samples.captions[:, :, 1:]
    steps = tf.reduce_sum(tf.cast(ids != PAD, dtype), axis=2)
    stops = tf.reduce_sum(tf.cast(ids == STOP, dtype), axis=2)
    entropy = -tf.reduce_sum(log_probs, axis=2) / steps
    values = (samples.rewards, steps - stops, entropy, samples.bad_endings)
    share = tf.cast(share, dtype)
    return tf.stack([loss, *(tf.reduce_sum(share * tf.cast(each, dtype)) for each in values)])
