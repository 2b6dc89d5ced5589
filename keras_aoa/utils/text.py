"""Helpers that format names and values for one-line messages."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """Return a "Did you mean" sentence with the known names nearest to a mistyped one.

    If no known name is similar, the sentence lists the known names instead.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(sorted(known)[:40])}."


def clip(value: object, length: int = 60) -> str:
    """Return `repr(value)`, shortened to at most `length` characters."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 4]}...{text[-1]}"


def first_three(names: Iterable[object]) -> str:
    """Return the first three names, separated by commas, and the number of the others."""
    names = [printable(name) for name in names]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def printable(name: object) -> str:
    """Return a name as text that cannot break out of its line in a terminal.

    A name with control characters, such as a line break, is returned as its `repr`.
    """
    text = str(name)
    return text if text.isprintable() else repr(text)


def one_line(text: str) -> str:
    """Return a caption on one line: each run of white space becomes one blank.

    COCO's captions contain line breaks. Lone UTF-16 surrogates, which JSON may hold but UTF-8
    files cannot, become question marks.
    """
    return " ".join(text.split()).encode(errors="replace").decode()


def first_line(message: str | None, default: str) -> str:
    """Return the first line of a library's message, at most 160 characters.

    Returns `default` if the message is empty.
    """
    return message.splitlines()[0][:160] if message else default
