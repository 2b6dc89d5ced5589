"""Builds small data sets for the tests of the readers."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.data.readers import read
from keras_aoa.utils.errors import UserError


def put(folder: pathlib.Path, texts: dict[str, str]) -> None:
    """Write text files, given their contents by name."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def photographs(folder: pathlib.Path, *names: str) -> None:
    """Write small gray images."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((4, 6, 3), 128, "uint8"))


def names(data: CaptionData) -> dict[str, list[str]]:
    """Return the image file names of each split."""
    return {s: [pathlib.Path(e.path).name for e in part] for s, part in data.splits.items()}


def examples_of(data: CaptionData) -> dict[int | str, Example]:
    """Return the examples of all splits by image id."""
    return {example.image_id: example for part in data.splits.values() for example in part}


def refused(path: pathlib.Path, message: str, **options) -> None:
    """Assert that `read` raises a `UserError` of one line that matches `message`."""
    with pytest.raises(UserError, match=message) as refusal:
        read(path, **options)
    assert "\n" not in str(refusal.value)


def coco(images: dict[int, str], captions: list[tuple[int, str]], **more) -> str:
    """Return the text of a COCO caption file."""
    return json.dumps(
        {
            "images": [
                {"id": key, "file_name": name, "width": 200, "height": 100}
                for key, name in images.items()
            ],
            "annotations": [
                {"id": index, "image_id": key, "caption": caption}
                for index, (key, caption) in enumerate(captions)
            ],
            **more,
        }
    )


def instances(*objects: tuple[int, int, list[float], int], **more) -> str:
    """Return the text of a COCO `instances` file; an object is image, category, box, crowd."""
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
        for i, (image, category, box, crowd) in enumerate(objects)
    ]
    categories = [{"id": 1, "name": "dining table"}, {"id": 2, "name": "hot dog"}]
    return coco(
        {7: "7.jpg", 9: "9.jpg"},
        [],
        **{"annotations": annotations, "categories": categories} | more,
    )


def karpathy(*images: tuple[str, str, list[str]], **more) -> str:
    """Return the text of a Karpathy split file; an image is name, split, captions."""
    return json.dumps(
        {
            "images": [
                {
                    "filename": name,
                    "split": split,
                    "sentences": [{"raw": raw, "tokens": raw.split()} for raw in sentences],
                    "imgid": index,
                    **more,
                }
                for index, (name, split, sentences) in enumerate(images)
            ],
            "dataset": "coco",
        }
    )
