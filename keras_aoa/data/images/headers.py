"""What an image file says of itself before it is decoded, read with TensorFlow operations alone.

`tf.io.decode_image` ignores the EXIF orientation, allocates whatever size a header declares, and
TensorFlow 2.21 writes past its buffer on animated WebP. All of it is settled here, in the graph, so
that a SavedModel needs no Python for it.

Sources: JPEG, ITU-T T.81 annex B; Exif 2.32, CIPA DC-008, 4.5 and 4.6; PNG, third edition, 5 and
11.3.4.5; GIF 89a, 15 to 24; WebP container, RFC 9649, 2.5 to 2.7 and 3.4; VP8, RFC 6386, 9.1.
"""

import numpy as np
import tensorflow as tf

MAX_PIXELS = 2**27  # 134 megapixels: above the 108 of a phone, 400 MB once decoded
LARGE = 2**24  # pixels, from which on a file may not be shorter than any picture
PIXELS_A_BYTE = 1000  # an empty sheet as PNG at its best; photographs have 2 to 30
MAX_BLOCKS = 100  # EXIF stands among a file's first blocks; a hostile file has no end of them
MAX_SUB_BLOCKS = 2**18  # of a GIF up to its first image's end, commonly of 255 bytes each

_EXIF = int.from_bytes(b"Exif\0\0")
_ORIENTATION, _SHORT = 0x0112, 3


def check_header(image_bytes, max_pixels=MAX_PIXELS):
    """Returns `image_bytes`, a scalar string, or fails with an `InvalidArgumentError`.

    Refused are other formats than JPEG, PNG, GIF, BMP and WebP, images of more than `max_pixels`
    pixels, large ones in files too short for them, animated WebP, and PNG that does not begin with
    its size.
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
    # TensorFlow would try formats whose sizes are not known here.
    known = tf.debugging.Assert(
        pixels >= 0, ["Unknown image file format: none of JPEG, PNG, GIF, BMP and WebP"]
    )
    animated = _is_webp(data) & _is(data, 12, b"VP8X") & (_number(data, 20, 1) & 2 > 0)
    small = tf.debugging.Assert(
        pixels <= max_pixels, [f"the image declares more than {max_pixels} pixels:", pixels]
    )
    size = tf.strings.length(image_bytes)
    filled = (pixels <= LARGE) | (pixels <= PIXELS_A_BYTE * tf.cast(size, tf.int64))
    long_enough = tf.debugging.Assert(filled, ["pixels and bytes do not agree:", pixels, size])
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
    # TensorFlow makes a picture of the frame's size, whatever the screen's is.
    frame = _first_image(data)
    sizes = [_number(data, at + place, 2, True) for at in (6, frame + 5) for place in (0, 2)]
    return tf.maximum(sizes[0] * sizes[1], sizes[2] * sizes[3])


def _height(data):
    # Negative where a BMP's rows go from top to bottom.
    height = _number(data, 22, 4, True)
    return tf.minimum(height, 2**32 - height)


def first_frame(image_bytes):
    """A GIF up to the end of its first image; other files as they are.

    TensorFlow decodes all images of a GIF, however many, before it hands on the first.
    """

    def cut():
        data = _bytes(image_bytes)
        end = tf.cast(_first_image_end(data), tf.int32)
        return tf.strings.substr(image_bytes, 0, end) + b";"

    return tf.cond(tf.strings.substr(image_bytes, 0, 4) == b"GIF8", cut, lambda: image_bytes)


def _first_image(data):
    """Where a GIF's first image begins; its end where there is none."""
    size = tf.size(data, tf.int64) - 1
    # Of an extension's label and of its sub-blocks, an empty one is the last.
    start = tf.while_loop(
        lambda at: (at < size) & (_number(data, at, 1) == 0x21),
        lambda at: (_behind_sub_blocks(data, at + 2),),
        (13 + _table(_number(data, 10, 1)),),
        maximum_iterations=MAX_BLOCKS,
    )[0]
    return tf.where(_number(data, start, 1) == 0x2C, start, size)


def _first_image_end(data):
    """Where a GIF's first image ends; its own end where it is damaged before.

    0 where that is too far to be looked for: nothing shall be decoded that was not measured.
    """
    size = tf.size(data, tf.int64) - 1
    start = _first_image(data)
    end = _behind_sub_blocks(data, start + 11 + _table(_number(data, start + 9, 1)))
    return tf.where((start < size) & (end <= size), end, 0)


def _table(flags):
    """Bytes of a GIF's table of colors."""
    return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _behind_sub_blocks(data, at):
    """Where a GIF goes on behind sub-blocks, a length and as many bytes each, an empty one last.

    Its end where that is missing, and beyond it where there are too many to be counted.
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
    """EXIF orientation of a JPEG, PNG or WebP file: an int32 scalar, 1 to 8.

    It is 1, upright, where the file says nothing, and where its EXIF is damaged.
    """
    # Most files hold no EXIF, and a search costs a tenth of the walk from block to block.
    mentioned = tf.strings.regex_full_match(image_bytes, r"\C*(?i:exif)\C*")
    return tf.cond(mentioned, lambda: _walk(image_bytes), lambda: 1)


def _walk(image_bytes):
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
    # One zero more than there are bytes, for `_number` to read wherever it is sent past the end.
    return tf.concat([tf.io.decode_raw(text, tf.uint8), [tf.constant(0, tf.uint8)]], 0)


def _number(data, at, length, little_endian=False):
    """Unsigned int64 held in `length` bytes from `at`, any shape; bytes past the end are 0."""
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


# A block's reader tells: does it hold EXIF, where does its content begin and end, where does the
# next block begin, and can EXIF still come.


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
    """Start and length of the TIFF structure with the EXIF tags; (0, 0) where there is none."""
    size = tf.size(data, tf.int64) - 1

    def step(at, _):
        exif, start, end, following, more = read_block(data, at)
        start = tf.minimum(start + 6 * tf.cast(_number(data, start, 6) == _EXIF, tf.int64), size)
        found = tf.where(exif, tf.stack([start, tf.maximum(end - start, 0)]), 0)
        return tf.where(exif | ~tf.convert_to_tensor(more), size, following), found

    return tf.while_loop(
        lambda at, _: at < size,
        step,
        (tf.constant(first_block, tf.int64), tf.zeros(2, tf.int64)),
        maximum_iterations=MAX_BLOCKS,
    )[1]


def _tiff_orientation(tiff):
    """Orientation in the first directory of a TIFF structure, `(bytes + 1,)` as of `_bytes`."""
    little = _is(tiff, 0, b"II")
    valid = (little | _is(tiff, 0, b"MM")) & (_number(tiff, 2, 2, little) == 42)
    directory = _number(tiff, 4, 4, little)
    entries = directory + 2 + 12 * tf.range(_number(tiff, directory, 2, little))
    tags, types, values = (_number(tiff, entries + place, 2, little) for place in (0, 2, 8))
    found = tf.boolean_mask(values, (tags == _ORIENTATION) & (types == _SHORT))
    value = tf.concat([found, [1]], 0)[0]
    return tf.cast(tf.where(valid & (value >= 1) & (value <= 8), value, 1), tf.int32)
