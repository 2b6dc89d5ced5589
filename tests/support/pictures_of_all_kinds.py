"""Creates image files of all kinds, and files that are not images."""

import io
import zlib

import numpy as np
from image_files import chunk, exif, insert
from PIL import Image


def photograph(height=60, width=90, seed=0):
    """Return smooth colors that depend on the seed, `(height, width, 3)`, uint8, RGB."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(a * x + b * y + c) for a, b, c in random.uniform(1, 7, (3, 3))]
    return np.uint8(np.stack(waves, axis=2) * 120 + 128)


def file_of(image, kind="JPEG", **options):
    """Return the file content of a Pillow image or an array."""
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def good_files():
    """Return readable files by name, of various formats, color modes, sizes and orientations."""
    picture = photograph()
    alpha = np.dstack([picture, np.linspace(0, 255, picture[..., 0].size).reshape(60, 90)])
    return {
        "jpeg": file_of(picture, quality=90),
        "turned": insert(file_of(photograph(seed=1)), exif(6)),
        "mirrored": insert(file_of(photograph(seed=2)), exif(5)),
        "gray": file_of(Image.fromarray(photograph(seed=3)).convert("L")),
        "cmyk": file_of(Image.fromarray(photograph(seed=4)).convert("CMYK")),
        "png": file_of(photograph(30, 200, seed=5), "PNG"),
        "alpha": file_of(np.uint8(alpha), "PNG"),
        "webp": file_of(photograph(100, 50, seed=6), "WEBP"),
        "gif": file_of(photograph(seed=7), "GIF"),
        "bmp": file_of(photograph(41, 67, seed=8), "BMP"),
        "narrow": file_of(photograph(200, 3, seed=9), "PNG"),
    }


def bad_files():
    """Return files by name that cannot be read as images."""
    jpeg, png = file_of(photograph()), file_of(photograph(), "PNG")
    return {
        "empty": b"",
        "text": b"a caption in place of an image",
        "half a jpeg": jpeg[: len(jpeg) // 2],
        "half a png": png[: len(png) // 2],
        "only a header": jpeg[:20],
        "noise": b"\xff\xd8\xff" + np.random.default_rng(0).bytes(2000),
        "absurd jpeg": absurd_jpeg(jpeg),
        "absurd png": absurd_png(10_000, 10_000),
        "absurd webp": absurd_webp(),
    }


def absurd_png(height, width):
    """Return a complete PNG of gray pixels that all have the same value."""
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def absurd_jpeg(jpeg):
    """Return the same JPEG with a header that declares 10,000 x 10,000 pixels."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + (10_000).to_bytes(2) * 2 + jpeg[at + 4 :]


def absurd_webp():
    """Return a lossless WebP with a header that declares 10,000 x 10,000 pixels."""
    webp = file_of(photograph(), "WEBP", lossless=True)
    at = webp.index(b"VP8L") + 9
    bits = int.from_bytes(webp[at : at + 4], "little") >> 28 << 28 | 9_999 << 14 | 9_999
    return webp[:at] + bits.to_bytes(4, "little") + webp[at + 4 :]
