"""Logs of a training: the line of an epoch, and TensorBoard's losses, scores and pictures."""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.visualization.pictures import attention_picture

EVERY = 10  # steps between two points of the loss curve
SAMPLES = 4  # pictures per validation
# Label, factor, digits and unit of each metric in the line of an epoch.
MEASURES = {
    "loss": ("loss", 1, 3, ""),
    "reward": ("reward", 1, 3, ""),
    "length": ("words", 1, 1, ""),
    "entropy": ("entropy", 1, 2, ""),
    "bad_endings": ("bad endings", 100, 1, " %"),
}


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

    def step(self, step, metrics, rate_factor):
        """Record the metrics of a step, and the factor of the learning rates."""
        if step % EVERY == 0:
            with self._writer.as_default(step=step):
                for name, value in metrics.items():
                    tf.summary.scalar(name, value)
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


def describe(epoch_metrics, configuration, seconds):
    """Return a log line with the metrics of an epoch."""
    epoch = epoch_metrics["epoch"]
    means = ", ".join(
        f"{label} {factor * epoch_metrics[name]:.{digits}f}{unit}"
        for name, (label, factor, digits, unit) in MEASURES.items()
        if name in epoch_metrics
    )
    score = f", CIDEr {100 * epoch_metrics['CIDEr']:.1f}" if "CIDEr" in epoch_metrics else ""
    return f"epoch {epoch}/{configuration.epochs}: {means}{score} ({seconds / 60:.1f} minutes)"
