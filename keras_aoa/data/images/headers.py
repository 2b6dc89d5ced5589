"""Checks image files before decoding and reads their EXIF orientation, with TensorFlow only.

`tf.io.decode_image` ignores the EXIF orientation, and it allocates the memory for any size that a
header declares. For animated WebP, TensorFlow 2.21 writes past its buffer. The functions here
prevent these faults inside the graph, so that a SavedModel does not need Python.

Sources: JPEG, ITU-T T.81 annex B; Exif 2.32, CIPA DC-008, 4.5 and 4.6; PNG, third edition, 5 and
11.3.4.5; GIF 89a, 15 to 24; WebP container, RFC 9649, 2.5 to 2.7 and 3.4; VP8, RFC 6386, 9.1.
"""

import numpy as np
import tensorflow as tf

MAX_PIXELS = 2**27  # 134 megapixels, 400 MB when decoded; many phones have up to 108
LARGE = 2**24  # pixels; larger images must not exceed `PIXELS_PER_BYTE`
PIXELS_PER_BYTE = 1000  # the most for a blank PNG; photographs have 2 to 30
MAX_BLOCKS = 100  # of a file; EXIF comes early, and a hostile file may have any number of blocks
MAX_SUB_BLOCKS = 2**18  # up to the end of a GIF's first image; most sub-blocks have 255 bytes

_EXIF = int.from_bytes(b"Exif\0\0")
_ORIENTATION, _SHORT = 0x0112, 3


def check_header(image_bytes, max_pixels=MAX_PIXELS):
    """Return `image_bytes` unchanged if the file is safe to decode.

    Args:
        image_bytes: The file's content, a scalar string.
        max_pixels: Maximum number of pixels of the image.

    Raises:
        tf.errors.InvalidArgumentError: The format is not JPEG, PNG, GIF, BMP or WebP, the image
            declares more than `max_pixels` pixels, the file is too short for a large image, the
            file is an animated WebP, or a PNG does not begin with its header.
    """
    data = _bytes(tf.strings.substr(image_bytes, 0, 32))

    def jpeg_pixels():
        return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(image_bytes)[:2], tf.int64))

    pixels = tf.case(
        [
            (_is_jpeg(data), jpeg_pixels),
            (_is_png(data), lambda: _number(data, 16, 4) * _number(data, 20, 4)),
            (_is(data, 0, b"GIF8"), lambda: _gif_pixels(_bytes(image_bytes))),
            (_is_webp(data), lambda: _webp_pixels(data)),
            (_is(data, 0, b"BM"), lambda: _number(data, 18, 4, True) * _height(data)),
        ],
        default=lambda: tf.constant(-1, tf.int64),
    )
    # TensorFlow would also try formats whose size cannot be checked here.
    known = tf.debugging.Assert(
        pixels >= 0, ["Unknown image file format: expected JPEG, PNG, GIF, BMP or WebP"]
    )
    animated = _is_webp(data) & _is(data, 12, b"VP8X") & (_number(data, 20, 1) & 2 > 0)
    small = tf.debugging.Assert(
        pixels <= max_pixels, [f"the image declares more than {max_pixels} pixels:", pixels]
    )
    size = tf.strings.length(image_bytes)
    filled = (pixels <= LARGE) | (pixels <= PIXELS_PER_BYTE * tf.cast(size, tf.int64))
    long_enough = tf.debugging.Assert(
        filled, ["the file is too short for its declared pixels:", pixels, size]
    )
    still = tf.debugging.Assert(~animated, ["animated WebP is not supported"])
    sized = ~_is_png(data) | _is(data, 12, b"IHDR")
    in_order = tf.debugging.Assert(sized, ["the PNG does not begin with its header"])
    checks = [check for check in (known, small, long_enough, still, in_order) if check is not None]
    with tf.control_dependencies(checks):
        return tf.identity(image_bytes)


def _webp_pixels(data):
    def lossy():
        return (_number(data, 26, 2, True) % 2**14) * (_number(data, 28, 2, True) % 2**14)

    def extended():
        return (_number(data, 24, 3, True) + 1) * (_number(data, 27, 3, True) + 1)

    def lossless():
        bits = _number(data, 21, 4, True)
        return (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)

    return tf.case(
        [(_is(data, 12, b"VP8X"), extended), (_is(data, 12, b"VP8L"), lossless)],
        default=lossy,
    )


