"""Decodes the content of image files to upright pixels.

The functions consist of TensorFlow operations, so that a SavedModel decodes images without Python.
"""

import tensorflow as tf

from keras_aoa.data.images import headers as image_headers
from keras_aoa.data.images.exif import orientation as exif_orientation


def decode(image_bytes, max_pixels=image_headers.MAX_PIXELS):
    """Decode a JPEG, PNG, GIF, BMP or WebP file to an upright image.

    Gray and CMYK images become RGB, 16 bits become 8, and transparency becomes white. Only the
    first frame of an animated GIF is decoded. A BMP's palette is not applied.

    Args:
        image_bytes: The file's content, a scalar string.
        max_pixels: Maximum number of pixels of the image.

    Returns:
        RGB, `(height, width, 3)`, uint8.

    Raises:
        tf.errors.InvalidArgumentError: The format is unknown, the file is damaged, or
            `headers.check_header` rejects the file.
    """
    image = decode_as_stored(image_bytes, max_pixels)
    return _turn(image, exif_orientation(image_bytes))


def decode_as_stored(image_bytes, max_pixels=image_headers.MAX_PIXELS):
    """Decode a file like `decode`, but do not turn the image upright."""
    image_bytes = image_headers.check_header(image_bytes, max_pixels)
    return tf.cond(
        tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff",
        lambda: _decode_jpeg(image_bytes),
        lambda: _decode_other(image_bytes),
    )


def _decode_jpeg(image_bytes):
    image_bytes = image_headers.with_adobe_marker(image_bytes)
    # INTEGER_ACCURATE yields the same pixels as other libraries; the default is not faster.
    return tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_gif(image_bytes):
    image, opacity = (
        tf.io.decode_image(content, channels=3, expand_animations=False)
        for content in image_headers.first_frame_and_opacity(image_bytes)
    )
    return image | tf.bitwise.invert(opacity)


def _decode_other(image_bytes):
    start = tf.strings.substr(image_bytes, 0, 4)
    # TensorFlow applies a color key only if it decodes four channels.
    keyed = (start == b"\x89PNG") & image_headers.may_have_color_key(image_bytes)

    def decode_with(channels):
        return tf.io.decode_image(image_bytes, channels, expand_animations=False)

    image = tf.case(
        [(start == b"GIF8", lambda: _decode_gif(image_bytes)), (keyed, lambda: decode_with(4))],
        default=lambda: decode_with(0),
    )
    # The fourth byte of a BMP's pixel is unused and commonly 0, so it must not count as alpha.
    return _on_white(image, has_alpha=tf.strings.substr(image_bytes, 0, 2) != b"BM")


def _on_white(image, has_alpha):
    """Convert an image with 1 to 4 channels to RGB on a white background.

    If `has_alpha` is true, the last channel of an image with 2 or 4 channels is alpha.
    """
    channels = tf.shape(image)[2]

    def opaque(pixels):
        return tf.cond(
            channels < 3, lambda: tf.repeat(pixels[..., :1], 3, -1), lambda: pixels[..., :3]
        )

    def blended(pixels):
        # uint16 needs half the memory of float32 and yields the same result.
        alpha = tf.cast(pixels[..., -1:], tf.uint16)
        colors = tf.cast(opaque(pixels), tf.uint16)
        return tf.cast((alpha * colors + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    def blend():
        # Blending all rows of a large image at once takes eight times the memory of the image.
        shape = tf.shape(image, tf.int64)
        parts = tf.where(tf.size(image) > image_headers.LARGE, shape[0], 1)
        rows = tf.reshape(image, tf.concat([[parts, shape[0] // parts], shape[1:]], 0))
        mapped = tf.map_fn(blended, rows, parallel_iterations=1)
        return tf.reshape(mapped, tf.concat([shape[:2], [3]], 0))

    return tf.cond(has_alpha & (channels % 2 == 0), blend, lambda: opaque(image))


def _turn(image, orientation):
    """Turn `image (height, width, 3)` upright, given its EXIF orientation, 1 to 8."""

    def one_of(*values):
        return tf.reduce_any(orientation == values)

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))
