"""The "did you mean" of error messages."""

import difflib


def closest(name, known):
    """A sentence that offers the known names nearest to a mistyped one."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(sorted(known)[:40])}."
