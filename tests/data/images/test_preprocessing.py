"""Tests of decoding: file formats, EXIF orientation and damaged files."""

import io
import struct

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import chunk, encode, exif, insert, segment, tiff
from PIL import Image
from threads import in_threads, one_at_a_time

from keras_aoa.data.images import exif as image_exif
from keras_aoa.data.images import headers as image_headers
from keras_aoa.data.images import preprocessing
from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.preprocessing import read_image

BYTES = [tf.TensorSpec((), tf.string)]
decode = tf.function(decode, BYTES, autograph=False)
orientation = tf.function(image_exif.orientation, BYTES, autograph=False)

LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 101)
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.fixture(scope="module")
def picture():
    """A picture that is smooth, so that JPEG preserves it, and has no symmetry."""
    y, x = np.mgrid[:24, :40]
    return np.stack([x * 6, y * 10, (x + 2 * y) * 2], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def jpeg(picture):
    return encode(".jpg", picture[:, :, ::-1], cv2.IMWRITE_JPEG_QUALITY, 95)


# --- EXIF -----------------------------------------------------------------------------------------


def webp(image, flags, *more):
    """Return a WebP file in extended format, with `more` chunks after the image."""
    simple = encode(".webp", image[:, :, ::-1], *LOSSLESS)[12:]
    size = b"".join((side - 1).to_bytes(3, "little") for side in image.shape[1::-1])
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + size), *more]
    packed = [n + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for n, c in chunks]
    body = b"WEBP" + packed[0] + simple + b"".join(packed[1:])
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", UPRIGHT)
def test_jpeg_is_decoded_upright_for_every_orientation(jpeg, value, order):
    turned = insert(jpeg, exif(value, order))
    np.testing.assert_array_equal(decode(turned), UPRIGHT[value](decode(jpeg).numpy()))
    np.testing.assert_array_equal(decode(turned), opencv(turned))


@pytest.mark.parametrize("value", UPRIGHT)
def test_png_and_webp_are_decoded_upright_for_every_orientation(picture, value):
    png = encode(".png", picture[:, :, ::-1])
    header_ends = 8 + 25
    png = png[:header_ends] + chunk(b"eXIf", tiff(value, ">")) + png[header_ends:]
    np.testing.assert_array_equal(decode(png), UPRIGHT[value](picture))
    for prefix in (b"", b"Exif\0\0"):
        data = webp(picture, 8, (b"odd!", b"123"), (b"EXIF", prefix + tiff(value)))
        np.testing.assert_array_equal(decode(data), UPRIGHT[value](picture))


def test_exif_after_other_segments_is_found(jpeg):
    others = [
        segment(b"JFIF\0\1\2\0\0\1\0\1\0\0", 0xE0),
        segment(b"http://ns.adobe.com/xap/1.0/\0Exif", 0xE1),
        segment(bytes(60000), 0xE2),
        segment(b"comment", 0xFE),
        b"\xff\xff\xff",  # filler that the standard allows before a marker
    ]
    assert orientation(insert(jpeg, *others, exif(6))) == 6


def test_the_first_exif_segment_is_used(jpeg):
    assert orientation(insert(jpeg, exif(8), exif(3))) == 8


@pytest.mark.parametrize(
    "segments",
    {
        "value 0": [exif(0)],
        "value 9": [exif(9)],
        "another tag": [exif(6, tag=0x0113)],
        "another type": [exif(6, kind=4)],
        "no header": [segment(tiff(6))],
        "unknown byte order": [segment(b"Exif\0\0XX" + tiff(6)[2:])],
        "bad magic number": [segment(b"Exif\0\0II\x2b\0" + tiff(6)[4:])],
        "directory outside": [segment(b"Exif\0\0II\x2a\0\xff\xff\xff\x7f" + tiff(6)[8:])],
        "cut before the value": [segment(b"Exif\0\0" + tiff(6)[:40])],
        "nothing in it": [segment(b"Exif\0\0")],
        "not a marker": [b"\0\0\0\0", exif(6)],
        "too many segments": [segment(b"")] * 200 + [exif(6)],
    }.items(),
    ids=lambda case: case[0],
)
def test_damaged_exif_means_upright(jpeg, segments):
    assert orientation(insert(jpeg, *segments[1])) == 1


