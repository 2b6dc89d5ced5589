"""The exception for user mistakes, and the reasons of TensorFlow's errors."""

import errno
import os

# Names of the TensorFlow exceptions that a process receives when another process of the cluster,
# or the connection to it, is lost. Compared by name, so that TensorFlow need not be imported.
LOST_WORKER = ("UnavailableError", "AbortedError", "DeadlineExceededError")


class UserError(Exception):
    """A user's mistake, described in one line: who, expected, received, remedy.

    Scripts print this line, without a stack trace, and exit with status 2.
    """


def is_lost_worker(error):
    """Return whether an error means that another process of the cluster was lost."""
    return type(error).__name__ in LOST_WORKER


def system_reason(message):
    """Return the operating system's reason in a message of TensorFlow, such as a full disk.

    Returns:
        Text such as "No space left on device"; None if the message contains no such reason.
    """
    reasons = (os.strerror(number) for number in errno.errorcode if number != errno.ENOMEM)
    return max((reason for reason in reasons if reason in message), key=len, default=None)
