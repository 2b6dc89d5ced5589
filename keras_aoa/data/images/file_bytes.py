"""Reads formats and numbers from the bytes of an image file, with few TensorFlow operations.

Every program that reads images traces the functions in this file, so each operation adds to the
start-up time.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


def kinds_of(start):
    """Return a dictionary from format names to booleans, given the first bytes of a file."""
    return {
        "jpeg": tf.strings.substr(start, 0, 3) == b"\xff\xd8\xff",
        "png": tf.strings.substr(start, 0, 4) == b"\x89PNG",
        "gif": tf.strings.substr(start, 0, 4) == b"GIF8",
        "bmp": tf.strings.substr(start, 0, 2) == b"BM",
        "webp": matches(start, r"RIFF\C{4}WEBP"),
    }


def matches(start, pattern):
    """Return whether the first bytes of a file begin with a regular expression."""
    return tf.strings.regex_full_match(start, pattern + r"\C*")


class FileBytes(NamedTuple):
    """Content of a file: as text, and as numbers with a zero after the last byte."""

    text: tf.Tensor
    numbers: tf.Tensor
    size: tf.Tensor  # int64, bytes of the text


def file_bytes(text):
    """Return the `FileBytes` of a file's content, a scalar string."""
    # `number` reads the appended zero at all offsets past the end.
    numbers = tf.concat([tf.io.decode_raw(text, tf.uint8), tf.zeros(1, tf.uint8)], 0)
    return FileBytes(text, numbers, tf.size(numbers, tf.int64) - 1)


def number(data, at, length, little_endian=False):
    """Read unsigned integers of `length` bytes as int64. The offsets `at` may have any shape.

    Bytes past the end of the file count as 0. `little_endian` may be a tensor.
    """
    if length > 1:
        at = (at[..., None] if np.ndim(at) else at) + np.arange(length)
    values = tf.cast(tf.gather(data.numbers, tf.minimum(data.size, at)), tf.int64)
    if length == 1:
        return values
    if tf.is_tensor(little_endian):
        weights = tf.where(little_endian, weights_of(length, True), weights_of(length, False))
    else:
        weights = weights_of(length, little_endian)
    return tf.reduce_sum(values * weights, -1)


def has_text(data, at, text):
    """Return whether the file contains `text` at the offset `at`."""
    return tf.strings.substr(data.text, tf.minimum(data.size, at), len(text)) == text


def weights_of(length, little_endian):
    """Return the place value of each byte in a number of `length` bytes."""
    powers = 256 ** np.arange(length)
    return powers if little_endian else powers[::-1]
