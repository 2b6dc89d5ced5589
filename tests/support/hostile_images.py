"""Creates 500 unusual and damaged image files, such as an untrusted folder may contain.

`hostile_files` creates them in memory and always returns the same files. Except for those with huge
EXIF data, they are at most about 100 kB. `python tests/support/hostile_images.py FOLDER` writes
them to a folder.
"""

import gzip
import io
import pathlib
import struct
import sys
import zipfile
import zlib

import numpy as np
from hostile_sizes import SUFFIX, Hostile, bombs, declared_sizes, frames
from image_files import chunk, exif, insert, segment, tiff
from pictures_of_all_kinds import file_of, photograph
from PIL import Image, ImageSequence

RANDOM_JPEGS, RANDOM_OTHERS, FLIPPED = 40, 8, 43
OTHER_ENDS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


def hostile_files():
    """Return the 500 `Hostile` files by name; a name begins with the kind of file."""
    files = {}
    for kind in (
        _whole,
        _truncated,
        _wrong_extension,
        _empty,
        _thin,
        declared_sizes,
        bombs,
        _cmyk,
        _depths,
        _animated,
        _metadata,
        _other_formats,
        _appended,
        _random_behind_headers,
        _bit_flips,
    ):
        for name, file in kind():
            assert name not in files, name
            files[name] = file
    return files


def write(folder):
    """Write all files to a folder and return their names."""
    files = hostile_files()
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / name).write_bytes(file.content)
    return list(files)


def _originals():
    """Return a picture in each format and encoding: suffix and bytes by name."""
    picture = photograph(48, 64)
    image = Image.fromarray(picture)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize((64, 48)))
    return {
        "baseline": (".jpg", file_of(image, quality=90)),
        "progressive": (".jpg", file_of(image, progressive=True)),
        "gray": (".jpg", file_of(image.convert("L"))),
        "cmyk": (".jpg", file_of(image.convert("CMYK"))),
        "exif": (".jpg", insert(file_of(image), exif(6))),
        "restarts": (".jpg", file_of(image, restart_marker_rows=1)),
        "rgb": (".png", file_of(image, "PNG")),
        "rgba": (".png", file_of(alpha, "PNG")),
        "palette": (".png", file_of(image.quantize(16), "PNG")),
        "gif": (".gif", file_of(image, "GIF")),
        "frames": (".gif", frames("GIF", 3)),
        "interlaced": (".gif", file_of(image, "GIF", interlace=True)),
        "bmp": (".bmp", file_of(image, "BMP")),
        "gray-bmp": (".bmp", file_of(image.convert("L"), "BMP")),
        "lossy": (".webp", file_of(image, "WEBP")),
        "lossless": (".webp", file_of(image, "WEBP", lossless=True)),
        "transparent": (".webp", file_of(alpha, "WEBP")),
    }


def _whole():
    for name, (suffix, content) in _originals().items():
        yield f"whole-{name}{suffix}", Hostile(content, True)


