"""Tests of formats that TensorFlow does not decode: HEIC, AVIF, and names of others."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_aoa.data.examples import Example
from keras_aoa.data.images import other_formats
from keras_aoa.data.images.other_formats import OtherFormat, as_decodable, format_of
from keras_aoa.data.images.preprocessing import (
    ImageSettings,
    decode_content,
    read_image,
    why_unreadable,
)
from keras_aoa.data.images.split_images import Images

ORIENTATION = 0x0112


@pytest.fixture(params=["AVIF", "HEIF"])
def kind(request):
    if request.param == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    return request.param


def photograph(kind, mode="RGB", orientation=1):
    """Content of a file whose top left is red and whose right half is blue, and its pixels."""
    pixels = np.zeros((32, 64, 4), np.uint8) + np.array([0, 0, 0, 255], np.uint8)
    pixels[:16, :32, 0] = 255
    pixels[:, 32:, 2] = 255
    if mode == "RGBA":
        pixels[16:, :32, 3] = 0
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    image = Image.fromarray(pixels).convert(mode)
    image.save(file, kind, quality=100, exif=exif.tobytes())
    return file.getvalue(), pixels[..., :3]


def assert_similar(actual, expected):
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_photographs_are_decoded_upright(kind, orientation, turns):
    content, pixels = photograph(kind, orientation=orientation)
    assert_similar(decode_content(content), np.rot90(pixels, turns))


def test_transparency_becomes_white(kind):
    content, pixels = photograph(kind, "RGBA")
    pixels[16:, :32] = 255
    assert_similar(decode_content(content), pixels)


def test_training_reads_the_pixels_that_captioning_reads(kind, tmp_path):
    content, _ = photograph(kind)
    (tmp_path / "a.heic").write_bytes(content)
    (tmp_path / "b.heic").write_bytes(content[: len(content) // 2])
    examples = [Example(name, str(tmp_path / name), ("a",)) for name in ("a.heic", "b.heic")]
    images = Images("train", examples, ImageSettings(32), cache_gb=0)
    assert images.skipped == [examples[1].path]
    (row,) = images.dataset({"index": np.array([0])})
    np.testing.assert_array_equal(row["images"], read_image(examples[0].path)[:, 16:48])


START = {
    "a HEIC image": b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf",
    "an AVIF image": b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiafMA1B",
    "a JPEG XL image": b"\0\0\0\x0cJXL \r\n\x87\n",
    "a TIFF image or a raw photograph": b"II*\0\x08\0\0\0",
    "a web page": b"\n<!DOCTYPE html><title>404</title>",
}


@pytest.mark.parametrize("name", START)
def test_a_format_is_named_with_a_remedy(name, monkeypatch, tmp_path):
    monkeypatch.setattr(other_formats, "_can_read", lambda _: False)
    assert format_of(START[name]) == name
    (tmp_path / "photo").write_bytes(START[name])
    reason = why_unreadable(tmp_path / "photo")
    assert reason.startswith(f"{name}; ")
    assert any(remedy in reason for remedy in ("convert it to JPEG", "download the image"))
    assert ("keras-aoa[heic]" in reason) == (name == "a HEIC image")


def test_other_brands_and_ordinary_files_have_no_name():
    video = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"
    for content in (video, b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"", b"text"):
        assert format_of(content) == ""
        assert as_decodable(content) == content


@pytest.mark.parametrize("name", ["a HEIC image", "an AVIF image"])
def test_a_damaged_photograph_is_refused_in_one_line(name, monkeypatch):
    monkeypatch.setattr(other_formats, "_can_read", lambda _: True)
    with pytest.raises(OtherFormat, match=f"^{name} that cannot be decoded") as refusal:
        as_decodable(START[name] + bytes(100))
    assert "\n" not in str(refusal.value)


def test_a_photograph_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch, kind):
    content, _ = photograph(kind)
    monkeypatch.setattr(other_formats, "MAX_PIXELS", 32 * 64 - 1)
    with pytest.raises(OtherFormat, match="declares more than 2047 pixels"):
        as_decodable(content)
    monkeypatch.setattr(other_formats, "MAX_PIXELS", 32 * 64)
    assert as_decodable(content).startswith(b"\x89PNG")


def test_python_is_called_in_the_graph_only_for_other_formats(monkeypatch, tmp_path):
    monkeypatch.setattr(other_formats, "as_decodable", lambda content: pytest.fail("called"))
    (tmp_path / "a").write_bytes(b"\xff\xd8\xff")
    assert other_formats.read_file(tf.constant(str(tmp_path / "a"))).numpy() == b"\xff\xd8\xff"
