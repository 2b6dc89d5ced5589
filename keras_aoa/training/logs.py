"""What TensorBoard shows of a training: losses, scores, sample pictures."""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.visualization.pictures import attention_picture

EVERY = 10  # steps between points of the loss curve
SAMPLES = 4  # pictures at each validation


class TensorBoard:
    """Writer of a run's logs.

    Args:
        folder: Where the event files go.
        written: Whether this process writes any.
    """

    def __init__(self, folder, written=True):
        self._writer = (
            tf.summary.create_file_writer(str(folder))
            if written
            else tf.summary.create_noop_writer()
        )

    def step(self, step, loss, rate_factor):
        """Record the loss, nats a word, and the share of the learning rates in use."""
        if step % EVERY == 0:
            with self._writer.as_default(step=step):
                tf.summary.scalar("loss", loss)
                tf.summary.scalar("rate_factor", rate_factor)

    def validation(self, step, cider, images, found):
        """Record a validation: CIDEr, and pictures of the first captions."""
        with self._writer.as_default(step=step):
            tf.summary.scalar("CIDEr", cider)
            for place, index in enumerate(sorted(found)[:SAMPLES]):
                picture = attention_picture(
                    read_image(images.examples[index].path), found[index], images.windows[index]
                )
                tf.summary.image(f"caption {place + 1}", np.asarray(picture)[None])
        self._writer.flush()
