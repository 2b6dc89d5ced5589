"""Functions that the readers share: text and JSON files, image paths, and examples."""

import gzip
import json
import logging
import os
import pathlib
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import on_disk
from keras_aoa.utils.text import clip, first_three, one_line, printable

# Names that people give to the folder of images beside a caption file.
IMAGE_FOLDERS = ("images", "Images", "image", "photos")
SEARCHED_LEVELS = 3  # of subfolders; deeper folders belong to something else

MAX_UNPACKED_BYTES = 2**30  # the captions of Flickr30k have 17 million bytes

_TYPE_NAMES = {int: "a whole number", str: "a text", list: "a list"}

logger = logging.getLogger(__name__)


def read_text(path: pathlib.Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    If the file's name ends with `.gz`, the file is unpacked.

    Raises:
        UserError: The file is missing, unreadable, not UTF-8, or a damaged gzip file.
    """
    try:
        data = b"" if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(MAX_UNPACKED_BYTES + 1)
            if len(data) > MAX_UNPACKED_BYTES:
                raise OSError(f"more than {MAX_UNPACKED_BYTES} bytes when unpacked")
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
    """Read a UTF-8 JSON file.

    Raises:
        UserError: `read_text` fails, or the file is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} line {error.lineno}: expected JSON, received {clip(error.doc[error.pos :])}; "
            "download or write the file again."
        ) from None
    except RecursionError:
        raise UserError(f"{path}: expected JSON, received thousands of nested brackets.") from None
    except ValueError:
        raise UserError(
            f"{path}: expected JSON, received a number with thousands of digits."
        ) from None


def entries(document: Any, key: str, fields: dict[str, Any], path: pathlib.Path) -> list[dict]:
    """Return the list `document[key]` after checking the fields of each of its objects.

    Args:
        document: A parsed JSON document.
        key: The name of the list.
        fields: Dictionary from the name of each required field to the field's type or tuple of
            types.
        path: The file, for messages.

    Raises:
        UserError: The list is missing, or an object has a missing or invalid field.
    """
    listed = document.get(key) if isinstance(document, dict) else document
    if not isinstance(document, dict) or not isinstance(listed, list):
        received = clip(sorted(document) if isinstance(document, dict) else document)
        raise UserError(f"{path}: expected an object with a list '{key}', received {received}.")
    for index, entry in enumerate(listed):
        if not isinstance(entry, dict):
            raise UserError(
                f"{path} {key}[{index}]: expected {', '.join(fields)}, received {clip(entry)}."
            )
        for name, types in fields.items():
            types = types if isinstance(types, tuple) else (types,)
            value = entry.get(name)
            if int in types and isinstance(value, float) and value.is_integer():
                value = entry[name] = int(value)  # pandas may write 1 as 1.0
            if not isinstance(value, types) or isinstance(value, bool):
                expected = " or ".join(_TYPE_NAMES[each] for each in types)
                reason = (
                    f", where '{name}' is {expected}, received {clip(value)} "
                    f"({type(value).__name__}) in"
                    if name in entry
                    else ", received"
                )
                raise UserError(
                    f"{path} {key}[{index}]: expected {', '.join(fields)}{reason} {clip(entry)}."
                )
    return listed


def inside(name: str, where: str) -> str:
    """Return `name` unchanged if it is a relative path inside the data folder.

    Raises:
        UserError: The name is empty, absolute, or contains `..`.
    """
    windows = pathlib.PureWindowsPath(name)
    if not name or windows.anchor or ".." in windows.parts:
        raise UserError(
            f"{where}: expected a path inside the data folder, received {clip(name)}; "
            "keep the file there and name it relative to the folder, without '..'."
        )
    return name


