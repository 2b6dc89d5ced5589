"""Reads COCO's captions and, if present, its objects with boxes.

Source: Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015,
arXiv:1504.00325; the layout of cocodataset.org's archives.
"""

import contextlib
import io
import pathlib
import re
from typing import Any

from keras_aoa.data.examples import CaptionData, Example, NamedObject
from keras_aoa.data.readers.files import (
    entries,
    image_folders,
    inside,
    locate,
    make_example,
    read_json,
)
from keras_aoa.data.readers.frames import Size, with_upright_boxes
from keras_aoa.data.readers.splits import paper_splits
from keras_aoa.data.text.coco_synonyms import nouns_of
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip, first_three

CAPTION_FILE = re.compile(r"captions_(train|val)(2014|2017)\.json")
IMAGE_FIELDS: dict[str, Any] = {"id": (int, str), "file_name": str}
CAPTION_FIELDS: dict[str, Any] = {"image_id": (int, str), "caption": str}
SIZE_FIELDS: dict[str, Any] = {"id": (int, str), "width": int, "height": int}
OBJECT_FIELDS: dict[str, Any] = {"image_id": (int, str), "category_id": int, "bbox": list}
CATEGORY_FIELDS: dict[str, Any] = {"id": int, "name": str}


def read_coco(
    annotations: pathlib.Path, year: str, images: str | None = None, objects: bool = True
) -> CaptionData:
    """Read COCO's own train and val splits; missing files and images are left out.

    As in the paper, val2014 is divided into 5,000 val and 5,000 test images (`paper_splits`).

    Args:
        annotations: Folder with files such as `captions_train2017.json`. The image folders
            `train2017/` and `val2017/` are in the parent of this folder, or in the parent's
            subfolder `images/`.
        year: 2014 or 2017.
        images: Folder that contains `train2017/` and `val2017/`, if these folders are elsewhere.
        objects: Whether to also read `instances_*.json`, if present. For all of COCO, this takes
            about a minute and up to 4 GB of memory.

    Raises:
        UserError: The JSON does not have COCO's structure, an image id occurs twice, a caption
            belongs to no listed image, an image has no captions, or `locate` fails.
    """
    splits: dict[str, tuple[Example, ...]] = {}
    sizes: dict[int | str, Size] = {}
    for split in ("train", "val"):
        path = annotations / f"captions_{split}{year}.json"
        if path.exists():
            boxes = annotations / f"instances_{split}{year}.json"
            things = {}
            if objects and boxes.exists():
                index = _read_instances(boxes)
                things = _objects(index, boxes)
                sizes |= {
                    key: (image["width"], image["height"]) for key, image in index.imgs.items()
                }
            splits[split] = _read_split(path, f"{split}{year}", things)
    if year == "2014":
        splits = paper_splits(splits)
    root = annotations.parent if annotations.name == "annotations" else annotations
    data = locate(
        CaptionData(f"coco{year}", splits),
        [pathlib.Path(images)] if images else image_folders(root),
        source=annotations,
        complete=False,
    )
    return with_upright_boxes(data, sizes, annotations) if sizes else data


def _read_split(
    path: pathlib.Path, folder: str, things: dict[int | str, tuple[NamedObject, ...]]
) -> tuple[Example, ...]:
    document = read_json(path)
    listed = entries(document, "images", IMAGE_FIELDS, path)
    captions = entries(document, "annotations", CAPTION_FIELDS, path)
    index = _index(images=listed, annotations=captions)
    if len(index.imgs) != len(listed):
        known: set[int | str] = set()
        repeated = [i["id"] for i in listed if i["id"] in known or known.add(i["id"])]
        raise UserError(
            f"{path}: expected each image id once, received {first_three(repeated)} again."
        )
    strays = {caption["image_id"] for caption in captions} - set(index.imgs)
    if strays:
        mixed = not {str(key) for key in index.imgs}.isdisjoint(map(str, strays))
        remedy = "; write ids as numbers in both lists or as text in both." if mixed else "."
        raise UserError(
            f"{path}: expected captions of listed images, received {len(strays)} unlisted image "
            f"ids: {first_three(map(repr, sorted(strays, key=str)))}{remedy}"
        )
    return tuple(
        make_example(
            image["id"],
            f"{folder}/{inside(image['file_name'], str(path))}",
            [caption["caption"] for caption in index.imgToAnns.get(image["id"], ())],
            str(path),
            objects=things.get(image["id"], ()),
        )
        for image in listed
    )


def read_objects(path: str | pathlib.Path) -> dict[int | str, tuple[NamedObject, ...]]:
    """Read the objects of each image from an `instances_*.json`.

    The nouns of an object are its category ("dining table"), the category's last word ("table"),
    synonyms, and the plurals of all these nouns. Boxes around a crowd, boxes with zero area, and
    boxes outside the image are left out. Other boxes are clipped to the image.

    Returns:
        Dictionary from image ids to objects. Images without objects are left out.

    Raises:
        UserError: The JSON does not have COCO's structure, or an image or category is unknown.
    """
    path = pathlib.Path(path)
    return _objects(_read_instances(path), path)


def _read_instances(path: pathlib.Path) -> Any:
    """Return pycocotools' index of an `instances_*.json`."""
    document = read_json(path)
    return _index(
        images=entries(document, "images", SIZE_FIELDS, path),
        annotations=entries(document, "annotations", OBJECT_FIELDS, path),
        categories=entries(document, "categories", CATEGORY_FIELDS, path),
    )


def _objects(index: Any, path: pathlib.Path) -> dict[int | str, tuple[NamedObject, ...]]:
    for key, category in index.cats.items():
        if not category["name"].strip():
            raise UserError(
                f"{path}: expected a name for the category with id {key!r}, received "
                f"{category['name']!r}; name the category."
            )
    nouns = {key: nouns_of(category["name"]) for key, category in index.cats.items()}
    objects: dict[int | str, tuple[NamedObject, ...]] = {}
    for image_id, annotations in index.imgToAnns.items():
        things = []
        size = index.imgs.get(image_id, {"width": 0, "height": 0})
        for annotation in annotations:
            names = nouns.get(annotation["category_id"])
            try:
                x, y, width, height = annotation["bbox"]
                x0, x1 = (min(max(v / size["width"], 0.0), 1.0) for v in (x, x + width))
                y0, y1 = (min(max(v / size["height"], 0.0), 1.0) for v in (y, y + height))
            except (TypeError, ValueError, ArithmeticError):
                names = None
            if not names:
                raise UserError(
                    f"{path}: expected a listed image, a listed category and a box x, y, "
                    f"width, height, received "
                    f"{clip({key: annotation[key] for key in OBJECT_FIELDS}, 120)}."
                )
            if x0 < x1 and y0 < y1 and not annotation.get("iscrowd"):
                things.append(NamedObject(names, frozenset(), (x0, y0, x1, y1)))
        if things:
            objects[image_id] = tuple(things)
    return objects


def _index(**dataset: list[dict]) -> Any:
    from pycocotools.coco import COCO

    # pycocotools needs an id for every annotation. Ids in files have many types and no other use.
    for number, entry in enumerate(dataset["annotations"]):
        entry["id"] = number
    index = COCO()
    index.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index