def _truncated():
    for name, (suffix, content) in _originals().items():
        for tenth in range(1, 10):
            cut = content[: len(content) * tenth // 10]
            yield f"truncated-{name}-{tenth}{suffix}", Hostile(cut, _still_whole(name, cut))


def _still_whole(name, cut):
    # Bytes after a GIF's first frame are never read.
    if name != "frames":
        return False
    try:
        return bool(np.asarray(next(ImageSequence.Iterator(Image.open(io.BytesIO(cut))))).size)
    except (OSError, EOFError, SyntaxError):
        return False


def _wrong_extension():
    for kind, own in SUFFIX.items():
        content = file_of(photograph(seed=1), kind.upper())
        for suffix in OTHER_ENDS:
            if suffix != own:
                yield f"extension-{kind}{suffix}", Hostile(content, True)


def _empty():
    for suffix in OTHER_ENDS:
        yield f"empty-of-nothing{suffix}", Hostile(b"", False)
        yield f"empty-zeros{suffix}", Hostile(bytes(5000), False)


def _thin():
    for height, width in ((1, 1), (1, 2), (2, 1), (1, 4000), (4000, 1), (3, 3)):
        for kind, suffix in SUFFIX.items():
            content = file_of(photograph(height, width), kind.upper())
            yield f"thin-{height}x{width}-{kind}{suffix}", Hostile(content, True)


def _cmyk():
    for seed in range(4):
        image = Image.fromarray(photograph(seed=seed)).convert("CMYK")
        content = file_of(image, quality=30 + 20 * seed)
        yield f"cmyk-{seed}.jpg", Hostile(content, True)
        at = content.index(b"Adobe") + 11
        ycck = content[:at] + b"\2" + content[at + 1 :]
        yield f"cmyk-ycck-{seed}.jpg", Hostile(ycck, None)
        start = content.index(b"\xff\xee")
        length = int.from_bytes(content[start + 2 : start + 4]) + 2
        yield (
            f"cmyk-unmarked-{seed}.jpg",
            Hostile(content[:start] + content[start + length :], None),
        )


def _depths():
    random = np.random.default_rng(0)
    for channels, color in ((1, 0), (2, 4), (3, 2), (4, 6)):
        wide = random.integers(0, 2**16, (20, 30, channels)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in wide)
        yield (
            f"depth-16-bits-{channels}-channels.png",
            Hostile(_png(20, 30, 16, color, rows), True),
        )
    for bits in (1, 2, 4):
        rows = b"".join(b"\0" + random.bytes(-(-30 * bits // 8)) for _ in range(20))
        yield f"depth-{bits}-bits.png", Hostile(_png(20, 30, bits, 0, rows), True)
    for bits, color in ((3, 0), (16, 3), (0, 2), (8, 1), (255, 255)):
        content = _png(20, 30, bits, color, bytes(4000))
        yield f"depth-none-{bits}-{color}.png", Hostile(content, False)
    rows = b"".join(b"\0" + bytes(30) for _ in range(20))
    yield "depth-palette-missing.png", Hostile(_png(20, 30, 8, 3, rows), False)
    palette = file_of(Image.fromarray(photograph()).quantize(4), "PNG")
    at = palette.index(b"IDAT") - 4
    palette = palette[:at] + chunk(b"tRNS", b"\0\x80") + palette[at:]
    yield "depth-palette-transparent.png", Hostile(palette, True)
    twelve = bytearray(file_of(photograph()))
    twelve[twelve.index(b"\xff\xc0") + 4] = 12
    yield "depth-12-bits.jpg", Hostile(bytes(twelve), False)
    arithmetic = file_of(photograph()).replace(b"\xff\xc0", b"\xff\xc9")
    yield "depth-arithmetic.jpg", Hostile(arithmetic)
    yield (
        "depth-lossless.jpg",
        Hostile(file_of(photograph()).replace(b"\xff\xc0", b"\xff\xc3"), False),
    )


def _png(height, width, bits, color, rows):
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _animated():
    for count in (2, 5, 20):
        yield f"animated-{count}.gif", Hostile(frames("GIF", count), True)
        yield f"animated-{count}.webp", Hostile(frames("WEBP", count), False)
        yield f"animated-{count}.png", Hostile(frames("PNG", count), True)
    yield "animated-loops.gif", Hostile(frames("GIF", 3, loop=0, duration=10), True)
    yield "animated-disposal.gif", Hostile(frames("GIF", 3, disposal=2, transparency=0), True)
    gif = file_of(photograph(), "GIF")
    start = gif.index(b"\x2c", 13 + 3 * 2 ** (gif[10] % 8 + 1))
    many = gif[:-1] + gif[start:-1] * 20 + b";"
    yield "animated-many.gif", Hostile(many, True)
    at = start + 1
    outside = gif[:at] + struct.pack("<HH", 60_000, 60_000) + gif[at + 4 :]
    yield "animated-outside.gif", Hostile(outside, None)


def _metadata():
    jpeg = file_of(photograph())
    png, webp = (
        file_of(photograph(), "PNG"),
        file_of(photograph(), "WEBP", exif=b"Exif\0\0" + tiff(6)),
    )
    random = np.random.default_rng(1)
    full = segment(b"Exif\0\0" + tiff(6) + random.bytes(65_000))
    yield "exif-64-kb.jpg", Hostile(insert(jpeg, full), True)
    for count in (20, 100):
        yield f"exif-{count}-times-64-kb.jpg", Hostile(insert(jpeg, *[full] * count), True)
    yield "exif-5000-segments.jpg", Hostile(insert(jpeg, *[segment(b"Exif\0\0")] * 5000), True)
    yield (
        "exif-5-mb.png",
        Hostile(png[:33] + chunk(b"eXIf", tiff(6) + random.bytes(5_000_000)) + png[33:], True),
    )
    yield "exif-5-mb.webp", Hostile(webp + b"EXIF" + struct.pack("<I", 9) + b"123456789", True)
    structures = {
        "65535-entries": b"II*\0\x08\0\0\0\xff\xff" + random.bytes(5000),
        "itself": b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0",
        "far": b"MM\0*\xff\xff\xff\xff",
        "short": b"II",
        "orientation-0": tiff(0),
        "orientation-65535": tiff(65_535),
        "noise": random.bytes(2000),
    }
    for name, structure in structures.items():
        yield f"exif-{name}.jpg", Hostile(insert(jpeg, segment(b"Exif\0\0" + structure)), True)
    profile = segment(b"ICC_PROFILE\0\1\1" + random.bytes(60_000), 0xE2)
    yield "exif-profile.jpg", Hostile(insert(jpeg, profile), True)
    yield "exif-comment.jpg", Hostile(insert(jpeg, segment(b"<script>" * 8000, 0xFE)), True)
    lying = jpeg[:2] + b"\xff\xe1\xff\xffExif\0\0" + tiff(6) + jpeg[2:]
    yield "exif-lying-length.jpg", Hostile(lying, None)
    yield "exif-length-0.jpg", Hostile(jpeg[:2] + b"\xff\xe1\0\0" + jpeg[2:])


def _other_formats():
    picture = Image.fromarray(photograph())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr(zipfile.ZipInfo("config.json"), "{}")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    contents = {
        "tiff": file_of(picture, "TIFF"),
        "ppm": file_of(picture, "PPM"),
        "ico": file_of(picture, "ICO"),
        "tga": file_of(picture, "TGA"),
        "jpeg-2000": file_of(picture, "JPEG2000"),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
        "avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(500),
        "svg": svg,
        "html": b"<html>404</html>",
        "pdf": b"%PDF-1.7\n" + bytes(200),
        "zip": archive.getvalue(),
        "gzip": gzip.compress(file_of(picture), mtime=0),
        "pickle": b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "numpy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (9,)}\n",
        "executable": b"\x7fELF" + bytes(300),
        "text": b"Ein Bild, ehrlich.\n",
    }
    for name, content in contents.items():
        yield f"format-{name}.jpg", Hostile(content, False)


def _appended():
    for kind, suffix in SUFFIX.items():
        content = file_of(photograph(seed=2), kind.upper())
        # TensorFlow accepts no bytes after the pixels of a BMP.
        readable = kind != "bmp"
        noise = content + bytes(range(256)) * 40
        yield f"appended-noise-{kind}{suffix}", Hostile(noise, readable)
        yield f"appended-twice-{kind}{suffix}", Hostile(content * 2, readable)
        yield f"appended-before-{kind}{suffix}", Hostile(b"\n" + content, False)


def _random_behind_headers():
    heads = {
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x30\x08\2\0\0\0",
        "gif": b"GIF89a\x40\0\x30\0\x80\0\0",
        "bmp": file_of(photograph(48, 64), "BMP")[:54],
        "webp": b"RIFF\xf0\x07\0\0WEBPVP8 \xe4\x07\0\0",
    }
    for kind, head in heads.items():
        for seed in range(RANDOM_JPEGS if kind == "jpeg" else RANDOM_OTHERS):
            random = np.random.default_rng(seed)
            content = head + random.bytes(int(random.integers(1, 4000)))
            yield f"random-{kind}-{seed:02d}{SUFFIX[kind]}", Hostile(content, False)


def _bit_flips():
    originals = _originals()
    names = list(originals)
    for seed in range(FLIPPED):
        random = np.random.default_rng(seed)
        name = names[seed % len(names)]
        suffix, content = originals[name]
        content = bytearray(content)
        for at in random.integers(0, len(content), 1 + seed % 5):
            content[at] ^= 1 << random.integers(8)
        yield f"flipped-{seed:03d}-{name}{suffix}", Hostile(bytes(content), None)


if __name__ == "__main__":
    print(len(write(pathlib.Path(sys.argv[1]))), "files")
