"""Checks image files before decoding, with TensorFlow only.

`tf.io.decode_image` allocates the memory for any size that a header declares. For animated WebP,
TensorFlow 2.21 writes past its buffer. The functions here check files inside the graph, so that a
SavedModel needs no Python.

Sources: PNG, third edition, 5; GIF 89a, 15 to 24; WebP container, RFC 9649, 2.5 to 2.7 and 3.4;
VP8, RFC 6386, 9.1.
"""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.file_bytes import file_bytes, kinds_of, matches, number, weights_of

MAX_PIXELS = 2**27  # 134 megapixels, 400 MB when decoded; many phones have up to 108
LARGE = 2**24  # pixels; larger images must not exceed `PIXELS_PER_BYTE`
PIXELS_PER_BYTE = 1000  # the most for a blank PNG; photographs have 2 to 30
MAX_EXTENSIONS = 100  # before a GIF's first image; a hostile file may have any number
MAX_SUB_BLOCKS = 2**18  # up to the end of a GIF's first image; most sub-blocks have 255 bytes

# Numbers in the first 32 bytes of a file: offset, bytes, and their order.
_HEADER_NUMBERS = {
    "png width": (16, 4, "big"),
    "png height": (20, 4, "big"),
    "gif width": (6, 2, "little"),
    "gif height": (8, 2, "little"),
    "bmp width": (18, 4, "little"),
    "bmp height": (22, 4, "little"),
    "webp flags": (20, 1, "little"),
    "extended width": (24, 3, "little"),
    "extended height": (27, 3, "little"),
    "lossless sides": (21, 4, "little"),
    "lossy width": (26, 2, "little"),
    "lossy height": (28, 2, "little"),
}


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
    start = tf.strings.substr(image_bytes, 0, 32)
    kinds = kinds_of(start)
    numbers = _header_numbers(start)

    def jpeg_pixels():
        return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(image_bytes)[:2], tf.int64))

    pixels = tf.case(
        [
            (kinds["jpeg"], jpeg_pixels),
            (kinds["gif"], lambda: _gif_pixels(file_bytes(image_bytes), numbers)),
        ],
        default=lambda: _pixels_in_header(start, kinds, numbers),
    )
    # TensorFlow would also try formats whose size cannot be checked here.
    known = tf.debugging.Assert(
        pixels >= 0, ["Unknown image file format: expected JPEG, PNG, GIF, BMP or WebP"]
    )
    small = tf.debugging.Assert(
        pixels <= max_pixels, [f"the image declares more than {max_pixels} pixels:", pixels]
    )
    size = tf.strings.length(image_bytes)
    filled = (pixels <= LARGE) | (pixels <= PIXELS_PER_BYTE * tf.cast(size, tf.int64))
    long_enough = tf.debugging.Assert(
        filled, ["the file is too short for its declared pixels:", pixels, size]
    )
    animated = matches(start, r"RIFF\C{4}WEBPVP8X") & (numbers["webp flags"] & 2 > 0)
    still = tf.debugging.Assert(~animated, ["animated WebP is not supported"])
    sized = ~kinds["png"] | matches(start, r"\C{12}IHDR")
    in_order = tf.debugging.Assert(sized, ["the PNG does not begin with its header"])
    checks = [check for check in (known, small, long_enough, still, in_order) if check is not None]
    with tf.control_dependencies(checks):
        return tf.identity(image_bytes)


def _header_numbers(start):
    """Read the numbers in `_HEADER_NUMBERS`, by name, from the first bytes of a file."""
    weights = np.zeros((len(_HEADER_NUMBERS), 32), np.int64)
    for row, (at, length, order) in zip(weights, _HEADER_NUMBERS.values(), strict=True):
        row[at : at + length] = weights_of(length, order == "little")
    header = tf.cast(tf.io.decode_raw(start, tf.uint8, fixed_length=32), tf.int64)
    # One product instead of many small operations, which would take long to trace.
    return dict(zip(_HEADER_NUMBERS, tf.unstack(tf.linalg.matvec(weights, header)), strict=True))