def present(folder: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Return a dictionary from the names of existing files to their spellings on disk.

    The names are relative to `folder`.

    Unicode has two forms of a letter such as `é`, and the data may use another form than the file
    system. Each folder is listed once, which is faster than checking every file.
    """
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(os.path.dirname(name), []).append(name)
    existing: dict[str, str] = {}
    for subfolder, members in by_folder.items():
        try:
            listed = on_disk(folder / subfolder)
            with os.scandir(listed) as listing:
                files = {entry.name for entry in listing if entry.is_file()}
        except (OSError, ValueError):  # ValueError: the name contains a null byte
            continue
        composed = {_composed(file): file for file in files}
        stored = os.path.relpath(listed, folder) if listed != folder / subfolder else subfolder
        for name in members:
            base = os.path.basename(name)
            file = base if base in files else composed.get(_composed(base))
            if file is not None:
                unchanged = (stored, file) == (subfolder, base)
                existing[name] = name if unchanged else os.path.join(stored, file)
    return existing


def image_folders(folder: pathlib.Path, *more: str) -> list[pathlib.Path]:
    """Return the folders that may contain the images of a caption file in `folder`."""
    return [folder, *(folder / name for name in (*IMAGE_FOLDERS, *more))]


def in_subfolders(root: pathlib.Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Find files in the subfolders of a folder, up to `SEARCHED_LEVELS` deep.

    Hidden folders are left out.

    Returns:
        Dictionary from each existing file's name to all paths that end with this name, relative to
        `root`.
    """
    wanted: dict[str, list[str]] = {}
    for name in names:
        wanted.setdefault(os.path.basename(_composed(name)), []).append(name)
    existing: dict[str, list[str]] = {}
    for folder, subfolders, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        level = 0 if relative == "." else relative.count(os.sep) + 1
        deeper = level < SEARCHED_LEVELS
        subfolders[:] = sorted(name for name in subfolders if deeper and name[0] != ".")
        for file in files:
            path = os.path.normpath(os.path.join(relative, file))
            for name in wanted.get(_composed(file), ()):
                if _composed(f"/{path}").endswith(_composed(f"/{name}")):
                    existing.setdefault(name, []).append(path)
    return existing


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def locate(
    data: CaptionData, folders: Sequence[pathlib.Path], source: pathlib.Path, complete: bool
) -> CaptionData:
    """Resolve relative image paths against the folder that contains the most images.

    If none of the folders contains an image, their subfolders are searched.

    Args:
        data: Data set whose paths are relative to a folder of images.
        folders: Candidate folders. If several folders contain equally many images, the first of
            these folders is used.
        source: The file that lists the images, for messages.
        complete: Whether every image must exist. If `complete` is false, missing images are left
            out with a warning, and splits that become empty are also left out.

    Returns:
        The data set with the resolved paths.

    Raises:
        UserError: All images are missing, some are missing and `complete` is true, or an image is
            in several subfolders.
    """
    names = [example.path for examples in data.splits.values() for example in examples]
    if not names:
        raise UserError(f"{source}: expected images with captions, received none.")
    existing_by_folder = [present(folder, names) for folder in folders]
    best = max(range(len(folders)), key=lambda index: len(existing_by_folder[index]))
    folder, existing = str(folders[best]), existing_by_folder[best]
    if not existing:
        folder = os.path.commonpath(folders)
        for name, paths in in_subfolders(pathlib.Path(folder), names).items():
            if len(paths) > 1:
                raise UserError(
                    f"{source}: expected one {printable(name)}, found {first_three(paths)} in "
                    f"{folder or '.'}; name the folder of the images with --images."
                )
            existing[name] = paths[0]
    missing = [name for name in names if name not in existing]
    problem = f"{len(missing)} of its {len(names)} images do not exist: {first_three(missing)}"
    if not existing:
        searched = ", ".join(dict.fromkeys(map(str, folders)))
        raise UserError(f"{source}: {problem}; looked in {searched} and subfolders.")
    if missing and complete:
        raise UserError(f"{source}: {problem}; add them to {folder} or remove their captions.")
    if missing:
        logger.warning("%s: %s; the missing images are left out.", source, problem)
    splits = {
        split: tuple(
            replace(example, path=os.path.join(folder, existing[example.path]))
            for example in examples
            if example.path in existing
        )
        for split, examples in data.splits.items()
    }
    return CaptionData(data.name, {split: kept for split, kept in splits.items() if kept})


def make_example(
    image_id: int | str, path: str, captions: Iterable[str], where: str, **extras
) -> Example:
    """Build an example: join each caption into one line, and drop blank captions.

    Args:
        image_id: The image's id.
        path: The image's path, relative to the folder of images.
        captions: The raw captions.
        where: The file and line or entry that define the image, for messages.
        **extras: Further fields of `Example`.

    Raises:
        UserError: No caption is left.
    """
    captions = tuple(filter(None, map(one_line, captions)))
    if not captions:
        raise UserError(
            f"{where}: expected at least one caption for {printable(path)}, received none; "
            "add one or remove the image."
        )
    return Example(image_id, path, captions, **extras)
