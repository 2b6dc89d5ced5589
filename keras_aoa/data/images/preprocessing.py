"""The one preprocessing of training, evaluation, captioning and export: bytes to network input.

Only TensorFlow operations, so that a SavedModel does the same without Python.
"""

import os
import re
import stat
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from keras_aoa.data.images import headers as image_headers
from keras_aoa.utils.errors import UserError

Fit = Literal["crop", "stretch", "pad"]
SMALLEST, LARGEST = 16, 4096
LONG_SIDE = 1.5  # of a padded input, for a short side of 1: the authors' code cuts there too
PADDING = (124, 117, 104)  # ImageNet's mean, RGB
MAX_BYTES = 2**30  # of a file: the largest image that is decoded has fewer in every format


@dataclass(frozen=True)
class ImageSettings:
    """How an image is brought to the network's square input.

    Args:
        size: Height and width of the input, pixels.
        fit: `crop` keeps the shape of things and sees the central square, its side the image's
            short side, as the paper does; `stretch` sees the whole image; `pad` sees the whole
            and keeps the shape of things: the short side becomes `size`, or less where the long
            one would be more than 1.5 times that, and the rest of a square of 1.5 times `size`
            is filled up, as the paper does for object proposals.

    Raises:
        UserError: A value out of range.
    """

    size: int = 224
    fit: Fit = "crop"

    def __post_init__(self):
        if not isinstance(self.size, int) or not SMALLEST <= self.size <= LARGEST:
            raise UserError(
                f"image size: expected a whole number of pixels from {SMALLEST} to {LARGEST}, "
                f"received {self.size!r}; the paper's is 224."
            )
        if self.fit not in get_args(Fit):
            raise UserError(
                f"image fit: expected {' or '.join(map(repr, get_args(Fit)))}, "
                f"received {self.fit!r}; the paper's is 'crop'."
            )

    @property
    def side(self):
        """Height and width of the network's input, pixels."""
        return round(LONG_SIDE * self.size) if self.fit == "pad" else self.size


def decode(image_bytes, max_pixels=image_headers.MAX_PIXELS):
    """The upright picture in a JPEG, PNG, GIF, BMP or WebP file.

    Gray and CMYK become RGB, 16 bits become 8, transparency becomes white, an animated GIF its
    first frame. A BMP's palette is not applied.

    Args:
        image_bytes: The file's content, a scalar string.
        max_pixels: Of the largest image that is decoded.

    Returns:
        RGB, `(height, width, 3)`, uint8.

    Raises:
        tf.errors.InvalidArgumentError: Another format, a damaged file, or one that
            `image_headers.check_header` refuses.
    """
    image_bytes = image_headers.check_header(image_bytes, max_pixels)
    image = tf.cond(
        tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff",
        # As exact as other libraries, pixel for pixel; the default saves no time here.
        lambda: tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(image_bytes),
    )
    return _turn(image, image_headers.orientation(image_bytes))


def read_image(path):
    """The upright picture in a file, as of `decode`: an array.

    Raises:
        OSError: No such file.
        tf.errors.OpError: As `decode`; a file that is none, may not be read, or is larger than
            `MAX_BYTES`.
    """
    if not is_small_file(path):
        told = f"not a file of at most {MAX_BYTES} bytes"
        raise tf.errors.InvalidArgumentError(None, None, told)
    return decode(tf.io.read_file(os.fsencode(path))).numpy()


def is_small_file(path):
    """Whether a path is that of a file, not of a pipe or a device, small enough for an image."""
    status = os.stat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES


def why_unreadable(path):
    """In one line, why `read_image` does not read a file; "" where it does."""
    try:
        read_image(path)
    except (OSError, tf.errors.OpError) as error:
        return reason(error)
    return ""


