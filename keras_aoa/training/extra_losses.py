"""Losses that stages 1 and 2 add to the loss of the next words.

For the letters in shapes, see `keras_aoa/layers/joint.py`.
"""

from keras import ops

from keras_aoa.data.text.vocabulary import PAD


def attention_coverage(captioner, batch, encoded, decoded):
    """Return the sum over captions and regions of (1 - sum_t p(r))^2, doubly stochastic attention.

    The sum over t covers the words of a caption, with STOP. Padding does not count, neither in
    captions nor in regions.

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

    Its value is the sum over captions of (b - log p(y | s)) log p(s). Here s are the sampled
    regions, log p(y | s) the log-likelihood of the caption y, and b the column `baseline` that the
    trainer adds to the batch. Only log p(s) has a gradient. Variants that sample no regions have no
    such loss.

    Source: Xu et al., arXiv:1502.03044, equation 12.
    """
    if not captioner.attention.samples_regions:
        return 0.0
    log_probs = captioner.attention.choice_log_probs(decoded.outputs, encoded.memory)
    reward = ops.sum(decoded.log_probs, axis=2) - ops.cast(batch["baseline"], log_probs.dtype)
    choices = ops.sum(over_words(log_probs, batch), axis=2)
    return -ops.sum(ops.stop_gradient(reward) * choices)


def hard_entropy(captioner, batch, encoded, decoded):
    """Return minus the entropy of p(r), summed over all words, for variants that sample regions.

    Source: Xu et al., arXiv:1502.03044, equation 12.
    """
    if not captioner.attention.samples_regions:
        return 0.0
    entropy = captioner.attention.choice_entropy(decoded.outputs, encoded.memory)
    return -ops.sum(over_words(entropy, batch))


def over_words(values, batch):
    """Reshape values `(n, c t)` to `(n, c, t)`, and set them to 0 at padding."""
    targets = ops.convert_to_tensor(batch["captions"])[:, :, 1:]
    return ops.where(targets != PAD, ops.reshape(values, ops.shape(targets)), 0.0)


# For each setting that is a loss's weight: the function that computes the loss, as a sum over the
# batch, from the captioner, the batch, the `EncodedImages` and the `DecodedCaptions`.
EXTRA_LOSSES = {
    "attention_coverage": attention_coverage,
    "hard_reinforce": hard_reinforce,
    "hard_entropy": hard_entropy,
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
        A sum over the batch, in nats. The caller divides it by the number of words.
    """
    total = 0.0
    for name, loss in EXTRA_LOSSES.items():
        weight = getattr(settings, name)
        if weight:
            total += weight * loss(captioner, batch, encoded, decoded)
    return total
