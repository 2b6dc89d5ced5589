"""Training of the predicted concepts: their targets, made only from captions, and their loss."""

from keras import ops

from keras_aoa.data.text.attributes import word_flags
from keras_aoa.data.text.topics import topic_mixtures
from keras_aoa.models.image_inputs import concept_losses
from keras_aoa.training.self_critical import has_captions
from keras_aoa.utils.progress import print_progress


def concept_targets(run, examples):
    """Return the targets of all training images, `(n, k)`, as `concept_losses` describes them.

    Args:
        run: `Run` whose configuration has concepts.
        examples: Sequence of training `Example`.

    Raises:
        UserError: scikit-learn is missing, or the captions contain no content words.
    """
    configuration = run.configuration
    if configuration.concepts == "topics":
        count = configuration.concept_count
        print_progress(f"Finding {count} topics in the captions of {len(examples)} images.")
        return topic_mixtures(examples, run.vocabulary, count)
    return word_flags(examples, run.vocabulary, run.concept_ids)


def concept_loss(captioner, batch, encoded, decoded):
    """Return the sum of the `concept_losses` over a batch; 0 if the captioner has no concepts.

    Images without captions are ignored; they only fill up a replica's part of a batch.
    """
    if encoded.concepts is None:
        return 0.0
    losses = concept_losses(captioner.concepts, encoded.concepts, batch["concepts"])
    return ops.sum(ops.where(has_captions(batch["captions"]), losses, 0.0))
