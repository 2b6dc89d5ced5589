"""Losses that stages 1 and 2 add to the loss of the next words.

For the letters in shapes, see `keras_aoa/layers/joint.py`.
"""

import tensorflow as tf
from keras import ops

from keras_aoa.data.text.vocabulary import PAD, SPECIAL
from keras_aoa.training.attention_supervision import supervision_loss
from keras_aoa.training.concepts import concept_loss


def attention_coverage(captioner, batch, encoded, decoded):
    """Return the loss of doubly stochastic attention.

    The loss is the sum of (1 - sum_t p(r))^2 over captions and regions.

    The sum over t covers the words of a caption, with STOP. Padding in captions and regions is
    ignored.

    Source: Xu et al., arXiv:1502.03044, equation 14.
    """
    is_word = ops.convert_to_tensor(batch["captions"])[:, :, 1:] != PAD
    probs = captioner.attention.region_probs(decoded.outputs, encoded.memory)
    images, count, time = ops.shape(is_word)
    probs = ops.reshape(probs, (images, count, time, ops.shape(probs)[-1]))
    is_word = ops.cast(is_word, probs.dtype)
    visits = ops.sum(is_word[..., None] * probs, axis=2)
    is_region = ops.cast(encoded.mask, probs.dtype)[:, None, :] * is_word[:, :, :1]
    return ops.sum(is_region * ops.square(1 - visits))


def hard_reinforce(captioner, batch, encoded, decoded):
    """Return a loss whose gradient trains the choice of regions by REINFORCE.

    The gradient is the sum over captions of (b - log p(y | s)) d log p(s). In this formula, s are
    the sampled regions, log p(y | s) is the log-likelihood of the caption y, and b is the column
    `baseline` that the trainer adds to the batch. The value of this loss is 0, so that the reported
    loss is the loss of the words. For variants that sample no regions, the gradient is 0, too.

    Source: Xu et al., arXiv:1502.03044, equation 12.
    """
    if not captioner.attention.samples_regions:
        return 0.0
    log_probs = captioner.attention.choice_log_probs(decoded.outputs, encoded.memory)
    reward = ops.sum(decoded.log_probs, axis=2) - ops.cast(batch["baseline"], log_probs.dtype)
    choices = ops.sum(over_words(log_probs, batch), axis=2)
    return -ops.sum(ops.stop_gradient(reward) * (choices - ops.stop_gradient(choices)))


def hard_entropy(captioner, batch, encoded, decoded):
    """Return minus the entropy of p(r), summed over all words, for variants that sample regions.

    Source: Xu et al., arXiv:1502.03044, equation 12.
    """
    if not captioner.attention.samples_regions:
        return 0.0
    entropy = captioner.attention.choice_entropy(decoded.outputs, encoded.memory)
    return -ops.sum(over_words(entropy, batch))


def review_words(captioner, batch, encoded, decoded):
    """Return the margin loss of words in an image's captions against all other words.

    The loss of an image is the sum of max(0, 1 - (s_j - s_i)) over words j in its captions of this
    batch and words i outside these captions, divided by the size of the vocabulary. The scores s
    are the `thought_scores`. Special words such as PAD are ignored.

    Source: Yang et al., arXiv:1605.07912.
    """
    scores = captioner.attention.thought_scores(encoded.memory)
    words = scores.shape[1]
    captions = tf.cast(batch["captions"], tf.int32)
    # Booleans, because floats would need four times as much memory.
    in_captions = tf.reduce_any(tf.one_hot(captions, words, True, False), axis=(1, 2))
    is_special = tf.range(words) < len(SPECIAL)
    positive = tf.logical_and(in_captions, ~is_special)
    negative = tf.logical_and(~in_captions, ~is_special)
    return margin_loss(scores, positive, negative) / words


def margin_loss(scores, positive, negative):
    """Return the sum of max(0, 1 - (s_j - s_i)) over positive words j and negative words i.

    The function sorts the scores, and uses cumulative sums instead of a tensor of all pairs.

    Args:
        scores: `(n, w)`.
        positive, negative: Booleans `(n, w)`.
    """
    lowest = scores.dtype.min / 4
    order = tf.argsort(tf.where(negative, scores, lowest), axis=1, direction="DESCENDING")
    ranked = tf.gather(tf.where(negative, scores, 0.0), order, batch_dims=1)
    is_ranked = tf.gather(negative, order, batch_dims=1)
    sums = tf.pad(tf.cumsum(ranked, axis=1), [[0, 0], [1, 0]])
    # For each word j, the number of words i with s_i > s_j - 1.
    bounds = tf.where(is_ranked, -ranked, -lowest)
    counts = tf.searchsorted(bounds, 1 - scores, side="left")
    margins = tf.cast(counts, scores.dtype) * (1 - scores) + tf.gather(sums, counts, batch_dims=1)
    return tf.reduce_sum(tf.where(positive, margins, 0.0))


def over_words(values, batch):
    """Reshape values `(n, c t)` to `(n, c, t)`, and set them to 0 at padding."""
    targets = ops.convert_to_tensor(batch["captions"])[:, :, 1:]
    return ops.where(targets != PAD, ops.reshape(values, ops.shape(targets)), 0.0)


# For each setting that is a loss's weight: the function that computes the loss, as a sum over the
# batch, from the captioner, the batch, the `EncodedImages` and the `DecodedCaptions`.
EXTRA_LOSSES = {
    "concept_loss": concept_loss,
    "attention_supervision": supervision_loss,
    "attention_coverage": attention_coverage,
    "hard_reinforce": hard_reinforce,
    "hard_entropy": hard_entropy,
    "review_words": review_words,
}


def extra_losses(settings, captioner, batch, encoded, decoded):
    """Return the weighted sum of all extra losses whose weight is not 0.

    Args:
        settings: `Configuration`, which contains the weights.
        captioner: `Captioner`.
        batch: A batch of `CaptionBatches`.
        encoded: `EncodedImages` of the batch.
        decoded: `DecodedCaptions` of the batch.

    Returns:
        A sum over the batch, in nats. The caller divides the sum by the number of words.
    """
    total = 0.0
    for name, loss in EXTRA_LOSSES.items():
        weight = getattr(settings, name)
        if weight:
            total += weight * loss(captioner, batch, encoded, decoded)
    return total
