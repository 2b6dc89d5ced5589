"""The exception for user mistakes, and the causes of TensorFlow's errors."""

import errno
import math
import os

# TensorFlow raises one of these exceptions if another process of the cluster cannot be reached.
# Comparing names avoids the import of TensorFlow.
LOST_WORKER = ("UnavailableError", "AbortedError", "DeadlineExceededError")


class UserError(Exception):
    """A user's mistake. The message is one line: source, expected value, received value, remedy.

    Commands print this message without a stack trace, and exit with status 2.
    """


def require_positive(name, number):
    """Check that a setting is a finite number above 0.

    Raises:
        UserError: the setting is not a finite number above 0.
    """
    if not 0 < number < math.inf:
        raise UserError(f"{name}: expected a finite number above 0, received {number}.")


def is_lost_worker(error):
    """Return whether an error means that another process of the cluster cannot be reached."""
    return type(error).__name__ in LOST_WORKER


def system_reason(message):
    """Return the operating system's error text that TensorFlow's message contains.

    Returns:
        Text such as "No space left on device", or None if the message contains no such text.
    """
    reasons = (os.strerror(number) for number in errno.errorcode if number != errno.ENOMEM)
    return max((reason for reason in reasons if reason in message), key=len, default=None)
