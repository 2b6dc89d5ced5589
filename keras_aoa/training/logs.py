"""TensorBoard logs of a training: losses, scores and sample pictures."""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.visualization.pictures import attention_picture

EVERY = 10  # steps between two points of the loss curve
SAMPLES = 4  # pictures per validation


class TensorBoard:
    """Writes the logs of a run.

    Args:
        folder: Folder of the event files.
        written: Whether this process writes logs. Only the chief writes logs.
    """

    def __init__(self, folder, written=True):
        self._writer = (
            tf.summary.create_file_writer(str(folder))
            if written
            else tf.summary.create_noop_writer()
        )

    def step(self, step, loss, rate_factor):
        """Record the loss in nats per word, and the factor of both learning rates."""
        if step % EVERY == 0:
            with self._writer.as_default(step=step):
                tf.summary.scalar("loss", loss)
                tf.summary.scalar("rate_factor", rate_factor)

    def validation(self, step, cider, images, captions):
        """Record CIDEr, and pictures of the attention for the captions of the first few images."""
        with self._writer.as_default(step=step):
            tf.summary.scalar("CIDEr", cider)
            for number, index in enumerate(sorted(captions)[:SAMPLES], start=1):
                pixels = read_image(images.examples[index].path)
                picture = attention_picture(pixels, captions[index])
                tf.summary.image(f"caption {number}", np.asarray(picture)[None])
        self._writer.flush()
