"""Atomic file writes, folder locks, and digests that identify files and settings."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import tempfile
import threading
import unicodedata

from keras_aoa.utils.errors import UserError


@contextlib.contextmanager
def atomic_write(path, folder=None):
    """Yield the path of a temporary file, which replaces the file `path` if the block succeeds.

    Readers see either the old file or the complete new file, never a part of a file.

    Args:
        path: The file to write.
        folder: Folder of the temporary file, on the same disk. The default is the folder of `path`.

    Raises:
        OSError: The file cannot be written. The temporary file is removed and the old file is
            kept. The error names `path` instead of the temporary file.
    """
    path = pathlib.Path(path)
    # Another process or thread may be writing the same file.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = pathlib.Path(folder or path.parent) / f"{path.stem}.{writer}.part{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder):
    """Remove the temporary files of `atomic_write` that killed processes left in a folder."""
    for file in pathlib.Path(folder).glob("*.part*"):
        if re.search(r"\.\d+-\d+\.part(\.|$)", file.name):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(folder):
    """Lock a folder during the block. The lock also ends if the process is killed.

    Raises:
        UserError: Another process has locked the folder.
    """
    with open(pathlib.Path(folder) / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another training is writing to it; wait until it ends, or choose "
                "another --name."
            ) from None
        yield


def require_local(path):
    """Refuse a URL such as `gs://bucket/folder`. Python would create a local folder `gs:`.

    Raises:
        UserError: The path is a URL.
    """
    # `pathlib.Path` removes one of the two slashes.
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+", os.fspath(path)):
        remedy = (
            "download the file first, for example with curl -LO"
            if match[1].lower() in ("http", "https")
            else "mount it as a folder, or copy the files"
        )
        raise UserError(
            f"{match[1]}://{os.fspath(path)[match.end() :]}: expected a path on this machine, "
            f"received a URL; {remedy}."
        )


def on_disk(path):
    """Return a path in the Unicode form that exists on disk, or unchanged if no form exists.

    A letter such as `é` is one character in the form NFC and two characters in the form NFD. macOS
    often writes NFD, in folders and in archives.
    """
    path = pathlib.Path(path)
    if str(path).isascii() or os.path.lexists(path):
        return path
    forms = [pathlib.Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]
    return next(filter(os.path.lexists, forms), path)


def is_desktop_file(path):
    """Return whether a path is a file that desktop systems add to folders, such as `.DS_Store`."""
    parts = pathlib.PurePath(path).parts
    name = parts[-1] if parts else ""
    return (
        name.startswith("._")
        or name.lower() in (".ds_store", "thumbs.db", "desktop.ini")
        or "__MACOSX" in parts
    )


def check_writable(folder):
    """Check that a folder can be written, before a long computation writes its result there.

    Args:
        folder: The folder. If the folder does not exist, its nearest existing parent is checked.

    Raises:
        UserError: The folder cannot be written, or is a URL.
    """
    require_local(folder)
    folder = pathlib.Path(folder).absolute()
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written, received "
            f"{(error.strerror or str(error)).lower()} ({existing}); make it writable, or choose "
            "another folder."
        ) from None


def check_output(path):
    """Check that a file can be written, before its content is computed; its folder may be missing.

    Raises:
        UserError: The path is a folder or a URL, or its folder cannot be written.
    """
    require_local(path)
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"{path}: expected a file to write, found a folder; add a file name.")
    check_writable(path.parent)


def settings_digest(settings):
    """Return a digest of settings for the names of cached files.

    Args:
        settings: Dictionary of values that JSON can represent.

    Returns:
        The first 12 hexadecimal digits of the SHA-256.
    """
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(path):
    """Return a string that contains a file's absolute path, size and modification time.

    The string changes if the file is replaced.
    """
    path = os.path.abspath(path)
    status = os.stat(path)
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"


def write_text(path, text):
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
