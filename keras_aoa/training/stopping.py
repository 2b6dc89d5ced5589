"""How a training ends before its time: asked to, or by what it cannot help."""

import contextlib
import errno
import signal
import threading

import tensorflow as tf

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked to stop; a second one is not waited for.

    Attributes:
        asked: Whether it did.
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


def not_finite(loss, step, batch_names, checkpoints):
    """What to say of a loss that is not finite: a `UserError`.

    Args:
        loss: Of a step.
        step: Its number.
        batch_names: Of the images seen here.
        checkpoints: `Checkpoints`.
    """
    return UserError(
        f"train: the loss became {loss} at step {step}, images {', '.join(batch_names)}; "
        f"lower learning_rate or clip_norm in {checkpoints.another_run()}. "
        f"{checkpoints.last_good()}"
    )


@contextlib.contextmanager
def report_failures(configuration, checkpoints):
    """Tell what stopped a training, what to change, and where it can go on.

    Args:
        configuration: `Configuration`.
        checkpoints: `Checkpoints`.

    Raises:
        UserError: memory or disk are full.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:
            raise UserError(f"train: the disk is full; free some. {go_on(checkpoints)}") from None
        raise out_of_memory(configuration, error.message, checkpoints) from None
    except MemoryError as error:
        raise out_of_memory(configuration, str(error), checkpoints) from None
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{error.filename or configuration.folder}: {error.strerror}; free some space. "
                f"{go_on(checkpoints)}"
            ) from None
        raise


def out_of_memory(configuration, message, checkpoints):
    """What to lower when memory is exhausted."""
    settings = ["batch_size", "captions_per_image", "max_words", "image_size", "beam"]
    if configuration.regions == "proposals":
        settings = ["batch_size", "train_proposals", "proposals_size", "captions_per_image", "beam"]
    values = ", ".join(f"{name} ({getattr(configuration, name)})" for name in settings)
    reason = first_line(message, "no more could be had")
    return UserError(
        f"train: out of memory ({reason}); lower {values} in {checkpoints.another_run()}, "
        f"or give it more. {go_on(checkpoints)}"
    )


def go_on(checkpoints):
    """A sentence that says where the same command goes on."""
    if checkpoints.step is None:
        return "The same command goes on from the last checkpoint."
    if not checkpoints.step:
        return "The same command starts anew."
    return f"The same command goes on after step {checkpoints.step}."
