"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake of the user's, told in one line: who, expected, received, remedy.

    Scripts print the line and leave with status 2; nobody sees a stack trace.
    """
