"""Formats that TensorFlow does not decode: HEIC and AVIF through Pillow, names for the others.

Sources: ISO/IEC 14496-12, 4.3 (brands); ISO/IEC 23008-12, annex B (HEIC); AV1 Image File Format
1.1, 6; ISO/IEC 18181-2 (JPEG XL); TIFF 6.0, 2.
"""

import functools
import io
import re

import tensorflow as tf

from keras_aoa.data.images.file_bytes import matches

MAX_PIXELS = 2**27  # as in `headers`
_START = 64  # bytes, which include the brands that cameras and encoders write

# The first match counts, because HEIC and AVIF share their general brands.
_FORMATS = {
    "an AVIF image": rb".{4}ftyp(.{4})*?avi[fs]",
    "a HEIC image": rb".{4}ftyp(hei|hev|mif1|msf1)",
    "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a TIFF image or a raw photograph": rb"II\*\0|MM\0\*",
    "a web page": rb"\s*<(!doctype\s+)?html",
}
_CONVERT = "convert it to JPEG or PNG"
_REMEDIES = {
    "an AVIF image": f"run pip install 'pillow>=11.3', or {_CONVERT}",
    "a HEIC image": f"run pip install 'keras-aoa[heic]', or {_CONVERT}",
    "a web page": "download the image itself",
}


_PILLOW = {"a HEIC image": "HEIF", "an AVIF image": "AVIF"}  # its names of the formats


class OtherFormat(OSError):
    """The file has a format that cannot be decoded. The message names the format and a remedy."""


def format_of(content):
    """Return the name of a file's format, such as "a HEIC image", or "" if no pattern matches."""
    start = content[:_START]
    return next(
        (
            name
            for name, pattern in _FORMATS.items()
            if re.match(pattern, start, re.DOTALL | re.IGNORECASE)
        ),
        "",
    )


def as_decodable(content):
    """Convert a HEIC or AVIF file to PNG, and return files in TensorFlow's formats unchanged.

    The PNG is upright and has 8 bits. `decoding.decode` can read the PNG.

    Args:
        content: The file's content, bytes.

    Raises:
        OtherFormat: `format_of` names a format that cannot be decoded, or the file is damaged.
    """
    name = format_of(content)
    if not name:
        return content
    if name in _PILLOW and _can_read(name):
        return _as_png(content, name)
    raise OtherFormat(f"{name}; {_REMEDIES.get(name, _CONVERT)}")


def read_file(path):
    """Read a file in a graph, and convert HEIC and AVIF files to PNG.

    Exports do not use this function, because its graph needs Python.
    """
    content = tf.io.read_file(path)
    # HEIC and AVIF; Python is not called for other files.
    converted = tf.cond(
        matches(tf.strings.substr(content, 0, 8), r"\C{4}ftyp"),
        lambda: tf.numpy_function(as_decodable, [content], tf.string, stateful=False),
        lambda: content,
    )
    return tf.ensure_shape(converted, ())


@functools.cache
def _can_read(name):
    try:
        if name == "a HEIC image":
            import pillow_heif

            pillow_heif.register_heif_opener()
            return True
        from PIL import features

        return features.check("avif")
    except ImportError:
        return False


def _as_png(content, name):
    from PIL import Image, ImageOps

    png = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=(_PILLOW[name],)) as image:
            # Pillow allocates the size that the header declares.
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it declares more than {MAX_PIXELS} pixels")
            mode = "RGBA" if image.has_transparency_data else "RGB"
            ImageOps.exif_transpose(image).convert(mode).save(png, "PNG", compress_level=0)
    except Exception as error:  # a damaged file can raise any error in Pillow
        raise OtherFormat(f"{name} that cannot be decoded ({error}); {_CONVERT}") from None
    return png.getvalue()