def reason(error):
    """What the error of `read_image` or `decode` says, in one line, without where it was."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    said = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message, flags=re.DOTALL)
    asserted = re.search(r"Summarized data: b'(.*?)'(.*)", said, re.DOTALL)
    return " ".join(("".join(asserted.groups()) if asserted else said).split()).rstrip(".")


def _decode_other(image_bytes):
    image_bytes = image_headers.first_frame(image_bytes)
    image = tf.io.decode_image(image_bytes, channels=0, expand_animations=False)
    # A BMP's fourth byte is unused, and commonly 0.
    return _on_white(image, has_alpha=tf.strings.substr(image_bytes, 0, 2) != b"BM")


def _on_white(image, has_alpha):
    """RGB of an image of 1 to 4 channels; of 2 and 4 the last is alpha where it `has_alpha`."""
    channels = tf.shape(image)[2]

    def opaque(pixels):
        return tf.cond(
            channels < 3, lambda: tf.repeat(pixels[..., :1], 3, -1), lambda: pixels[..., :3]
        )

    def blended(pixels):
        # Whole numbers take half the memory of others, and give the same.
        alpha = tf.cast(pixels[..., -1:], tf.uint16)
        colors = tf.cast(opaque(pixels), tf.uint16)
        return tf.cast((alpha * colors + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    def blended_by_rows():
        # All at once takes eight times the memory of the picture.
        rows = tf.map_fn(blended, image[:, None], parallel_iterations=1)
        return tf.squeeze(rows, 1)

    def blend():
        large = tf.size(image) > image_headers.LARGE
        return tf.cond(large, blended_by_rows, lambda: blended(image))

    return tf.cond(has_alpha & (channels % 2 == 0), blend, lambda: opaque(image))


def _turn(image, orientation):
    """Upright `image (height, width, 3)` from its EXIF orientation, 1 to 8."""

    def one_of(*values):
        return tf.reduce_any(orientation == values)

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def prepare(image, settings):
    """The network's input, `(side, side, 3)` RGB in 0..255, float32, of `image (height, width, 3)`.

    Values are whole numbers, so that what is cached as uint8 equals what is served. The center is
    cut out before it is scaled (bilinear, antialiased): no shape of image takes more memory than
    the image itself.
    """
    if settings.fit == "crop":
        top, left, side = _central_square(tf.shape(image)[0], tf.shape(image)[1])
        image = image[top : top + side, left : left + side]
    size = (settings.size, settings.size)
    if settings.fit == "pad":
        size = _scaled(tf.shape(image)[:2], settings)
    image = tf.round(tf.image.resize(image, size, method="bilinear", antialias=True))
    if settings.fit == "pad":
        empty = settings.side - size
        image = tf.pad(image - PADDING, [[0, empty[0]], [0, empty[1]], [0, 0]]) + PADDING
    return tf.ensure_shape(image, (settings.side, settings.side, 3))


def window(height, width, settings):
    """What the network's input is of an image: `(4,)` float32, x0, y0, x1, y1, original 0..1.

    A padded input reaches beyond 1.
    """
    if settings.fit == "stretch":
        return tf.constant([0.0, 0.0, 1.0, 1.0])
    if settings.fit == "pad":
        scaled = tf.cast(_scaled(tf.stack([height, width]), settings), tf.float32)
        return tf.concat([[0.0, 0.0], settings.side / scaled[::-1]], 0)
    top, left, side = _central_square(height, width)
    corners = tf.cast(tf.stack([left, top, left + side, top + side]), tf.float32)
    return corners / tf.cast(tf.stack([width, height, width, height]), tf.float32)


def _scaled(size, settings):
    """Height and width, int32, of an image of `size` (height, width) before it is padded."""
    short, long = tf.reduce_min(size), tf.reduce_max(size)
    scale = tf.minimum(settings.size / short, settings.side / long)
    scaled = tf.cast(tf.round(scale * tf.cast(size, scale.dtype)), tf.int32)
    return tf.clip_by_value(scaled, 1, settings.side)


def _central_square(height, width):
    side = tf.minimum(height, width)
    return (height - side) // 2, (width - side) // 2, side


def to_original(corners, window):
    """Maps points from 0..1 of the network's input to 0..1 of the upright original.

    Args:
        corners: x and y, `(..., 2)`, array or tensor; may lie outside 0..1.
        window: As of `window`, `(4,)`, or any shape `(..., 4)` that broadcasts against `corners`.
    """
    return window[..., :2] + corners * (window[..., 2:] - window[..., :2])


def from_original(boxes, window):
    """Maps boxes, x0, y0, x1, y1, from 0..1 of the upright original to a window's 0..1.

    Args:
        boxes: `(..., 4)`, array or tensor.
        window: As of `to_original`.

    Returns:
        `(..., 4)`, float32.
    """
    start, extent = window[..., :2], window[..., 2:] - window[..., :2]
    corners = [(boxes[..., :2] - start) / extent, (boxes[..., 2:] - start) / extent]
    if tf.is_tensor(boxes):
        return tf.concat(corners, -1)
    return np.concatenate(corners, axis=-1).astype(np.float32)