def test_exif_inside_the_scan_is_ignored(jpeg):
    assert orientation(jpeg[:-2] + exif(6) + jpeg[-2:]) == 1


@given(st.binary(max_size=80), st.integers(0, 90), st.booleans())
@settings(max_examples=100, deadline=None)
def test_reading_exif_accepts_any_bytes(noise, at, cut):
    for start in (
        b"\xff\xd8" + exif(6, ">"),
        b"\x89PNG\r\n\x1a\n" + chunk(b"eXIf", tiff(3)),
        b"RIFF\x80\0\0\0WEBPEXIF\x50\0\0\0" + tiff(5),
    ):
        data = start[:at] + noise + (b"" if cut else start[at + len(noise) :])
        assert 1 <= orientation(data) <= 8


# --- formats --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("extension", "options"),
    [(".png", ()), (".bmp", ()), (".webp", LOSSLESS)],
)
def test_lossless_formats_give_the_exact_pixels(noise, extension, options):
    np.testing.assert_array_equal(decode(encode(extension, noise[:, :, ::-1], *options)), noise)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg"])
def test_gray_becomes_three_equal_channels(picture, extension):
    data = encode(extension, picture[:, :, 0])
    np.testing.assert_array_equal(decode(data), opencv(data))
    assert np.ptp(decode(data), axis=2).max() == 0


def test_sixteen_bits_become_eight():
    wide = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    data = encode(".png", np.stack([wide] * 3, axis=2))
    np.testing.assert_array_equal(decode(data)[:, :, 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("gray", [False, True])
def test_transparency_becomes_white(noise, gray):
    pytest.importorskip("PIL")
    from PIL import Image

    alpha = np.linspace(0, 255, 35).astype(np.uint8).reshape(7, 5)
    if gray:
        noise = np.repeat(noise[:, :, :1], 3, axis=2)
    rgba = np.dstack([noise, alpha])
    file = io.BytesIO()
    Image.fromarray(rgba).convert("LA" if gray else "RGBA").save(file, "PNG")
    share = alpha[:, :, None] / 255
    expected = noise * share + 255 * (1 - share)
    np.testing.assert_allclose(decode(file.getvalue()), expected, atol=1)


def test_transparent_webp_becomes_white(noise):
    rgba = np.dstack([noise, np.full((7, 5), 255, np.uint8)])
    rgba[2, 3, 3] = 0
    image = decode(encode(".webp", rgba[:, :, [2, 1, 0, 3]], *LOSSLESS))
    noise = noise.copy()
    noise[2, 3] = 255
    np.testing.assert_array_equal(image, noise)


def test_fourth_byte_of_bmp_is_not_transparency(noise):
    bgr0 = np.dstack([noise[:, :, ::-1], np.zeros((7, 5), np.uint8)])
    header = struct.pack("<2sIHHI", b"BM", 54 + bgr0.size, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 5, -7, 1, 32, 0, bgr0.size, 0, 0, 0, 0)
    np.testing.assert_array_equal(decode(header + bgr0.tobytes()), noise)


def test_cmyk_becomes_rgb():
    image_module = pytest.importorskip("PIL.Image")
    inks = {
        (0, 255, 255, 0): (255, 0, 0),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 0, 0, 128): (127,) * 3,
    }
    for ink, color in inks.items():
        file = io.BytesIO()
        image_module.new("CMYK", (8, 8), ink).save(file, "JPEG", quality=100)
        np.testing.assert_allclose(decode(file.getvalue()), np.full((8, 8, 3), color), atol=3)


def test_only_the_first_frame_of_a_gif_is_decoded():
    image_module = pytest.importorskip("PIL.Image")
    frames = [image_module.new("RGB", (6, 4), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(file.getvalue()), np.full((4, 6, 3), (255, 0, 0)))


def test_first_frame_cuts_a_gif_after_its_first_frame():
    frames = [np.random.default_rng(seed).integers(0, 255, (30, 40, 3)) for seed in range(5)]
    frames = [Image.fromarray(np.uint8(frame)) for frame in frames]
    for count in (1, 5):
        stream = io.BytesIO()
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:count])
        data = stream.getvalue()
        kept = image_headers.first_frame(tf.constant(data)).numpy()
        assert len(kept) < len(data) * 1.2 / count
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode(data), expected)
        for end in range(0, len(data), 97):
            assert len(image_headers.first_frame(tf.constant(data[:end])).numpy()) <= end + 1


