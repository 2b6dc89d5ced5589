"""Image preprocessing: reads image files, and converts pixels to the network's input.

Training, evaluation, captioning and export all use the functions in this file. `prepare` and
`window` consist of TensorFlow operations, so that a SavedModel needs no Python.
"""

import os
import re
import stat
import threading
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.other_formats import as_decodable
from keras_aoa.utils.errors import UserError

Fit = Literal["crop", "stretch", "pad"]
SMALLEST, LARGEST = 16, 4096
LONG_SIDE = 1.5  # side of a padded input, relative to its `size`; as in the authors' code
PADDING = (124, 117, 104)  # ImageNet's mean, RGB
MAX_BYTES = 2**30  # maximum file size; no accepted image needs as much in any format
# TensorFlow may crash if two threads call the same operation outside a graph.
_one_decoder = threading.Lock()


@dataclass(frozen=True)
class ImageSettings:
    """How an image is converted to the network's square input.

    Args:
        size: Height and width of the input in pixels. If `fit` is `pad`, `size` is the short side
            before padding.
        fit: One of
            - `crop`: the largest central square of the image, without distortion, as in the paper;
            - `stretch`: the whole image, scaled to a square;
            - `pad`: the whole image with its aspect ratio, as in the paper for object proposals.
              The short side becomes `size`, or less if the long side would exceed 1.5 times
              `size`. The image is then padded to a square whose side is 1.5 times `size`.

    Raises:
        UserError: A value is out of range.
    """

    size: int = 224
    fit: Fit = "crop"

    def __post_init__(self):
        if not isinstance(self.size, int) or not SMALLEST <= self.size <= LARGEST:
            raise UserError(
                f"image size: expected a whole number of pixels from {SMALLEST} to {LARGEST}, "
                f"received {self.size!r}; the paper uses 224."
            )
        if self.fit not in get_args(Fit):
            raise UserError(
                f"image fit: expected {' or '.join(map(repr, get_args(Fit)))}, "
                f"received {self.fit!r}; the paper uses 'crop'."
            )

    @property
    def side(self):
        """Height and width of the network's input in pixels."""
        return round(LONG_SIDE * self.size) if self.fit == "pad" else self.size


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as an array, as returned by `decode`.

    Raises:
        OSError: The file cannot be read, or its format is known but cannot be decoded.
        tf.errors.OpError: The path is not a regular file, the file has more than `MAX_BYTES`, or
            `decode` fails.
    """
    if not is_small_file(path):
        message = f"not a file of at most {MAX_BYTES} bytes"
        raise tf.errors.InvalidArgumentError(None, None, message)
    with open(path, "rb") as file:
        return decode_content(file.read())


def decode_content(content: bytes) -> np.ndarray:
    """Decode a file's content like `decode`, and also HEIC and AVIF if Pillow can read them.

    Args:
        content: The file's content, bytes.

    Returns:
        RGB array `(height, width, 3)`, uint8.

    Raises:
        OtherFormat: The format is known but cannot be decoded.
        tf.errors.OpError: `decode` fails.
    """
    content = as_decodable(content)
    with _one_decoder:
        return decode(content).numpy()


def is_small_file(path):
    """Return whether a path is a regular file (no pipe or device) of at most `MAX_BYTES`."""
    status = os.stat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES


def why_unreadable(path):
    """Return in one line why `read_image` fails on a file, or "" if it succeeds."""
    try:
        read_image(path)
    except (OSError, tf.errors.OpError) as error:
        return reason(error)
    return ""


def reason(error):
    """Return the message of an error that `read_image` or `decode` raised, in one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message, flags=re.DOTALL)
    asserted = re.search(r"Summarized data: b'(.*?)'(.*)", message, re.DOTALL)
    return " ".join(("".join(asserted.groups()) if asserted else message).split()).rstrip(".")


def prepare(image, settings):
    """Convert an image to the network's input, with antialiased bilinear scaling.

    The values are rounded, so that images cached as uint8 for training equal images prepared for
    serving. With `crop`, the central square is cut out before scaling, which limits the memory for
    elongated images.

    Args:
        image: RGB, `(height, width, 3)`.
        settings: `ImageSettings`.

    Returns:
        RGB in 0..255, `(side, side, 3)`, float32.
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
    """Return the part of an image that the network's input covers.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        settings: `ImageSettings`.

    Returns:
        x0, y0, x1, y1 relative (0..1) to the original image, `(4,)` float32. If the input is
        padded, x1, y1 or both exceed 1.
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
    """Return the height and width of an image of `size` after scaling but before padding."""
    short, long = tf.reduce_min(size), tf.reduce_max(size)
    scale = tf.minimum(settings.size / short, settings.side / long)
    scaled = tf.cast(tf.round(scale * tf.cast(size, scale.dtype)), tf.int32)
    return tf.clip_by_value(scaled, 1, settings.side)


def _central_square(height, width):
    side = tf.minimum(height, width)
    return (height - side) // 2, (width - side) // 2, side


def to_original(corners, window):
    """Convert points relative to the network's input to points relative to the upright original.

    Args:
        corners: Array or tensor `(..., 2)` of x and y, which may lie outside 0..1.
        window: A result `(4,)` of the function `window`. Several windows `(..., 4)` must broadcast
            against `corners`.
    """
    return window[..., :2] + corners * (window[..., 2:] - window[..., :2])


def from_original(boxes, window):
    """Convert boxes relative to the upright original to boxes relative to a window.

    Args:
        boxes: Array or tensor `(..., 4)`. A box is x0, y0, x1, y1.
        window: As for `to_original`.

    Returns:
        `(..., 4)`, float32.
    """
    start, extent = window[..., :2], window[..., 2:] - window[..., :2]
    corners = [(boxes[..., :2] - start) / extent, (boxes[..., 2:] - start) / extent]
    if tf.is_tensor(boxes):
        return tf.concat(corners, -1)
    return np.concatenate(corners, axis=-1).astype(np.float32)
