"""Progress output of commands, for terminals and for log files."""

import sys

_silent = False


def silence(silent=True):
    """Turn progress output off, for every process except the chief of a cluster."""
    global _silent
    _silent = silent


def print_progress(line):
    """Print a line, unless output is silenced."""
    if not _silent:
        print(line, flush=True)


def progress_bar(items=None, **options):
    """Return a `tqdm.tqdm` bar that updates at most every 30 seconds outside a terminal."""
    from tqdm import tqdm

    if _silent:
        options["disable"] = True
    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "miniters": 1, **options}
    return tqdm(items, leave=False, **options)
