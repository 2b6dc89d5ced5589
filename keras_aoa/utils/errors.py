"""The one exception that stands for a user's mistake."""

# Of TensorFlow, by name: what a process hears when another one, or the way to it, is gone.
LOST_WORKER = ("UnavailableError", "AbortedError", "DeadlineExceededError")


class UserError(Exception):
    """A mistake of the user's, told in one line: who, expected, received, remedy.

    Scripts print the line and leave with status 2; nobody sees a stack trace.
    """


def is_lost_worker(error):
    """Whether an error says that another process of a cluster, or the way to it, is gone."""
    return type(error).__name__ in LOST_WORKER