def _gif_pixels(data):
    # TensorFlow allocates the size of the frame, which may be larger than the GIF's screen.
    frame = _first_image(data)
    sizes = [_number(data, at + offset, 2, True) for at in (6, frame + 5) for offset in (0, 2)]
    return tf.maximum(sizes[0] * sizes[1], sizes[2] * sizes[3])


def _height(data):
    # The height of a BMP is negative if its rows are stored from top to bottom.
    height = _number(data, 22, 4, True)
    return tf.minimum(height, 2**32 - height)


def first_frame(image_bytes):
    """Return a GIF cut after its first image.

    TensorFlow would decode all images of a GIF before it returns the first.
    """
    end = tf.cast(_first_image_end(_bytes(image_bytes)), tf.int32)
    return tf.strings.substr(image_bytes, 0, end) + b";"


def with_white_colors(image_bytes):
    """Replace all colors of a GIF from `first_frame` by white.

    Transparent pixels and pixels outside the frame stay black. The decoded result is therefore the
    opacity of the original GIF.
    """
    data = _bytes(image_bytes)
    frame = _first_image(data)
    size = tf.strings.length(image_bytes)
    for start, flags in ((13, _number(data, 10, 1)), (frame + 10, _number(data, frame + 9, 1))):
        start = tf.minimum(tf.cast(start, tf.int32), size)
        end = tf.minimum(start + tf.cast(_table(flags), tf.int32), size)
        white = tf.strings.reduce_join(tf.fill([end - start], b"\xff"))
        image_bytes = (
            tf.strings.substr(image_bytes, 0, start)
            + white
            + tf.strings.substr(image_bytes, end, size - end)
        )
    return image_bytes


def may_have_color_key(image_bytes):
    """Return whether a PNG file may have the chunk `tRNS`, which makes a color transparent."""
    return tf.strings.regex_full_match(image_bytes, rb"\C*tRNS\C*")


def with_adobe_marker(image_bytes):
    """Add Adobe's marker, which means inverted inks, to a JPEG file with CMYK colors.

    Browsers, Pillow and OpenCV assume inverted inks in every CMYK file. If the file already has
    such a marker, its own marker takes precedence, because it comes later.
    """
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    size = tf.strings.length(image_bytes)
    return tf.cond(
        tf.image.extract_jpeg_shape(image_bytes)[2] == 4,
        lambda: b"\xff\xd8" + marker + tf.strings.substr(image_bytes, 2, size),
        lambda: image_bytes,
    )


def _first_image(data):
    """Return the offset of a GIF's first image, or the file's length if there is no image."""
    size = tf.size(data, tf.int64) - 1
    # Skip the extensions. An extension consists of a label and sub-blocks.
    start = tf.while_loop(
        lambda at: (at < size) & (_number(data, at, 1) == 0x21),
        lambda at: (_behind_sub_blocks(data, at + 2),),
        (13 + _table(_number(data, 10, 1)),),
        maximum_iterations=MAX_BLOCKS,
    )[0]
    return tf.where(_number(data, start, 1) == 0x2C, start, size)


def _first_image_end(data):
    """Return the offset at which a GIF's first image ends.

    If the image is cut off, the result is the file's length. If the file has no image, or more than
    `MAX_SUB_BLOCKS` sub-blocks, the result is 0, which makes decoding fail.
    """
    size = tf.size(data, tf.int64) - 1
    start = _first_image(data)
    end = _behind_sub_blocks(data, start + 11 + _table(_number(data, start + 9, 1)))
    return tf.where((start < size) & (end <= size), end, 0)


def _table(flags):
    """Return the size of a GIF's color table, in bytes."""
    return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _behind_sub_blocks(data, at):
    """Return the offset after a sequence of GIF sub-blocks.

    A sub-block consists of its length and its bytes. A sub-block of length 0 ends the sequence. If
    the end is missing, the result is the file's length. If there are more than `MAX_SUB_BLOCKS`
    sub-blocks, the result is the file's length plus 1.
    """
    size = tf.size(data, tf.int64) - 1
    last = tf.while_loop(
        lambda at: (at < size) & (_number(data, at, 1) > 0),
        lambda at: (at + 1 + _number(data, at, 1),),
        (at,),
        maximum_iterations=MAX_SUB_BLOCKS,
    )[0]
    return tf.where(_number(data, last, 1) > 0, size + 1, tf.minimum(last + 1, size))


def orientation(image_bytes):
    """Return the EXIF orientation of a JPEG, PNG or WebP file, an int32 scalar from 1 to 8.

    If the file has no orientation, or its EXIF data is damaged, the result is 1, which means
    upright.
    """
    # Most files have no EXIF, and this search is ten times as fast as reading all blocks.
    has_exif = tf.strings.regex_full_match(image_bytes, r"\C*(?i:exif)\C*")
    return tf.cond(has_exif, lambda: _read_orientation(image_bytes), lambda: 1)


