"""Text, JSON and image names as the readers need them; whatever is wrong is told in one line."""

import gzip
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip, first_three, one_line, printable

MOST_UNPACKED = 2**30  # bytes; the captions of Flickr30k have 17 million

logger = logging.getLogger(__name__)


def read_text(path: pathlib.Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark, gzipped if it ends in `.gz`.

    Raises:
        UserError: not there, not readable, not UTF-8 or a damaged gzip.
    """
    try:
        data = b"" if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(MOST_UNPACKED + 1)
            if len(data) > MOST_UNPACKED:
                raise OSError(f"more than {MOST_UNPACKED} bytes once unpacked")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: expected a file to read, received '{reason}'.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} line {line}: expected UTF-8, received byte 0x{data[error.start]:02x}; "
            "save the file as UTF-8."
        ) from None


def read_json(path: pathlib.Path) -> Any:
    """What a UTF-8 JSON file holds.

    Raises:
        UserError: as `read_text`; not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} line {error.lineno}: expected JSON, received {clip(error.doc[error.pos :])}; "
            "fetch or write the file again."
        ) from None
    except RecursionError:
        raise UserError(f"{path}: expected JSON, received thousands of nested brackets.") from None
    except ValueError:
        raise UserError(
            f"{path}: expected JSON, received a number of thousands of digits."
        ) from None


def entries(document: Any, key: str, fields: dict[str, Any], path: pathlib.Path) -> list[dict]:
    """The list `document[key]`, each entry an object with `fields`: name -> type(s).

    Raises:
        UserError: the document has another shape.
    """
    found = document.get(key) if isinstance(document, dict) else document
    if not isinstance(document, dict) or not isinstance(found, list):
        received = clip(sorted(document) if isinstance(document, dict) else document)
        raise UserError(f"{path}: expected an object with a list '{key}', received {received}.")
    for index, entry in enumerate(found):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), types) for name, types in fields.items()
        ):
            raise UserError(
                f"{path} {key}[{index}]: expected {', '.join(fields)}, received {clip(entry)}."
            )
    return found


def inside(name: str, where: str) -> str:
    """`name`, if it is a path below the data folder.

    Raises:
        UserError: empty, absolute, or with `..` in it.
    """
    windows = pathlib.PureWindowsPath(name)
    if not name or windows.anchor or ".." in windows.parts:
        raise UserError(
            f"{where}: expected a path inside the data folder, received {clip(name)}; "
            "keep the file there and name it relative to the folder, without '..'."
        )
    return name


def present(folder: pathlib.Path, names: Iterable[str]) -> set[str]:
    """Those of `names` that are files below `folder`; lists each folder once, asks for no file."""
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(os.path.dirname(name), []).append(name)
    found: set[str] = set()
    for subfolder, members in by_folder.items():
        try:
            with os.scandir(folder / subfolder) as listing:
                files = {entry.name for entry in listing if entry.is_file()}
        except (OSError, ValueError):  # ValueError: a name that no file can have
            continue
        found.update(name for name in members if os.path.basename(name) in files)
    return found


def locate(
    data: CaptionData, folders: Sequence[pathlib.Path], source: pathlib.Path, complete: bool
) -> CaptionData:
    """`data` with each relative image path under the one of `folders` that holds most of them.

    Args:
        data: Paths relative to a folder of images.
        folders: Where the images may be; the first wins a draw.
        source: The file that names them, for messages.
        complete: Whether each image must be there. Otherwise missing ones are left out, with a
            warning, and so is a split of which nothing is left.

    Raises:
        UserError: all images are missing, or some and `complete`.
    """
    names = [example.path for examples in data.splits.values() for example in examples]
    if not names:
        raise UserError(f"{source}: expected images with captions, received none.")
    held = [present(folder, names) for folder in folders]
    best = max(range(len(folders)), key=lambda index: len(held[index]))
    folder, found = str(folders[best]), held[best]
    missing = [name for name in names if name not in found]
    told = f"{len(missing)} of its {len(names)} images do not exist: {first_three(missing)}"
    if not found:
        looked = ", ".join(dict.fromkeys(map(str, folders)))
        raise UserError(f"{source}: {told}; looked in {looked}.")
    if missing and complete:
        raise UserError(f"{source}: {told}; add them to {folder} or remove their captions.")
    if missing:
        logger.warning("%s: %s; they are left out.", source, told)
    splits = {
        split: tuple(
            replace(example, path=os.path.join(folder, example.path))
            for example in examples
            if example.path in found
        )
        for split, examples in data.splits.items()
    }
    return CaptionData(data.name, {split: kept for split, kept in splits.items() if kept})


def described(
    image_id: int | str, path: str, captions: Iterable[str], where: str, **extras
) -> Example:
    """An example with its captions' white space in order; blank captions are left out.

    Raises:
        UserError: no caption is left.
    """
    captions = tuple(filter(None, map(one_line, captions)))
    if not captions:
        raise UserError(
            f"{where}: expected at least one caption for {printable(path)}, received none; "
            "add one or remove the image."
        )
    return Example(image_id, path, captions, **extras)
