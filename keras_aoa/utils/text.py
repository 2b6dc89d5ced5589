"""Helpers that format names and values for one-line messages."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """Return a "Did you mean" sentence with up to three known names that resemble `name`.

    If no known name is similar, return a list of known names instead.
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
    """Return the first three names, separated by commas, and the number of further names."""
    names = [printable(name) for name in names]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def printable(name: object) -> str:
    """Return a name as text that is safe to print on one line.

    If the name contains control characters, such as a line break, its `repr` is returned.
    """
    text = str(name)
    return text if text.isprintable() else repr(text)


def one_line(text: str) -> str:
    """Return a caption on one line, with one space for each run of whitespace.

    COCO's captions contain line breaks. JSON may contain single UTF-16 surrogates. UTF-8 files
    cannot contain surrogates, so each surrogate becomes a question mark.
    """
    return " ".join(text.split()).encode(errors="replace").decode()


def first_line(message: str | None, default: str) -> str:
    """Return the first line of a library's message, up to 160 characters.

    If the message is empty, return `default`.
    """
    return message.splitlines()[0][:160] if message else default
