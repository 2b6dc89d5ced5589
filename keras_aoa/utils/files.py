"""Files written whole: readers see the old one or the new one, never a half."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import tempfile
import threading

from keras_aoa.utils.errors import UserError


@contextlib.contextmanager
def atomic_write(path, folder=None):
    """A file's name to write to, which replaces `path` when all went well.

    Args:
        path: The file.
        folder: Where it lies until then, on the same disk; beside `path` if None.

    Raises:
        OSError: the file cannot be written; nothing is left behind, the old file stays.
    """
    path = pathlib.Path(path)
    # Another process, or another thread, may write the same file.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = pathlib.Path(folder or path.parent) / f"{path.stem}.{writer}.part{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder):
    """Remove what killed processes left of `atomic_write`."""
    for file in pathlib.Path(folder).glob("*.part*"):
        if re.search(r"\.\d+-\d+\.part(\.|$)", file.name):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(folder):
    """Hold a folder for this process alone; nothing stays when it ends in whatever way.

    Raises:
        UserError: another process holds it.
    """
    with open(pathlib.Path(folder) / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another training is writing to it; wait for that one, or choose "
                "another --name."
            ) from None
        yield


def check_writable(folder):
    """Refuse a folder that cannot be written, before the work whose result it is to hold.

    Args:
        folder: It; it need not exist, then the folder that it would be made in counts.

    Raises:
        UserError: it cannot.
    """
    folder = pathlib.Path(folder).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written, received "
            f"{(error.strerror or str(error)).lower()} ({there}); free it, or name "
            "another."
        ) from None


def settings_digest(described):
    """Short SHA-256 that tells settings, json's types, from others: for a cache's name."""
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(path):
    """Text that tells a file from others, and from what it was before it was exchanged."""
    path = os.path.abspath(path)
    status = os.stat(path)
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"


def write_text(path, text):
    """Write a text file whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
