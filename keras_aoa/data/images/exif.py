"""Reads the EXIF orientation of image files, with TensorFlow only.

`tf.io.decode_image` ignores the EXIF orientation.

Sources: JPEG, ITU-T T.81 annex B; Exif 2.32, CIPA DC-008, 4.5 and 4.6; PNG, third edition, 5 and
11.3.4.5; WebP container, RFC 9649, 2.5 to 2.7.
"""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.file_bytes import file_bytes, has_text, kinds_of, number

MAX_BLOCKS = 100  # of a file; EXIF comes early, and a hostile file may have any number of blocks

_EXIF = b"Exif\0\0"
_ORIENTATION, _SHORT = 0x0112, 3


def orientation(image_bytes):
    """Return the EXIF orientation of a JPEG, PNG or WebP file, an int32 scalar from 1 to 8.

    If the file has no orientation, or its EXIF data is damaged, the result is 1, which means
    upright.
    """
    # Most files have no EXIF, and this search is ten times as fast as reading all blocks.
    has_exif = tf.strings.regex_full_match(image_bytes, r"\C*(?i:exif)\C*")
    return tf.cond(has_exif, lambda: _read_orientation(image_bytes), lambda: 1)


def _read_orientation(image_bytes):
    data = file_bytes(image_bytes)
    kinds = kinds_of(tf.strings.substr(image_bytes, 0, 32))
    exif = tf.case(
        [
            (kinds["jpeg"], lambda: _find_exif(data, 2, _jpeg_block)),
            (kinds["png"], lambda: _find_exif(data, 8, _png_block)),
            (kinds["webp"], lambda: _find_exif(data, 12, _webp_block)),
        ],
        default=lambda: tf.zeros(2, tf.int64),
    )
    return _tiff_orientation(file_bytes(tf.strings.substr(image_bytes, exif[0], exif[1])))


# Each function below reads the block at an offset and returns: whether the block contains EXIF,
# where its content begins and ends, where the next block begins, and whether EXIF may still follow.


def _jpeg_block(data, at):
    block = number(data, at, 4)
    marker = block // 2**16
    end = at + 2 + block % 2**16
    exif = (marker == 0xFFE1) & has_text(data, at + 4, _EXIF)
    filler = marker == 0xFFFF
    scan_begins = marker == 0xFFDA
    return exif, at + 4, end, tf.where(filler, at + 1, end), (marker > 0xFF00) & ~scan_begins


def _png_block(data, at):
    end = at + 8 + number(data, at, 4)
    return has_text(data, at + 4, b"eXIf"), at + 8, end, end + 4, ~has_text(data, at + 4, b"IDAT")


def _webp_block(data, at):
    end = at + 8 + number(data, at + 4, 4, little_endian=True)
    return has_text(data, at, b"EXIF"), at + 8, end, end + end % 2, True


def _find_exif(data, first_block, read_block):
    """Return start and length of the TIFF structure with EXIF tags, or (0, 0) if there is none."""

    def step(at, _):
        exif, start, end, following, more = read_block(data, at)
        prefix = tf.where(has_text(data, start, _EXIF), tf.constant(len(_EXIF), tf.int64), 0)
        start = tf.minimum(start + prefix, data.size)
        extent = tf.where(exif, tf.stack([start, tf.maximum(end - start, 0)]), 0)
        return tf.where(exif | ~tf.convert_to_tensor(more), data.size, following), extent

    return tf.while_loop(
        lambda at, _: at < data.size,
        step,
        (tf.constant(first_block, tf.int64), tf.zeros(2, tf.int64)),
        maximum_iterations=MAX_BLOCKS,
    )[1]


def _tiff_orientation(tiff):
    """Read the orientation from a TIFF structure as returned by `file_bytes`."""
    little = has_text(tiff, 0, b"II")
    valid = (little | has_text(tiff, 0, b"MM")) & (number(tiff, 2, 2, little) == 42)
    directory = number(tiff, 4, 4, little)
    entries = directory + 2 + 12 * tf.range(number(tiff, directory, 2, little))
    tags, types, values = tf.unstack(number(tiff, entries + np.array([[0], [2], [8]]), 2, little))
    orientations = tf.boolean_mask(values, (tags == _ORIENTATION) & (types == _SHORT))
    value = tf.concat([orientations, [1]], 0)[0]
    return tf.cast(tf.where(valid & (value >= 1) & (value <= 8), value, 1), tf.int32)
