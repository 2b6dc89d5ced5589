"""Shards of a collection of images: tar archives, or text files of paths, one a line.

Images are read where they lie: nothing is unpacked, and a name in an archive is only a name.
"""

import collections
import functools
import glob
import hashlib
import os
import pathlib
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from keras_aoa.utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
MOST_BYTES = 2**28  # of an image's file: one of 134 megapixels without compression has more

_READERS = 8  # files of a list that are read at once: a disk across a network makes each one wait
_BLOCK = 512  # bytes of a tar archive's header
_SAMPLES, _SAMPLE = 64, 4096  # parts of an archive, and their bytes, that tell it from another


class ShardError(UserError):
    """A shard that cannot be read; others can."""


@dataclass(frozen=True)
class Entry:
    """An image of a shard: its name, and its file's content, or why there is none."""

    name: str
    content: bytes | None = None
    error: str = ""


@dataclass(frozen=True)
class Shard:
    """A tar archive of images (`.tar`), or a list of their paths (`.txt`)."""

    path: str

    @property
    def name(self):
        """The file's name without its suffix: what its captions are called."""
        return pathlib.Path(self.path).stem

    @functools.cached_property
    def identity(self):
        """Size and a digest, which tell it from another of the same name.

        A list's is of all of it, an archive's of its start and of samples up to its end.
        """
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if self.path.endswith(".txt") or size <= _SAMPLES * _SAMPLE:
                    digest = hashlib.file_digest(file, "sha256")
                else:
                    digest = hashlib.sha256()
                    for number in range(_SAMPLES):
                        file.seek(number * (size - _SAMPLE) // (_SAMPLES - 1))
                        digest.update(file.read(_SAMPLE))
                return {"bytes": size, "digest": digest.hexdigest()[:16]}
        except OSError as error:
            raise ShardError(f"{self.path}: {error.strerror}; free it or leave it out.") from None


def find_shards(patterns):
    """The shards that names and patterns mean, by name.

    Args:
        patterns: Of files, with `*`, `?` and `[...]` as a shell has them.

    Raises:
        UserError: nothing found, a file that is no shard, or two that would share an output.
    """
    paths = []
    for pattern in patterns:
        found = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        if not found:
            raise UserError(f"shards: expected files, found nothing for {pattern!r}.")
        paths += found
    shards = {}
    for path in paths:
        if not path.endswith((".tar", ".txt")) or not os.path.isfile(path):
            raise UserError(
                f"shards: expected tar archives (.tar) or lists of paths (.txt), received {path!r}."
            )
        shard = Shard(path)
        other = shards.setdefault(shard.name, shard)
        if os.path.realpath(other.path) != os.path.realpath(path):
            raise UserError(
                f"shards: {other.path!r} and {path!r} would both be captioned as "
                f"{shard.name}.jsonl; rename one, or caption them into two folders."
            )
    return [shards[name] for name in sorted(shards)]


def part_of(shards, worker):
    """The shards of one of several workers.

    Args:
        shards: All, the same for every worker.
        worker: `"I/N"`: number I from 0 on, of N; "" has all.

    Raises:
        UserError: what is no such number.
    """
    if not worker:
        return shards
    numbers = worker.split("/")
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        number, count = map(int, numbers)
        if number < count:
            return shards[number::count]
    raise UserError(
        f"worker: expected its number from 0 on and how many there are, as 0/4 to 3/4, received "
        f"{worker!r}."
    )


class Contents:
    """The images of a shard, one `Entry` after the other.

    Args:
        shard: `Shard`.

    Attributes:
        left_out: Files of the archive so far that are no images by their names.

    Raises:
        ShardError: while it is read: no archive, one that is damaged or cut off, or a shard that
            has files but no image.
    """

    def __init__(self, shard):
        self._path = shard.path
        self.left_out = 0

    def __iter__(self):
        entries = self._archive() if self._path.endswith(".tar") else self._list()
        try:
            yield from entries
        except OSError as error:
            raise ShardError(f"{self._path}: {error.strerror}; free it or leave it out.") from None

    def _archive(self):
        try:
            with tarfile.open(self._path, "r:") as archive:
                yield from self._members(archive)
                # Iteration ends without a word wherever no header follows.
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(_BLOCK) != bytes(_BLOCK):
                    raise tarfile.ReadError(f"no end mark at byte {archive.offset}")
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise ShardError(
                f"{self._path}: expected a whole tar archive without compression, received one "
                f"that is damaged or cut off ({error}); fetch it again, or unpack and pack it."
            ) from None

    def _members(self, archive):
        images = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # it would keep them all
            if member.isdir():
                continue
            if not member.name.lower().endswith(SUFFIXES):
                self.left_out += 1
                continue
            images += 1
            if not member.isreg():
                yield Entry(member.name, error="expected an image, found a link or a device.")
            elif member.size > MOST_BYTES:
                yield Entry(member.name, error=_too_large(member.size))
            else:
                yield Entry(member.name, archive.extractfile(member).read())
        if self.left_out and not images:
            raise ShardError(
                f"{self._path}: expected images ({' '.join(SUFFIXES)}), found none among "
                f"{self.left_out} files."
            )

    def _list(self):
        first = next(self._lines(), None)
        if first is not None and not any(map(os.path.isfile, self._lines())):
            raise ShardError(
                f"{self._path}: expected paths of images, found none of its files, the first is "
                f"{first!r}; relative ones count from {os.getcwd()!r}."
            )
        with ThreadPoolExecutor(_READERS) as pool:
            waiting = collections.deque()
            for path in self._lines():
                waiting.append(pool.submit(_read, path))
                if len(waiting) > 2 * _READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _lines(self):
        with open(self._path, "rb") as file:
            for line in file:
                if path := line.rstrip(b"\r\n"):
                    yield os.fsdecode(path)


def _read(path):
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Entry(path, error="expected an image, found no file.")
        if status.st_size > MOST_BYTES:
            return Entry(path, error=_too_large(status.st_size))
        with open(path, "rb") as file:
            return Entry(path, file.read())
    except OSError as error:
        return Entry(path, error=f"expected an image, received: {error.strerror}.")
    except ValueError as error:  # no name of a file
        return Entry(path, error=f"expected an image, received: {error}.")


def _too_large(size):
    return f"expected at most {MOST_BYTES / 1e6:.0f} MB, received {size / 1e6:.0f}; scale it down."
