"""Checks that several threads call a function one after another."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor


def one_at_a_time(function):
    """Wrap a function so that it fails if two threads are in it at the same time."""
    inside = []

    @functools.wraps(function)
    def watched(*arguments, **named):
        inside.append(None)
        time.sleep(0.02)
        assert len(inside) == 1
        try:
            return function(*arguments, **named)
        finally:
            inside.pop()

    return watched


def in_threads(function, values):
    """Call a function in one thread per value, all at the same time, and return the results."""
    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(function, values))
