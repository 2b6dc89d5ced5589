"""Builds parts of image files: encoded images, EXIF segments and PNG chunks."""

import struct
import zlib

import cv2


def encode(extension, image, *options):
    """Return an image, BGR, encoded by OpenCV."""
    written, data = cv2.imencode(extension, image, options)
    assert written
    return data.tobytes()


def tiff(value, order="<", tag=0x0112, kind=3, before=(0x010F, 0x0110)):
    """Return a TIFF structure with `value` after other entries, as cameras write it."""
    entries = [struct.pack(order + "HHIHH", other, 3, 1, 5, 0) for other in before]
    entries.append(struct.pack(order + "HHIHH", tag, kind, 1, value, 0))
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    return header + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def segment(content, marker=0xE1):
    """Return a JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(*args, **kwargs):
    """Return a JPEG segment with EXIF data; takes the arguments of `tiff`."""
    return segment(b"Exif\0\0" + tiff(*args, **kwargs))


def insert(jpeg, *segments):
    """Return a JPEG file with segments inserted at its beginning."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name, content):
    """Return a PNG chunk with its checksum."""
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check