def _read_orientation(image_bytes):
    data = _bytes(image_bytes)
    exif = tf.case(
        [
            (_is_jpeg(data), lambda: _find_exif(data, 2, _jpeg_block)),
            (_is_png(data), lambda: _find_exif(data, 8, _png_block)),
            (_is_webp(data), lambda: _find_exif(data, 12, _webp_block)),
        ],
        default=lambda: tf.zeros(2, tf.int64),
    )
    return _tiff_orientation(_bytes(tf.strings.substr(image_bytes, exif[0], exif[1])))


def _bytes(text):
    # `_number` reads the appended zero at all offsets past the end.
    return tf.concat([tf.io.decode_raw(text, tf.uint8), [tf.constant(0, tf.uint8)]], 0)


def _number(data, at, length, little_endian=False):
    """Read unsigned integers of `length` bytes as int64. The offsets `at` may have any shape.

    Bytes past the end of the file count as 0.
    """
    digits = np.arange(length)
    at = tf.convert_to_tensor(at, tf.int64)[..., None] + digits
    values = tf.gather(data, tf.minimum(at, tf.size(data, tf.int64) - 1))
    weights = tf.where(little_endian, 256**digits, 256 ** digits[::-1])
    return tf.reduce_sum(tf.cast(values, tf.int64) * weights, -1)


def _is(data, at, text):
    return _number(data, at, len(text)) == int.from_bytes(text)


def _is_jpeg(data):
    return _is(data, 0, b"\xff\xd8\xff")


def _is_png(data):
    return _is(data, 0, b"\x89PNG")


def _is_webp(data):
    return _is(data, 0, b"RIFF") & _is(data, 8, b"WEBP")


# Each function below reads the block at an offset and returns: whether the block contains EXIF,
# where its content begins and ends, where the next block begins, and whether EXIF may still follow.


def _jpeg_block(data, at):
    marker = _number(data, at, 2)
    end = at + 2 + _number(data, at + 2, 2)
    exif = (marker == 0xFFE1) & (_number(data, at + 4, 6) == _EXIF)
    filler = marker == 0xFFFF
    scan_begins = marker == 0xFFDA
    return exif, at + 4, end, tf.where(filler, at + 1, end), (marker > 0xFF00) & ~scan_begins


def _png_block(data, at):
    end = at + 8 + _number(data, at, 4)
    return _is(data, at + 4, b"eXIf"), at + 8, end, end + 4, ~_is(data, at + 4, b"IDAT")


def _webp_block(data, at):
    end = at + 8 + _number(data, at + 4, 4, little_endian=True)
    return _is(data, at, b"EXIF"), at + 8, end, end + end % 2, True


def _find_exif(data, first_block, read_block):
    """Return start and length of the TIFF structure with EXIF tags, or (0, 0) if there is none."""
    size = tf.size(data, tf.int64) - 1

    def step(at, _):
        exif, start, end, following, more = read_block(data, at)
        start = tf.minimum(start + 6 * tf.cast(_number(data, start, 6) == _EXIF, tf.int64), size)
        extent = tf.where(exif, tf.stack([start, tf.maximum(end - start, 0)]), 0)
        return tf.where(exif | ~tf.convert_to_tensor(more), size, following), extent

    return tf.while_loop(
        lambda at, _: at < size,
        step,
        (tf.constant(first_block, tf.int64), tf.zeros(2, tf.int64)),
        maximum_iterations=MAX_BLOCKS,
    )[1]


def _tiff_orientation(tiff):
    """Read the orientation from a TIFF structure, `(bytes + 1,)` as returned by `_bytes`."""
    little = _is(tiff, 0, b"II")
    valid = (little | _is(tiff, 0, b"MM")) & (_number(tiff, 2, 2, little) == 42)
    directory = _number(tiff, 4, 4, little)
    entries = directory + 2 + 12 * tf.range(_number(tiff, directory, 2, little))
    tags, types, values = (_number(tiff, entries + offset, 2, little) for offset in (0, 2, 8))
    orientations = tf.boolean_mask(values, (tags == _ORIENTATION) & (types == _SHORT))
    value = tf.concat([orientations, [1]], 0)[0]
    return tf.cast(tf.where(valid & (value >= 1) & (value <= 8), value, 1), tf.int32)
