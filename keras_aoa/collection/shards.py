"""Shards of an image collection: tar archives, or text files with one image path per line.

Images are read directly from an archive, which is not unpacked. The name of a file in an archive is
only a label and is never used as a path.
"""

import functools
import glob
import hashlib
import os
import pathlib
import tarfile
from dataclasses import dataclass

from keras_aoa.data.images.file_names import SUFFIXES, is_image_name
from keras_aoa.inference.entries import MAX_BYTES, Entry, read_entries, too_large
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import on_disk

_BLOCK = 512  # bytes of a tar header
_SAMPLES, _SAMPLE_BYTES = 64, 4096  # number and size of the samples in an archive's digest


class ShardError(UserError):
    """A shard cannot be read. The error does not affect other shards."""


@dataclass(frozen=True)
class Shard:
    """A tar archive of images (`.tar`), or a list of image paths (`.txt`)."""

    path: str

    @property
    def name(self):
        """The shard's file name without its suffix; the caption file has the same name."""
        return pathlib.Path(self.path).stem

    @functools.cached_property
    def identity(self):
        """Size and digest, which distinguish shards with the same name.

        For a list of paths, the digest covers the whole file. For a large archive, the digest
        covers 64 samples, spread over the archive.
        """
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if self.path.endswith(".txt") or size <= _SAMPLES * _SAMPLE_BYTES:
                    digest = hashlib.file_digest(file, "sha256")
                else:
                    digest = hashlib.sha256()
                    for number in range(_SAMPLES):
                        file.seek(number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                        digest.update(file.read(_SAMPLE_BYTES))
                return {"bytes": size, "digest": digest.hexdigest()[:16]}
        except OSError as error:
            raise ShardError(f"{self.path}: {error.strerror}; fix or omit the file.") from None


def find_shards(patterns):
    """Find the shards that match file names and patterns.

    Args:
        patterns: File names or shell patterns with `*`, `?` and `[...]`.

    Returns:
        List of `Shard` without duplicates, sorted by name.

    Raises:
        UserError: a pattern matches nothing, a file is not a shard, or two shards would have the
            same output file.
    """
    paths = []
    for pattern in patterns:
        matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern))
        if not matches:
            raise UserError(
                f"shards: expected files, found nothing for {pattern!r}; correct the pattern."
            )
        paths += matches
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
                f"shards: {other.path!r} and {path!r} would both be written to "
                f"{shard.name}.jsonl; rename one, or write them to separate --output folders."
            )
    return [shards[name] for name in sorted(shards)]


def worker_shards(shards, worker):
    """Return the shards assigned to one of several workers.

    Args:
        shards: All shards, in the same order for every worker.
        worker: `"I/N"` for worker I of N workers, where I counts from 0. "" selects all shards.

    Raises:
        UserError: `worker` is not of the form `"I/N"`, or I is not less than N.
    """
    if not worker:
        return shards
    numbers = worker.split("/")
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        number, count = map(int, numbers)
        if number < count:
            return shards[number::count]
    raise UserError(
        f"worker: expected I/N, where I counts N workers from 0, such as 0/2 and 1/2; received "
        f"{worker!r}."
    )


class Contents:
    """Iterates over the images of a shard as `Entry` objects.

    Args:
        shard: `Shard`.

    Attributes:
        left_out: Number of files that were skipped so far, because `is_image_name` is false.

    Raises:
        ShardError: the archive is damaged or truncated, or the shard has files but no image. The
            error is raised during iteration.
    """

    def __init__(self, shard):
        self._path = shard.path
        self.left_out = 0

    def __iter__(self):
        entries = self._archive() if self._path.endswith(".tar") else self._list()
        try:
            yield from entries
        except OSError as error:
            reason = f"{self._path}: {error.strerror}; make it readable, or omit it."
            raise ShardError(reason) from None

    def _archive(self):
        try:
            with tarfile.open(self._path, "r:") as archive:
                yield from self._members(archive)
                # tarfile stops silently at the first block that is not a header.
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(_BLOCK) != bytes(_BLOCK):
                    raise tarfile.ReadError(f"no end mark at byte {archive.offset}")
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise ShardError(
                f"{self._path}: expected a complete, uncompressed tar archive, received a "
                f"damaged or truncated file ({error}); copy or create the archive again."
            ) from None

    def _members(self, archive):
        images = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # otherwise the list grows with the archive
            if member.isdir():
                continue
            if not is_image_name(member.name):
                self.left_out += 1
                continue
            images += 1
            if not member.isreg():
                yield Entry(member.name, error="expected an image, found a link or a device.")
            elif member.size > MAX_BYTES:
                yield Entry(member.name, error=too_large(member.size))
            else:
                yield Entry(member.name, archive.extractfile(member).read())
        if self.left_out and not images:
            raise ShardError(
                f"{self._path}: expected images ({' '.join(SUFFIXES)}), found none among "
                f"{self.left_out} files; omit the shard, or rename its images."
            )

    def _list(self):
        first = next(self._lines(), None)
        if first is not None and not any(map(os.path.isfile, map(on_disk, self._lines()))):
            raise ShardError(
                f"{self._path}: expected paths of images, but no listed file exists; the first is "
                f"{first!r}. Relative paths start at {os.getcwd()!r}."
            )
        yield from read_entries(self._lines())

    def _lines(self):
        with open(self._path, "rb") as file:
            for line in file:
                if path := line.rstrip(b"\r\n"):
                    yield os.fsdecode(path)
