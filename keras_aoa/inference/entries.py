"""Image files as entries: the content of each file, or the reason why it cannot be read."""

import collections
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from keras_aoa.utils.files import on_disk

MAX_BYTES = 2**28  # per image file; only uncompressed images of 90 or more megapixels are larger

_READERS = 8  # threads that read files; a network disk has high latency


@dataclass(frozen=True)
class Entry:
    """An image: its name, and either the content of the file or an error."""

    name: str
    content: bytes | None = None
    error: str = ""


def read_entries(paths):
    """Read image files in several threads, and yield an `Entry` for each path in order."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting = collections.deque()
        for path in paths:
            waiting.append(pool.submit(read_entry, path))
            if len(waiting) > 2 * _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_entry(path):
    """Read an image file as an `Entry`."""
    try:
        file_path = on_disk(path)
        status = os.stat(file_path)
        if not stat.S_ISREG(status.st_mode):
            return Entry(path, error="expected an image, found something that is not a file.")
        if status.st_size > MAX_BYTES:
            return Entry(path, error=too_large(status.st_size))
        with open(file_path, "rb") as file:
            return Entry(path, file.read())
    except OSError as error:
        return Entry(path, error=f"expected an image, received: {error.strerror}.")
    except ValueError as error:  # not a valid file name
        return Entry(path, error=f"expected an image, received: {error}.")


def too_large(size):
    """Return the error for an image file of `size` bytes."""
    return (
        f"expected at most {MAX_BYTES / 1e6:.0f} MB, received {size / 1e6:.0f}; shrink the image."
    )
