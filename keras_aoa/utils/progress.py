"""What a command says while it works; in a terminal, in a log file, or not at all."""

import sys

_silent = False


def silence(silent=True):
    """Say nothing from now on: for a process whose chief speaks."""
    global _silent
    _silent = silent


def print_progress(line):
    """Print a line."""
    if not _silent:
        print(line, flush=True)


def progress_bar(items=None, **options):
    """`tqdm.tqdm`; where the output is no terminal, a line in half a minute at most."""
    from tqdm import tqdm

    if _silent:
        options["disable"] = True
    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "miniters": 1, **options}
    return tqdm(items, leave=False, **options)
