"""TensorFlow's error for exhausted memory, which it raises only after ten seconds of waiting."""

import functools
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def start():
    """Begin an impossible allocation in a thread, so that other tests can run meanwhile."""
    import tensorflow as tf

    return ThreadPoolExecutor(1).submit(lambda: tf.zeros((2**44,)))


def fail():
    """Raise the error of the allocation."""
    start().result()
