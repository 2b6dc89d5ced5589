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


# For each setting that is a loss's weight: the function that computes the loss, as a sum over the
# batch, from the captioner, the batch, the `EncodedImages` and the `DecodedCaptions`.
EXTRA_LOSSES = {"attention_coverage": attention_coverage}


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