def _pixels_in_header(start, kinds, numbers):
    """Return the number of pixels of a PNG, WebP or BMP, or -1 for other files."""
    extended = (numbers["extended width"] + 1) * (numbers["extended height"] + 1)
    bits = numbers["lossless sides"]
    lossless = (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)
    lossy = (numbers["lossy width"] % 2**14) * (numbers["lossy height"] % 2**14)
    # The height of a BMP is negative if its rows are stored from top to bottom.
    height = tf.minimum(numbers["bmp height"], 2**32 - numbers["bmp height"])
    pixels = tf.constant(-1, tf.int64)
    for kind, own in (
        (kinds["bmp"], numbers["bmp width"] * height),
        (kinds["webp"], lossy),
        (matches(start, r"RIFF\C{4}WEBPVP8L"), lossless),
        (matches(start, r"RIFF\C{4}WEBPVP8X"), extended),
        (kinds["png"], numbers["png width"] * numbers["png height"]),
    ):
        pixels = tf.where(kind, own, pixels)
    return pixels


def _gif_pixels(data, numbers):
    # TensorFlow allocates the size of the frame, which may be larger than the GIF's screen.
    frame = number(data, _first_image(data) + 5, 4, little_endian=True)
    screen = numbers["gif width"] * numbers["gif height"]
    return tf.maximum(screen, (frame % 2**16) * (frame // 2**16))


def first_frame(image_bytes):
    """Return a GIF cut after its first image.

    TensorFlow would decode all images of a GIF before it returns the first.
    """
    return _cut(image_bytes, file_bytes(image_bytes))[0]


def _cut(image_bytes, data):
    """Return a GIF cut after its first image, and the offset of this image."""
    start = _first_image(data)
    end = tf.cast(_first_image_end(data, start), tf.int32)
    return tf.strings.substr(image_bytes, 0, end) + b";", start


def first_frame_and_opacity(image_bytes):
    """Return a GIF cut after its first image, and the same GIF with all its colors white.

    Transparent pixels and pixels outside the frame stay black. The second GIF therefore shows the
    opacity of the first.
    """
    data = file_bytes(image_bytes)
    image_bytes, frame = _cut(image_bytes, data)
    white_bytes = image_bytes
    size = tf.strings.length(image_bytes)
    for start, flags in ((13, number(data, 10, 1)), (frame + 10, number(data, frame + 9, 1))):
        start = tf.minimum(tf.cast(start, tf.int32), size)
        end = tf.minimum(start + tf.cast(_table(flags), tf.int32), size)
        white = tf.strings.reduce_join(tf.fill([end - start], b"\xff"))
        white_bytes = (
            tf.strings.substr(white_bytes, 0, start)
            + white
            + tf.strings.substr(white_bytes, end, size - end)
        )
    return image_bytes, white_bytes


def may_have_color_key(image_bytes):
    """Return whether a PNG file may have the chunk `tRNS`, which makes a color transparent."""
    return tf.strings.regex_full_match(image_bytes, rb"\C*tRNS\C*")


def with_adobe_marker(image_bytes):
    """Add Adobe's marker, which means inverted inks, to a JPEG file with CMYK colors.

    Browsers, Pillow and OpenCV assume inverted inks in every CMYK file. If the file already has
    Adobe's marker, that marker takes precedence, because it comes later.
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

    # Skip the extensions. An extension consists of a label and sub-blocks.
    def skip(at, _):
        following = _behind_sub_blocks(data, at + 2)
        return following, number(data, following, 1)

    start = 13 + _table(number(data, 10, 1))
    start, label = tf.while_loop(
        lambda _, label: label == 0x21,
        skip,
        (start, number(data, start, 1)),
        maximum_iterations=MAX_EXTENSIONS,
    )
    return tf.where(label == 0x2C, start, data.size)


def _first_image_end(data, start):
    """Return the offset at which a GIF's first image ends, given the offset of the image.

    If the image is cut off, the result is the file's length. If the file has no image, or more than
    `MAX_SUB_BLOCKS` sub-blocks, the result is 0, which makes decoding fail.
    """
    end = _behind_sub_blocks(data, start + 11 + _table(number(data, start + 9, 1)))
    return tf.where((start < data.size) & (end <= data.size), end, 0)


def _table(flags):
    """Return the size of a GIF's color table, in bytes."""
    return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _behind_sub_blocks(data, at):
    """Return the offset after a sequence of GIF sub-blocks.

    A sub-block consists of its length and its bytes. A sub-block of length 0 ends the sequence. If
    the end is missing, the result is the file's length. If there are more than `MAX_SUB_BLOCKS`
    sub-blocks, the result is the file's length plus 1.
    """

    def skip(at, length):
        following = at + 1 + length
        return following, number(data, following, 1)

    last, length = tf.while_loop(
        lambda _, length: length > 0,  # at the file's end the length is 0
        skip,
        (at, number(data, at, 1)),
        maximum_iterations=MAX_SUB_BLOCKS,
    )
    return tf.where(length > 0, data.size + 1, tf.minimum(last + 1, data.size))
