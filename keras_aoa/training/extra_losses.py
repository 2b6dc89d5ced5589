"""Losses that stages 1 and 2 add to the loss of the next words.

For the letters in shapes, see `keras_aoa/layers/joint.py`.
"""

from keras_aoa.training.concepts import concept_loss

# For each setting that is a loss's weight: the function that computes the loss, as a sum over the
# batch, from the captioner, the batch, the `EncodedImages` and the `DecodedCaptions`.
EXTRA_LOSSES = {"concept_loss": concept_loss}


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
