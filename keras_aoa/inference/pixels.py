"""Pixels of images that users supply: as paths, as contents of files, or as arrays."""

import os
import pathlib
from dataclasses import replace

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.other_formats import OtherFormat, as_decodable
from keras_aoa.data.images.preprocessing import decode_content, read_image, reason
from keras_aoa.inference.entries import Entry, read_entry
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import printable

EXPECTED = "expected a JPEG, PNG, GIF, BMP or WebP picture, received "


def message(error):
    """Return the message for an error that `read_image` or `decode_content` raised."""
    if isinstance(error, OtherFormat):
        return f"{EXPECTED}{error}."
    return f"{EXPECTED}a damaged file or another format ({reason(error)}); convert it."


def as_decodable_entry(entry):
    """Return an `Entry` whose content TensorFlow can decode. HEIC and AVIF files are converted."""
    try:
        return entry if entry.error else replace(entry, content=as_decodable(entry.content))
    except OtherFormat as error:
        return Entry(entry.name, error=message(error))


def why_invalid(entry):
    """Return the error of an `Entry` that cannot be decoded."""
    if entry.error:
        return entry.error
    try:
        decode_content(entry.content)
    except tf.errors.OpError as error:
        return message(error)
    return f"{EXPECTED}a damaged file or another format; convert it."


def as_entry(image):
    """Convert an image, in any form that `ImageCaptioner.caption` accepts, to an `Entry`."""
    if isinstance(image, str | os.PathLike):
        return read_entry(os.fspath(image))
    image = content_of(image)
    if isinstance(image, bytes):
        return Entry("the bytes", image)
    try:
        return Entry("the pixels", tf.io.encode_png(read_pixels(image)).numpy())
    except UserError as error:
        return Entry("the pixels", error=str(error))


def content_of(image):
    """Return the content of an open file as bytes, and any other value unchanged."""
    return image.read() if hasattr(image, "read") else image


def read_pixels(image):
    """Return the upright pixels `(h, w, 3)` of an image, in uint8.

    `image` is the path of a file, an open file, the content of a file as bytes, or an array of
    pixels, which is copied.

    Raises:
        UserError: the file does not exist, the image cannot be decoded, or the array has the
            wrong shape or dtype.
    """
    image = content_of(image)
    try:
        if isinstance(image, str | os.PathLike):
            if not pathlib.Path(image).is_file():
                raise UserError(
                    f"{printable(image) or repr(image)}: expected an image, found no file."
                )
            return read_image(image)
        if isinstance(image, bytes):
            return decode_content(image)
    except (OSError, tf.errors.OpError) as error:
        name = "the bytes" if isinstance(image, bytes) else printable(image)
        raise UserError(f"{name}: {message(error)}") from None
    if image is None or isinstance(image, list | tuple | dict):
        raise UserError(
            f"caption: expected the path of an image, bytes or an array of pixels, received "
            f"{type(image).__name__}."
        )
    pixels = np.array(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UserError(
            f"caption: expected RGB pixels (height, width, 3) in uint8, received shape "
            f"{pixels.shape} in {pixels.dtype}; convert them, or give the file's path."
        )
    return pixels
