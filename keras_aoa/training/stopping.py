"""Handles stop requests and failures, which end a training early."""

import contextlib
import errno
import signal
import threading

import tensorflow as tf

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_BAD_ENDINGS = 0.5  # of an epoch's sampled captions
LEAST_ENTROPY = 0.005  # nats per word


class StopRequest:
    """Context that records Ctrl-C or SIGTERM as a stop request. A second signal acts at once.

    Attributes:
        asked: Whether a stop was requested.
    """

    def __init__(self):
        self.asked = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_):
        self._restore()

    def _restore(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask(self, *_):
        self.asked = True
        self._restore()


# The learning rate of each stage.
RATES = {
    1: "learning_rate",
    2: "learning_rate, backbone_learning_rate",
    3: "reward_learning_rate",
}


def not_finite(loss, step, batch_names, stage, checkpoints):
    """Create the `UserError` for a loss that is not finite.

    Args:
        loss: The loss.
        step: Number of the training step.
        batch_names: Names of the images in this process's part of the batch.
        stage: Number of the stage.
        checkpoints: `Checkpoints`.
    """
    return UserError(
        f"train: the loss became {loss} at step {step}, images {', '.join(batch_names)}; "
        f"lower {RATES[stage]} or clip_norm in {checkpoints.another_run()}. "
        f"{checkpoints.last_good()}"
    )


def why_diverged(metrics, history):
    """Return the reason why stage 3 should end, in one sentence, or "" if there is none.

    Args:
        metrics: Means of the `SAMPLE_METRICS` over the last epoch.
        history: Metrics of the earlier epochs.
    """
    first = next((entry for entry in history if "reward" in entry), metrics)
    remedy = "lower reward_learning_rate in another run."
    if metrics["bad_endings"] > MOST_BAD_ENDINGS:
        share = f"{100 * metrics['bad_endings']:.0f} % of the sampled captions"
        return f"{share} are cut off or end with a word that ends no training caption; {remedy}"
    if metrics["reward"] < first["reward"] / 2:
        values = f"from {first['reward']:.3f} to {metrics['reward']:.3f}"
        return f"the mean reward fell {values}; {remedy}"
    if metrics["length"] < first["length"] / 2:
        values = f"from {first['length']:.1f} to {metrics['length']:.1f} words"
        return f"the sampled captions shrank {values}; {remedy}"
    if metrics["entropy"] < LEAST_ENTROPY:
        value = f"{metrics['entropy']:.4f} nats per word"
        return f"all samples of an image are nearly equal (entropy {value}); {remedy}"
    return ""


@contextlib.contextmanager
def report_failures(configuration, checkpoints):
    """Convert failures into errors that report the cause, the remedy and how to resume.

    Args:
        configuration: `Configuration`.
        checkpoints: `Checkpoints`.

    Raises:
        UserError: the memory or the disk is full.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:
            raise UserError(
                f"train: the disk is full; free some space. {how_to_resume(checkpoints)}"
            ) from None
        raise out_of_memory(configuration, error.message, checkpoints) from None
    except MemoryError as error:
        raise out_of_memory(configuration, str(error), checkpoints) from None
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{error.filename or configuration.folder}: {error.strerror}; free some space. "
                f"{how_to_resume(checkpoints)}"
            ) from None
        raise


def out_of_memory(configuration, message, checkpoints):
    """Create the `UserError` for exhausted memory.

    The message names settings that reduce memory.
    """
    settings = ["batch_size", "captions_per_image", "max_words", "image_size", "beam"]
    if configuration.regions == "proposals":
        settings = ["batch_size", "train_proposals", "proposals_size", "captions_per_image", "beam"]
    values = ", ".join(f"{name} ({getattr(configuration, name)})" for name in settings)
    reason = first_line(message, "an allocation failed")
    return UserError(
        f"train: out of memory ({reason}); lower {values} in {checkpoints.another_run()}, "
        f"or use a machine with more memory. {how_to_resume(checkpoints)}"
    )


def how_to_resume(checkpoints):
    """Return a sentence about the step after which the same command resumes."""
    if checkpoints.step is None:
        return "The same command resumes from the last checkpoint."
    if not checkpoints.step:
        return "The same command starts from the beginning."
    return f"The same command resumes after step {checkpoints.step}."
