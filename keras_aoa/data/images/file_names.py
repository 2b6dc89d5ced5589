"""Finds image files by their names, on the command line and in folders."""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import is_desktop_file, on_disk, require_local
from keras_aoa.utils.text import first_three

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Formats that `other_formats` converts or names. An error is better than a file that is left out.
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jxl")


class ImageFiles(NamedTuple):
    """Image files, and the skipped files in the same folders."""

    files: list[pathlib.Path]
    skipped: list[pathlib.Path]

    @property
    def message(self) -> str:
        """One line about the skipped files, or "" if no files were skipped."""
        if not self.skipped:
            return ""
        return (
            f"Skipped files that are not images ({len(self.skipped)}): {first_three(self.skipped)}."
        )


def is_image_name(path: str | os.PathLike, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a path has an image's suffix and is not a file that desktop systems add."""
    return os.fspath(path).lower().endswith(suffixes) and not is_desktop_file(path)


def find_images(names: Iterable[str | os.PathLike], recursive: bool = False) -> ImageFiles:
    """Return the given image files, and the images in the given folders.

    A file that is named directly need not have an image's suffix.

    Args:
        names: Paths of image files and of folders.
        recursive: Whether to also search the folders' subfolders, except hidden ones.

    Raises:
        UserError: A name is a URL, a file does not exist, or a folder contains no images.
    """
    found = ImageFiles([], [])
    for name in names:
        require_local(name)
        path = on_disk(name)
        if path.is_dir():
            inside = _in_folder(path, recursive)
            if not inside.files:
                raise UserError(_no_images(path, recursive))
            found.files.extend(inside.files)
            found.skipped.extend(inside.skipped)
        elif path.exists():
            found.files.append(path)
        else:
            raise UserError(f"{path}: expected an image or a folder of images, found nothing.")
    return found


def _in_folder(folder: pathlib.Path, recursive: bool) -> ImageFiles:
    found = ImageFiles([], [])
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if recursive and name[0] != ".")
        for path in (pathlib.Path(parent, name) for name in sorted(names)):
            if is_image_name(path, SUFFIXES + OTHER_SUFFIXES):
                found.files.append(path)
            elif path.name[0] != "." and not is_desktop_file(path):
                found.skipped.append(path)
    return found


def _no_images(folder: pathlib.Path, recursive: bool) -> str:
    below = [] if recursive else _in_folder(folder, recursive=True).files
    remedy = f"; add --recursive for the {len(below)} in subfolders" if below else ""
    return f"{folder}: expected a folder of images ({' '.join(SUFFIXES)}), found none{remedy}."
