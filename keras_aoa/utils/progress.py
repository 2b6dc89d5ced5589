"""Prints the progress of commands, to terminals and to log files."""

import sys

_silent = False


def silence(silent=True):
    """Turn progress output off or on. In a cluster, only the chief prints progress."""
    global _silent
    _silent = silent


def print_progress(line):
    """Print a line, unless progress output is off."""
    if not _silent:
        print(line, flush=True)


def progress_bar(items=None, **options):
    """Return a `tqdm.tqdm` bar. In a log file, the bar updates at most every 30 seconds."""
    from tqdm import tqdm

    if _silent:
        options["disable"] = True
    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "miniters": 1, **options}
    return tqdm(items, leave=False, **options)
