"""Tests of decoding: transparency becomes white in every form, and CMYK without Adobe's marker."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from image_files import chunk
from PIL import Image

from keras_aoa.data.images import headers as image_headers
from keras_aoa.data.images.decoding import decode

decode = tf.function(decode, [tf.TensorSpec((), tf.string)], autograph=False)
GRAY = np.repeat(np.uint8([[100, 100, 0, 0]]), 4, 0)
COLORS = np.dstack([GRAY, GRAY // 2, 200 - GRAY])


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def on_white(data):
    """Return a file's image as Pillow shows it on white."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def png16(pixels, kind, key):
    """Return a PNG file with 16 bits per channel and a color key."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("pixels", "key"),
    [(GRAY, 100), (GRAY, 0), (COLORS, (100, 50, 100)), (GRAY > 50, 0), (GRAY > 50, 255)],
    ids=["gray", "black", "color", "bit 0", "bit 1"],
)
def test_color_keys_of_png_become_white(pixels, key):
    data = encoded(pixels, "PNG", transparency=key)
    image = decode(data).numpy()
    np.testing.assert_array_equal(image, on_white(data))
    assert (image == 255).all(-1).any()


def test_color_keys_of_16_bits_match_all_16_bits():
    gray = np.uint16([[25600, 25601, 0]])
    image = decode(png16(gray, 0, struct.pack(">H", 25600))).numpy()
    np.testing.assert_array_equal(image[0, :, 0], [255, 100, 0])
    image = decode(png16(np.dstack([gray] * 3), 2, struct.pack(">HHH", *[25600] * 3))).numpy()
    np.testing.assert_array_equal(image[0, :, 0], [255, 100, 0])


def test_text_that_names_a_color_key_makes_nothing_transparent():
    data = encoded(COLORS, "PNG")
    data = data[:33] + chunk(b"tEXt", b"Comment\0tRNS") + data[33:]
    assert image_headers.may_have_color_key(data)
    np.testing.assert_array_equal(decode(data), COLORS)


def gif(index, local):
    """Return a GIF in two colors, one of them transparent; its color table may be local."""
    pixels = Image.fromarray(np.uint8(GRAY > 50), "P")
    pixels.putpalette([200, 30, 30, 0, 0, 0])
    options = {} if index is None else {"transparency": index}
    data = encoded(pixels, "GIF", **options)
    table = data[13 : 13 + 3 * 2 ** (data[10] % 8 + 1)]
    start = data.index(b",\0\0\0\0")
    flags = data[start + 9]
    before, after = data[13 + len(table) : start + 9], data[start + 10 :]
    if not local:
        return data
    head = data[:10] + bytes([data[10] & 0x7F]) + data[11:13]
    return head + before + bytes([flags | 0x80 | data[10] % 8]) + table + after


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("index", [0, 1, None])
def test_transparent_pixels_of_gif_become_white(index, local):
    data = gif(index, local)
    image = decode(data).numpy()
    np.testing.assert_array_equal(image, on_white(data))
    assert (image == 255).all(-1).any() == (index is not None)


def test_a_gif_cut_off_anywhere_is_an_error_or_an_image():
    data = gif(0, local=True)
    for end in range(len(data)):
        try:
            assert decode(data[:end]).shape == (4, 4, 3)
        except tf.errors.InvalidArgumentError:
            continue


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_without_adobe_marker_is_read_like_pillow_reads_it(progressive):
    tall = np.repeat(np.repeat(COLORS, 8, 0), 8, 1)
    data = encoded(
        Image.fromarray(tall).convert("CMYK"), "JPEG", quality=95, progressive=progressive
    )
    marker = data.index(b"\xff\xee")
    size = int.from_bytes(data[marker + 2 : marker + 4])
    without = data[:marker] + data[marker + 2 + size :]
    assert b"Adobe" not in without
    expected = np.asarray(Image.open(io.BytesIO(without)).convert("RGB"))
    np.testing.assert_allclose(decode(without).numpy().astype(int), expected, atol=1)
    np.testing.assert_array_equal(decode(without), decode(data))
