"""Caption data sets from files: Flickr8k, Flickr30k, COCO, Karpathy's splits, own photographs."""

import os
import pathlib

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.readers.coco import CAPTION_FILE, read_coco, read_objects
from keras_aoa.data.readers.entities import has_entities, with_entities
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

UNDERSTOOD = (
    "captions.csv (image,caption) · Flickr8k.token.txt · results_20130124.token · *.token · "
    "dataset_*.json (Karpathy) · annotations/captions_train2017.json or 2014 (COCO)"
)
# All of Karpathy's files come in one archive: the one meant is that with its images beside it.
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
    """The data set at `path`, whose layout shows from the names of its files.

    In a folder, `captions.csv` comes first, then a token file with Flickr8k's lists of splits,
    then Karpathy's JSON with its images, then other token files, then COCO's annotations. The
    path of a single file chooses that one; the path of COCO's `annotations`, COCO's own splits.

    Missing images: of own data each must exist. Public sets are often kept in part: what is
    missing is left out with a warning, and an error is only that nothing is there.

    Args:
        path: A folder, or one of its files with captions.
        images: Folder of images, if they are not beside the captions.
        restval: Whether Karpathy's `restval` joins train.
        objects: Whether COCO's objects, or Flickr30k Entities (`Sentences/`, `Annotations/`), are
            read where they lie beside; for all of COCO that takes about a minute and 4 GB for a
            while.

    Raises:
        UserError: nothing there that is understood, or a mistake in the files.
    """
    path = pathlib.Path(path)
    folder, chosen = (path, None) if path.is_dir() else (path.parent, path.name)
    try:
        with os.scandir(folder) as listing:
            names = {entry.name for entry in listing}
    except OSError:
        names = set()
    if (chosen or ".") not in names | {"."}:
        raise UserError(f"data: expected a folder or a file with captions, found no {path}.")

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
    """The captions of a file in a folder, by the file's name."""
    if name.endswith(".csv"):
        return read_own(folder / name, images)
    if is_token_file(name):
        return read_flickr(folder / name, images)
    if match := CAPTION_FILE.fullmatch(pathlib.PurePath(name).name):
        return read_coco((folder / name).parent, match[2], images, objects)
    if name.endswith(".json"):
        return read_karpathy(folder / name, images, restval)
    raise UserError(f"data: {path} is none of: {UNDERSTOOD}.")


def _choose(folder: pathlib.Path, names: set[str]) -> str:
    """The file of captions in a folder, relative to it."""
    if "captions.csv" in names:
        return "captions.csv"
    if "Flickr8k.token.txt" in names and not names.isdisjoint(SPLIT_FILES.values()):
        return "Flickr8k.token.txt"
    here = names | _names(folder / "images")
    karpathy = [name for name in BESIDE_KARPATHY if name in names]
    coco = [name for name in names if CAPTION_FILE.fullmatch(name)] or [
        f"annotations/{name}"
        for name in _names(folder / "annotations")
        if CAPTION_FILE.fullmatch(name)
    ]
    one_a_year = {name[-len("2017.json") :]: name for name in sorted(coco)}
    for kind in (
        [name for name in karpathy if BESIDE_KARPATHY[name] & here],
        sorted(filter(is_token_file, names)),
        list(one_a_year.values()),
        karpathy,
    ):
        if len(kind) > 1:
            raise UserError(
                f"data: {folder} has more than one data set; name the file: {', '.join(kind)}."
            )
        if kind:
            return kind[0]
    found = first_three(sorted(names)) or "nothing"
    raise UserError(f"data: {folder} holds {found}; expected one of: {UNDERSTOOD}.")


def _names(folder: pathlib.Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
