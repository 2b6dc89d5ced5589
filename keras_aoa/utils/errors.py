"""The exception for user mistakes, and the detection of lost workers."""

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
