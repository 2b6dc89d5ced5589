"""Readers of caption data sets: Flickr8k, Flickr30k, COCO, Karpathy's splits, your own photos."""

import os
import pathlib

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.readers.coco import CAPTION_FILE, read_coco, read_objects
from keras_aoa.data.readers.entities import has_entities, with_entities
from keras_aoa.data.readers.files import IMAGE_FOLDERS
from keras_aoa.data.readers.flickr import (
    SPLIT_FILES,
    is_token_file,
    read_captions,
    read_flickr,
)
from keras_aoa.data.readers.karpathy import read_karpathy
from keras_aoa.data.readers.own import read_own
from keras_aoa.data.readers.splits import hold_out, split_by_name
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import is_desktop_file, on_disk, require_local
from keras_aoa.utils.text import first_three

__all__ = [
    "hold_out",
    "read",
    "read_captions",
    "read_coco",
    "read_flickr",
    "read_karpathy",
    "read_objects",
    "read_own",
    "split_by_name",
]

SUPPORTED = (
    "captions.csv or captions.txt (image,caption) · Flickr8k.token.txt · results_20130124.token · "
    "*.token · "
    "dataset_*.json (Karpathy) · annotations/captions_train2017.json or 2014 (COCO)"
)
KAGGLE_FILE = "captions.txt"
# Karpathy's archive has all three files. The reader uses the file whose images are beside it.
BESIDE_KARPATHY = {
    "dataset_coco.json": {"train2014", "val2014"},
    "dataset_flickr8k.json": {"Flickr8k.token.txt", "Flicker8k_Dataset", "Flickr8k_Dataset"},
    "dataset_flickr30k.json": {
        "results_20130124.token",
        "results_20130124.token.gz",
        "flickr30k-images",
        "flickr30k_images",
    },
}


def read(
    path: str | os.PathLike,
    images: str | None = None,
    restval: bool = True,
    objects: bool = True,
) -> CaptionData:
    """Read the data set at `path`, recognizing its format by file names.

    In a folder, `read` looks for these files in this order and uses the first match:
    `captions.csv`, a token file with Flickr8k's split lists, Karpathy's JSON with its images,
    another token file, COCO's annotations, Karpathy's JSON, `captions.txt` as in Kaggle's Flickr8k.
    If the path is a file, `read` uses this file. If the path is COCO's folder `annotations`, `read`
    uses COCO's own splits.

    Every image of your own data must exist. Public data sets are often stored only partly, so
    their missing images are left out with a warning. If all images are missing, an error is raised.

    Args:
        path: A folder, or a caption file.
        images: Folder of images, if they are not beside the captions.
        restval: Whether to add Karpathy's `restval` images to the train split.
        objects: Whether to also read objects, if their files are beside the captions: COCO's
            objects, or Flickr30k Entities (`Sentences/`, `Annotations/`). For all of COCO, this
            takes about a minute and up to 4 GB of memory.

    Raises:
        UserError: The path contains no supported data set, or a file is invalid.
    """
    require_local(path)
    require_local(images or "")
    path = on_disk(pathlib.Path(path))
    images = str(on_disk(pathlib.Path(images))) if images else images
    folder, chosen = (path, None) if path.is_dir() else (path.parent, path.name)
    try:
        with os.scandir(folder) as listing:
            names = {entry.name for entry in listing if not is_desktop_file(entry.name)}
    except OSError:
        names = set()
    if (chosen or ".") not in names | {"."}:
        raise UserError(f"data: expected a folder or a caption file, found no file at {path}.")

    name = chosen or _choose(folder, names)
    data = _read_file(folder, name, path, images, restval, objects)
    return with_entities(data, folder) if objects and has_entities(folder) else data


def _read_file(
    folder: pathlib.Path,
    name: str,
    path: pathlib.Path,
    images: str | None,
    restval: bool,
    objects: bool,
) -> CaptionData:
    """Read a caption file; the file's name selects the reader."""
    if name.endswith(".csv") or pathlib.PurePath(name).name == KAGGLE_FILE:
        return read_own(folder / name, images)
    if is_token_file(name):
        return read_flickr(folder / name, images)
    if match := CAPTION_FILE.fullmatch(pathlib.PurePath(name).name):
        return read_coco((folder / name).parent, match[2], images, objects)
    if name.endswith(".json"):
        return read_karpathy(folder / name, images, restval)
    raise UserError(f"data: {path} is not one of: {SUPPORTED}.")


def _choose(folder: pathlib.Path, names: set[str]) -> str:
    """Return the caption file of a folder, relative to the folder."""
    if "captions.csv" in names:
        return "captions.csv"
    if "Flickr8k.token.txt" in names and not names.isdisjoint(SPLIT_FILES.values()):
        return "Flickr8k.token.txt"
    here = names.union(*(_names(folder / each) for each in IMAGE_FOLDERS))
    karpathy = [name for name in BESIDE_KARPATHY if name in names]
    coco = [name for name in names if CAPTION_FILE.fullmatch(name)] or [
        f"annotations/{name}"
        for name in _names(folder / "annotations")
        if CAPTION_FILE.fullmatch(name)
    ]
    one_per_year = {name[-len("2017.json") :]: name for name in sorted(coco)}
    for kind in (
        [name for name in karpathy if BESIDE_KARPATHY[name] & here],
        sorted(filter(is_token_file, names)),
        list(one_per_year.values()),
        karpathy,
        [KAGGLE_FILE] if KAGGLE_FILE in names else [],
    ):
        if len(kind) > 1:
            raise UserError(
                f"data: {folder} has more than one data set; name the file: {', '.join(kind)}."
            )
        if kind:
            return kind[0]
    content = first_three(sorted(names)) or "nothing"
    raise UserError(f"data: {folder} contains {content}; expected one of: {SUPPORTED}.")


def _names(folder: pathlib.Path) -> set[str]:
    try:
        return {name for name in os.listdir(folder) if not is_desktop_file(name)}
    except OSError:
        return set()
