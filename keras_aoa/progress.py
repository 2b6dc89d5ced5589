"""Progress bars that a log file can hold too."""

import sys


def progress_bar(items=None, **options):
    """`tqdm.tqdm`; where the output is no terminal, a line in half a minute at most."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "miniters": 1, **options}
    return tqdm(items, leave=False, **options)
