"""Training of the predicted concepts: their targets, made only from captions, and their loss."""

import numpy as np
from keras import ops

from keras_aoa.data.text.attributes import word_flags
from keras_aoa.data.text.topics import Topics, find_topics, topic_mixtures
from keras_aoa.models import weights
from keras_aoa.models.image_inputs import concept_losses
from keras_aoa.runs.named import run_folder
from keras_aoa.training.self_critical import has_captions
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import print_progress

TOPICS_FILE = "topics.npz"


def concept_targets(run, examples):
    """Return the targets of all training images, `(n, k)`, as `concept_losses` describes them.

    Args:
        run: `Run` whose configuration has concepts.
        examples: Sequence of training `Example`.

    Raises:
        UserError: scikit-learn is missing, the captions contain no content words, or the file of
            the run's topics is damaged.
    """
    if run.configuration.concepts == "topics":
        return topic_mixtures(examples, run.vocabulary, topics_of(run, examples))
    return word_flags(examples, run.vocabulary, run.concept_ids)


def topics_of(run, examples):
    """Return the run's `Topics`. At the first call, find them in the captions and save them.

    Because the topics are saved, a resumed training does not change the meaning of the predicted
    topics, even if the captions or scikit-learn changed meanwhile. For the same reason, a run that
    starts from another run uses the topics of that run.

    Raises:
        UserError: `find_topics` fails, or the file does not belong to the run.
    """
    file, count = run.folder / TOPICS_FILE, run.configuration.concept_count
    metadata = {"vocabulary": run.vocabulary.digest}
    if not file.exists():
        start = run.configuration.start_from
        known = run_folder(start) / TOPICS_FILE if start else None
        if known and known.exists():
            weights.save_arrays(file, *weights.load_arrays(known))
        else:
            print_progress(f"Finding {count} topics in the captions of {len(examples)} images.")
            topics = find_topics(examples, run.vocabulary, count)
            weights.save_arrays(file, topics._asdict(), metadata)
    arrays, saved = weights.load_arrays(file)
    own = arrays.get("weights", np.zeros(0)).shape == (count, len(arrays.get("ids", ())))
    if saved != metadata or not own:
        raise UserError(
            f"{file}: expected {count} topics of the run's vocabulary, found others; restore the "
            "file of the run, or train again."
        )
    return Topics(**arrays)


def concept_loss(captioner, batch, encoded, decoded):
    """Return the sum of the `concept_losses` over a batch; 0 if the captioner has no concepts.

    Images without captions are ignored; they only fill up a replica's part of a batch.
    """
    if encoded.concepts is None:
        return 0.0
    losses = concept_losses(captioner.concepts, encoded.concepts, batch["concepts"])
    return ops.sum(ops.where(has_captions(batch["captions"]), losses, 0.0))
