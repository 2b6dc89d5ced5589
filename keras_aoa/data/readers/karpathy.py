"""Reads Karpathy's splits of COCO, Flickr8k and Flickr30k: one JSON file with captions.

Source: Karpathy and Fei-Fei, "Deep visual-semantic alignments for generating image descriptions",
CVPR 2015; the files of `caption_datasets.zip`.
"""

import pathlib
from typing import Any

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.data.readers.files import (
    entries,
    image_folders,
    inside,
    locate,
    make_example,
    read_json,
)
from keras_aoa.data.readers.flickr import IMAGE_FOLDERS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip, printable

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def read_karpathy(
    path: pathlib.Path, images: str | None = None, restval: bool = True
) -> CaptionData:
    """Read a file `dataset_NAME.json`.

    An image's id is its COCO number or, for Flickr, its file name.

    Args:
        path: The file.
        images: Folder of images, if they are not beside the file.
        restval: Whether to add the 30,504 COCO images of the split `restval` to the train split.

    Raises:
        UserError: The JSON does not have Karpathy's structure, an image occurs twice, an image has
            no captions, or `locate` fails.
    """
    document = read_json(path)
    fields: dict[str, Any] = {"filename": str, "split": str, "sentences": list}
    splits: dict[str, list[Example]] = {}
    seen: set[int | str] = set()
    for index, image in enumerate(entries(document, "images", fields, path)):
        where = f"{path} images[{index}]"
        if image["split"] not in SPLITS:
            raise UserError(
                f"{where}: expected a split {', '.join(SPLITS)}, received {clip(image['split'])}."
            )
        if image["split"] == "restval" and not restval:
            continue
        folder, number = image.get("filepath", ""), image.get("cocoid")
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(folder, str) or not isinstance(number, int | None):
            raise UserError(
                f"{where}: expected a text 'filepath' and a whole number 'cocoid', both optional, "
                f"received {clip(folder)} and {clip(number)}."
            )
        name = inside(f"{folder}/{image['filename']}" if folder else image["filename"], where)
        image_id = name if number is None else number
        if image_id in seen:
            raise UserError(
                f"{where}: expected each image once, received {printable(image_id)} again."
            )
        seen.add(image_id)
        sentences = entries(image, "sentences", {"raw": str}, pathlib.Path(where))
        captions = [sentence["raw"] for sentence in sentences]
        example = make_example(image_id, name, captions, where)
        splits.setdefault(SPLITS[image["split"]], []).append(example)
    name = str(document.get("dataset") or path.stem.removeprefix("dataset_"))
    return locate(
        CaptionData(name, {split: tuple(examples) for split, examples in splits.items()}),
        [pathlib.Path(images)]
        if images
        else image_folders(path.parent, *IMAGE_FOLDERS.get(name, ())),
        source=path,
        complete=False,
    )