def test_animated_webp_is_rejected(picture):
    # TensorFlow 2.21 writes past its buffer when it decodes such a file.
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP is not supported"):
        decode(webp(picture, 2))


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg", ".webp"])
def test_truncated_files_and_other_formats_are_rejected(picture, extension):
    data = encode(extension, picture)
    assert decode(data).shape == picture.shape
    for length in (0, 1, 5, 20, 40, len(data) // 2, len(data) - 20):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(data[:length])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        decode(b"<html>404</html>")


def test_huge_images_are_rejected_before_decoding(picture, jpeg):
    png = encode(".png", picture)
    png = png[:8] + chunk(b"IHDR", struct.pack(">II", 20000, 20000) + png[24:29]) + png[33:]
    frame = jpeg.index(b"\xff\xc0")
    giant_jpeg = jpeg[: frame + 5] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 9 :]
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20)
    bmp = b"BM" + bytes(16) + struct.pack("<ii", 20000, -20000) + bytes(20)
    webp = b"RIFF" + bytes(4) + b"WEBP"
    lossless = webp + b"VP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 2**28 - 1) + bytes(20)
    lossy = webp + b"VP8 " + bytes(10) + struct.pack("<HH", 2**14 - 1, 2**14 - 1) + bytes(20)
    extended = webp + b"VP8X" + bytes(8) + b"\xff" * 6 + bytes(20)
    for data in (png, giant_jpeg, gif, bmp, lossless, lossy, extended):
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than 134217728 pixels"):
            decode(data)
    large = png[:16] + struct.pack(">II", 5000, 5000) + png[24:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="too short for its declared pixels"):
        decode(large)


def test_read_image_decodes_the_content_of_a_file(picture, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(encode(".png", picture[:, :, ::-1]))
    for path in (file, str(file)):
        np.testing.assert_array_equal(read_image(path), picture)


def test_threads_decode_files_one_after_another(picture, tmp_path, monkeypatch):
    """TensorFlow crashed about once in 100 processes whose threads decoded at the same time."""
    path = tmp_path / "picture.png"
    path.write_bytes(encode(".png", picture[:, :, ::-1]))
    monkeypatch.setattr(preprocessing, "decode", one_at_a_time(decode))
    for pixels in in_threads(read_image, [path] * 4):
        np.testing.assert_array_equal(pixels, picture)


def test_decoding_uses_no_python_operations():
    graph = decode.get_concrete_function().graph.as_graph_def()
    used = {node.op for node in graph.node}
    used |= {node.op for function in graph.library.function for node in function.node_def}
    assert "DecodeImage" in used and not any("PyFunc" in op for op in used)


def test_real_photographs_decode_like_opencv(shared):
    files = [*(shared / "data/flickr8k/images").glob("*.jpg")][:20]
    files += [*(shared / "data/coco/val2017").glob("*.jpg")][:20]
    assert len(files) == 40
    for file in files:
        data = file.read_bytes()
        np.testing.assert_array_equal(decode(data), opencv(data))
