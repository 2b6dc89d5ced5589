"""Creates image files that declare a wrong size, and files that become huge when decoded."""

import struct
import zlib
from typing import NamedTuple

from image_files import chunk
from pictures_of_all_kinds import absurd_png, file_of, photograph
from PIL import Image

HUGE = 30_000  # pixels per side: 2.7 GB as RGB
SUFFIX = {"jpeg": ".jpg", "png": ".png", "gif": ".gif", "bmp": ".bmp", "webp": ".webp"}


class Hostile(NamedTuple):
    """An unusual or damaged image file.

    Attributes:
        content: Bytes of the file.
        readable: Whether it holds a complete image; None if either answer is acceptable.
    """

    content: bytes
    readable: bool | None = None


def frames(kind, count, **options):
    """Return an animated file of `count` frames."""
    pictures = [Image.fromarray(photograph(48, 64, seed)) for seed in range(count)]
    return file_of(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def declared(kind, height, width, content=None):
    """Return a small file whose header declares another size."""
    content = content or file_of(photograph(), kind.upper(), **_lossless(kind))
    if kind == "jpeg":
        at = content.index(b"\xff\xc0") + 5
        return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    if kind == "png":
        header = struct.pack(">II", width, height) + content[24:29]
        return content[:8] + chunk(b"IHDR", header) + content[33:]
    if kind == "gif":
        at = content.index(b"\x2c", 13 + 3 * 2 ** (content[10] % 8 + 1)) + 5
        size = struct.pack("<HH", width, height)
        return content[:6] + size + content[10:at] + size + content[at + 4 :]
    if kind == "bmp":
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    at = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[at : at + 4], "little") >> 28 << 28
    bits |= (height - 1) % 2**14 << 14 | (width - 1) % 2**14
    return content[:at] + bits.to_bytes(4, "little") + content[at + 4 :]


def _lossless(kind):
    return {"lossless": True} if kind == "webp" else {}


def declared_sizes():
    """Yield names and files that declare sizes from 0 to the maximum of their format."""
    sides = {"jpeg": 65_500, "png": 2**31 - 1, "gif": 65_535, "bmp": 2**31 - 1, "webp": 2**14}
    for kind, suffix in SUFFIX.items():
        most = sides[kind]
        huge = min(HUGE, most)
        sizes = [(huge, huge), (most, most), (0, 0), (0, 50), (50, 0), (1, most), (most, 1)]
        for height, width in dict.fromkeys(sizes):
            # A JPEG decoder may accept a strip whose data is incomplete, and fill the rest.
            readable = None if kind == "jpeg" and 1 in (height, width) else False
            content = declared(kind, height, width)
            yield f"declared-{height}x{width}-{kind}{suffix}", Hostile(content, readable)
        cut = declared(kind, huge, huge)[:200]
        yield f"declared-huge-cut-{kind}{suffix}", Hostile(cut, False)
    yield "declared-top-down.bmp", Hostile(declared("bmp", -HUGE, HUGE), False)
    yield "declared-least-height.bmp", Hostile(declared("bmp", -(2**31), 1), False)
    yield "declared-mirrored.bmp", Hostile(declared("bmp", 60, -90), False)
    progressive = file_of(photograph(), progressive=True)
    at = progressive.index(b"\xff\xc2") + 5
    progressive = progressive[:at] + struct.pack(">HH", HUGE, HUGE) + progressive[at + 4 :]
    yield "declared-progressive.jpg", Hostile(progressive, False)


def bombs():
    """Yield names and files that look small and are large when decoded."""
    gif = file_of(photograph(), "GIF")
    screen = gif[6:10]
    huge = declared("gif", HUGE, HUGE)
    yield "bomb-frame-beyond-screen.gif", Hostile(huge[:6] + screen + huge[10:], False)
    packed = gif_of_one_color(HUGE, HUGE)
    yield "bomb-frame-beyond-screen-whole.gif", Hostile(packed[:6] + screen + packed[10:], False)
    second = frames("GIF", 2)
    at = second.rindex(b"\x2c\0\0\0\0") + 5
    second = second[:at] + struct.pack("<HH", HUGE, HUGE) + second[at + 4 :]
    yield "bomb-second-frame.gif", Hostile(second, True)
    png = declared("png", HUGE, HUGE)
    for name in (b"prIv", b"IHDr", b"tEXt"):
        decoy = chunk(name, struct.pack(">II", 10, 10) + bytes([8, 2, 0, 0, 0]))
        content = png[:8] + decoy + png[8:]
        yield f"bomb-behind-{name.decode()}.png", Hostile(content, False)
    yield "bomb-two-headers.png", Hostile(png[:33] + absurd_png(10, 10)[8:], False)
    yield "bomb-one-color.png", Hostile(absurd_png(HUGE, HUGE // 100), None)
    whole = file_of(photograph(), "WEBP")
    simple = whole[12:]
    canvas = (89).to_bytes(3, "little") + (59).to_bytes(3, "little")
    inner = declared("webp", 16_383, 16_383)[12:]
    for name, stream in (("small", simple), ("huge", inner)):
        body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + stream
        content = b"RIFF" + struct.pack("<I", len(body)) + body
        yield f"bomb-canvas-around-{name}.webp", Hostile(content, name == "small")
    at = whole.index(b"VP8 ") + 14
    lossy = whole[:at] + struct.pack("<HH", 16_383, 16_383) + whole[at + 4 :]
    yield "bomb-lossy.webp", Hostile(lossy, False)
    text = zlib.compress(bytes(20_000_000), 9)
    for name, head in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        content = file_of(photograph(), "PNG")
        content = content[:33] + chunk(name, head + text) + content[33:]
        yield f"bomb-in-{name.decode()}.png", Hostile(content, True)
    large = bytearray(file_of(photograph(), progressive=True))
    end = len(large) - 2
    scan = large[large.rindex(b"\xff\xda") : end]
    yield "bomb-of-scans.jpg", Hostile(bytes(large[:end] + scan * 300 + large[end:]), None)


def gif_of_one_color(height, width):
    """Return a complete GIF of one color, without ever allocating its pixels.

    Each LZW code stands for a run that is one pixel longer than that of the code before.
    """
    clear, first, last = 4, 6, 4095
    codes = [(0, 3), *((code, code.bit_length()) for code in range(first, last + 1)), (clear, 12)]
    # The bits as text, least significant bit first.
    cycle = "".join(f"{code:0{bits}b}"[::-1] for code, bits in codes)
    runs = sum(range(1, len(codes)))
    bits = "001" + cycle * -(-height * width // runs)
    data = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    blocks = (data[at : at + 255] for at in range(0, len(data), 255))
    size = struct.pack("<HH", width, height)
    return b"".join(
        [
            b"GIF89a" + size + b"\x80\0\0" + b"\xff\xff\xff\0\0\0",
            b"\x2c\0\0\0\0" + size + b"\0\2",
            *(bytes([len(block)]) + block for block in blocks),
            b"\0;",
        ]
    )
