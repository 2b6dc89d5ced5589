"""Tests of boxes whose frame is not that of the upright picture."""

import json
import logging

import cv2
import numpy as np
import pytest
from image_files import encode, exif, insert
from reader_files import coco, put

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.data.readers import read

UPRIGHT = np.full((100, 40, 3), 200, np.uint8)
UPRIGHT[:30, :20] = 0, 0, 255  # the object
TURNS = {1: 0, 3: 2, 6: 1, 8: -1}


def stored(orientation):
    """Return the pixels that a file with this orientation stores, and the object's box there."""
    pixels = np.ascontiguousarray(np.rot90(UPRIGHT, TURNS[orientation]))
    y, x = np.nonzero(pixels[:, :, 1] == 0)
    return pixels, [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]


def write(path, pixels, orientation):
    jpeg = encode(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 100)
    path.parent.mkdir(parents=True)
    path.write_bytes(insert(jpeg, exif(orientation)) if orientation > 1 else jpeg)


def read_coco(folder, size, box):
    """Return the boxes of the only image, whose stated size is width and height."""
    image = {"id": 1, "file_name": "1.jpg", "width": size[0], "height": size[1]}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box}
    content = {"annotations": [thing], "categories": [{"id": 1, "name": "boat"}], "images": [image]}
    captions = coco({1: "1.jpg"}, [(1, "a boat")])
    files = {"captions_val2017.json": captions, "instances_val2017.json": json.dumps(content)}
    put(folder / "annotations", files)
    return [thing.box for thing in read(folder).splits["val"][0].objects]


@pytest.mark.parametrize("orientation", TURNS)
def test_coco_boxes_of_stored_pixels_are_turned_upright(tmp_path, orientation):
    pixels, box = stored(orientation)
    path = tmp_path / "val2017/1.jpg"
    write(path, pixels, orientation)
    assert read_image(path).shape == UPRIGHT.shape
    boxes = read_coco(tmp_path, pixels.shape[1::-1], box)
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.3]], atol=1e-6)


def test_boxes_whose_stated_size_is_upright_are_kept(tmp_path):
    write(tmp_path / "val2017/1.jpg", stored(6)[0], 6)
    boxes = read_coco(tmp_path, (40, 100), [0, 0, 20, 30])
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.3]], atol=1e-6)


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_of_resized_pictures_are_kept(tmp_path, orientation):
    pixels, box = stored(orientation)
    write(tmp_path / "val2017/1.jpg", cv2.resize(pixels, None, fx=0.33, fy=0.33), orientation)
    boxes = read_coco(tmp_path, pixels.shape[1::-1], box)
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.3]], atol=1e-6)


def test_boxes_of_another_picture_are_left_out_with_its_name(tmp_path, caplog):
    write(tmp_path / "val2017/1.jpg", UPRIGHT, 1)
    with caplog.at_level(logging.WARNING):
        assert read_coco(tmp_path, (100, 100), [0, 0, 20, 30]) == []
    assert "val2017/1.jpg is 40 x 100, not 100 x 100" in caplog.text


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 40), 1), ((70, 70), 0)], ids=["stored", "other"]
)
def test_flickr30k_entities_are_turned_or_left_out(tmp_path, caplog, size, expected):
    pixels, (x, y, width, height) = stored(6)
    write(tmp_path / "images/1.jpg", pixels, 6)
    corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
    sides = "<size><width>{}</width><height>{}</height></size>".format(*size)
    thing = f"<object><name>1</name><bndbox>{corners}</bndbox></object>"
    put(
        tmp_path,
        {
            "captions.csv": "image,caption,split\n1.jpg,A boat,val\n",
            "Sentences/1.txt": "[/EN#1/other A boat]",
            "Annotations/1.xml": f"<annotation>{sides}{thing}</annotation>",
        },
    )
    example = read(tmp_path).splits["val"][0]
    assert len(example.objects) == len(example.phrases) == expected
    for entry in (*example.objects, *example.phrases):
        np.testing.assert_allclose(entry.box, (0, 0, 0.5, 0.3), atol=1e-6)
    assert ("images/1.jpg is 100 x 40, not 70 x 70" in caplog.text) == (not expected)
