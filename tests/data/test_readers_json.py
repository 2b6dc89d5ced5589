"""Tests of the readers of COCO's captions and objects, and of Karpathy's splits."""

import json

import numpy as np
import pytest
from reader_files import coco, examples_of, instances, karpathy, names, photographs, put, refused

from keras_aoa.data.examples import Example, NamedObject
from keras_aoa.data.readers import read, read_karpathy, read_objects
from keras_aoa.data.text.coco_synonyms import nouns_of
from keras_aoa.utils.errors import UserError

# COCO


@pytest.mark.parametrize("images", ["", "images/"])
def test_coco_is_read_with_splits_captions_and_objects(tmp_path, capsys, images):
    photographs(tmp_path, f"{images}train2017/9.jpg", f"{images}train2017/7.jpg")
    photographs(tmp_path, f"{images}val2017/8.jpg")
    put(
        tmp_path,
        {
            "annotations/captions_train2017.json": coco(
                {9: "9.jpg", 7: "7.jpg"}, [(7, "b\n"), (9, "a"), (7, "c"), (7, " \n")]
            ),
            "annotations/captions_val2017.json": coco({8: "8.jpg"}, [(8, "d")]),
            "annotations/instances_train2017.json": instances(
                (7, 1, [20, 10, 100, 50], 0), (7, 2, [150, 0, 100, 20], 0)
            ),
        },
    )
    data = read(tmp_path)
    assert data.name == "coco2017"
    assert names(data) == {"train": ["9.jpg", "7.jpg"], "val": ["8.jpg"]}
    table = NamedObject(nouns_of("dining table"), frozenset(), (0.1, 0.1, 0.6, 0.6))
    sausage = NamedObject(nouns_of("hot dog"), frozenset(), (0.75, 0.0, 1.0, 0.2))
    path = str(tmp_path / images / "train2017/7.jpg")
    assert data.splits["train"][1] == Example(7, path, ("b", "c"), objects=(table, sausage))
    assert read(tmp_path / "annotations") == data
    assert read(tmp_path / "annotations/captions_val2017.json") == data
    assert not any(
        example.objects for example in examples_of(read(tmp_path, objects=False)).values()
    )
    assert capsys.readouterr().out == ""


def test_boxes_of_crowds_and_boxes_without_area_or_outside_are_left_out(tmp_path):
    put(
        tmp_path,
        {
            "i.json": instances(
                (7, 1, [0, 0, 50, 50], 1),
                (7, 1, [10, 10, 0, 20], 0),
                (7, 1, [300, 10, 10, 20], 0),
                (9, 1, [-20, 50, 60, 25], 0),
            ),
        },
    )
    objects = read_objects(tmp_path / "i.json")
    assert {key: [thing.box for thing in things] for key, things in objects.items()} == {
        9: [(0.0, 0.5, 0.2, 0.75)]
    }


def test_two_years_of_coco_require_a_choice(tmp_path):
    for year in ("2014", "2017"):
        photographs(tmp_path, f"val{year}/1.jpg")
        text = coco({1: "1.jpg"}, [(1, "a")])
        put(tmp_path, {f"annotations/captions_val{year}.json": text})
    refused(tmp_path, "more than one data set; name the file: annotations/captions_val2014.json")
    assert read(tmp_path / "annotations/captions_val2014.json").name == "coco2014"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", r"expected an object with a list 'images', received \[\]"),
        ('{"images": {}, "annotations": []}', r"list 'images', received \['annotations', 'images"),
        ('{"images": []}', "expected an object with a list 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\]: expected id, file_name"),
        ('{"images": [], "annotations": [7]}', r"annotations\[0\]: expected .* received 7"),
        (coco({1: "1.jpg"}, [(1, "a"), (2, "b")]), "received 1 unlisted image ids: 2"),
        (coco({1: "1.jpg", 2: "2.jpg"}, [(1, "a")]), "at least one caption for val2017/2.jpg"),
        (coco({1: "1.jpg"}, [(1, " ")]), "at least one caption for val2017/1.jpg"),
        (
            coco({1: "1.jpg"}, [(1, "a")]).replace("1.jpg", "\\u0000/1.jpg"),
            "1 of its 1 images do not",
        ),
        (coco({}, []), "expected images with captions, received none"),
        (
            '{"images": [{"id": 1, "file_name": "1.jpg"}, {"id": 1, "file_name": "2.jpg"}],'
            ' "annotations": []}',
            "expected each image id once, received 1 again",
        ),
    ],
)
def test_coco_file_of_another_structure_is_a_one_line_error(tmp_path, text, message):
    put(tmp_path, {"annotations/captions_val2017.json": text})
    refused(tmp_path, message)


@pytest.mark.parametrize(
    "text",
    [
        instances((7, 3, [0, 0, 1, 1], 0)),
        instances((8, 1, [0, 0, 1, 1], 0)),
        instances((7, 1, [0, 0, 1], 0)),
        instances((7, 1, [0, 0, "1", 1], 0)),
        instances((7, 1, [0, 0, 1, 1], 0)).replace('"width": 200', '"width": 0'),
    ],
)
def test_object_of_unknown_image_or_category_is_a_one_line_error(tmp_path, text):
    put(tmp_path, {"i.json": text})
    with pytest.raises(UserError, match=r"i.json: expected a listed image, a listed category and"):
        read_objects(tmp_path / "i.json")


@pytest.mark.parametrize("name", ["", " \t"])
def test_category_without_a_name_is_a_one_line_error(tmp_path, name):
    content = json.loads(instances((7, 1, [0, 0, 50, 50], 0)))
    content["categories"][0]["name"] = name
    put(tmp_path, {"i.json": json.dumps(content)})
    with pytest.raises(UserError, match=r"i.json: expected a name for the category with id 1,"):
        read_objects(tmp_path / "i.json")


# Karpathy's splits


def test_karpathy_json_is_read_and_restval_joins_train(tmp_path):
    entries = [("1.jpg", "train"), ("2.jpg", "restval"), ("3.jpg", "val"), ("4.jpg", "test")]
    photographs(tmp_path / "images/val2014", *(name for name, _ in entries))
    document = json.loads(karpathy(*((n, s, ["a ", "b"]) for n, s in entries)))
    for number, image in enumerate(document["images"]):
        image |= {"filepath": "val2014", "cocoid": 100 + number}
    put(tmp_path, {"dataset_coco.json": json.dumps(document)})
    data = read(tmp_path)
    assert data.name == "coco"
    assert names(data) == {"train": ["1.jpg", "2.jpg"], "val": ["3.jpg"], "test": ["4.jpg"]}
    assert data.splits["test"][0] == Example(
        103, str(tmp_path / "images/val2014/4.jpg"), ("a", "b")
    )
    assert names(read(tmp_path, restval=False))["train"] == ["1.jpg"]


def test_karpathy_flickr_ids_are_file_names(tmp_path):
    photographs(tmp_path / "flickr30k-images", "1.jpg")
    text = karpathy(("1.jpg", "test", ["a"])).replace('"coco"', '"flickr30k"')
    put(tmp_path, {"dataset_flickr30k.json": text, "results_20130124.token": "never read"})
    assert read(tmp_path).splits["test"][0].image_id == "1.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (karpathy(("1.jpg", "dev", ["a"])), "expected a split train, restval, val, test"),
        (karpathy(("1.jpg", "val", [])), "at least one caption for 1.jpg"),
        (karpathy(("1.jpg", "val", ["a"]), sentences=["a"]), r"sentences\[0\]: expected raw"),
        (karpathy(("1.jpg", "val", ["a"]), cocoid=[1]), "whole number 'cocoid'"),
        (karpathy(("1.jpg", "val", ["a"]), filepath=1), "a text 'filepath'"),
        (karpathy(("1.jpg", "val", ["a"]), ("1.jpg", "val", ["a"])), "received 1.jpg again"),
        (karpathy(("1.jpg", "val", ["a"]), ("2.jpg", "val", ["a"]), cocoid=5), "received 5 again"),
        ('{"images": [{"filename": 1}]}', "expected filename, split, sentences"),
    ],
)
def test_karpathy_json_of_another_structure_is_a_one_line_error(tmp_path, text, message):
    put(tmp_path, {"dataset_coco.json": text})
    refused(tmp_path, r"dataset_coco.json images\[\d\].*" + message)


def test_real_coco_sample(shared):
    data = read(shared / "data/coco")
    assert data.name == "coco2017"
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 60, "val": 60}
    everything = examples_of(data).values()
    assert all(len(example.captions) >= 5 for example in everything)
    boxes = np.array([thing.box for example in everything for thing in example.objects])
    assert len(boxes) > 900 and boxes.min() >= 0 and boxes.max() <= 1
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_karpathy_reader_accepts_a_folder_of_images(shared, tmp_path):
    name = min(path.name for path in (shared / "data/flickr8k/images").glob("*.jpg"))
    put(tmp_path, {"dataset_flickr8k.json": karpathy((name, "val", ["a"]))})
    images = str(shared / "data/flickr8k/images")
    data = read_karpathy(tmp_path / "dataset_flickr8k.json", images=images)
    assert names(data) == {"val": [name]}


def test_whole_numbers_written_as_floats_are_ids(tmp_path):
    photographs(tmp_path / "train2017", "7.jpg")
    captions = coco({7: "7.jpg"}, [(7, "a dog")])
    boxes = instances((7, 1, [0, 0, 20, 20], 0))
    for old, new in (('"id": 7', '"id": 7.0'), ('"image_id": 7', '"image_id": 7.0')):
        captions, boxes = captions.replace(old, new), boxes.replace(old, new)
    boxes = boxes.replace('"category_id": 1', '"category_id": 1.0')
    put(tmp_path, {"captions_train2017.json": captions, "instances_train2017.json": boxes})
    (example,) = read(tmp_path).splits["train"]
    assert example.image_id == 7 and type(example.image_id) is int
    assert example.captions == ("a dog",) and len(example.objects) == 1


@pytest.mark.parametrize("number", [None, "x", 1.5, 0])
def test_ids_of_captions_do_not_matter(tmp_path, number):
    photographs(tmp_path / "train2017", "7.jpg", "9.jpg")
    texts = [{"id": number, "image_id": image, "caption": "a dog"} for image in (7, 9, 7)]
    if number is None:
        texts = [{key: text[key] for key in ("image_id", "caption")} for text in texts]
    put(
        tmp_path, {"captions_train2017.json": coco({7: "7.jpg", 9: "9.jpg"}, [], annotations=texts)}
    )
    assert [len(example.captions) for example in read(tmp_path).splits["train"]] == [2, 1]


@pytest.mark.parametrize(
    ("image_id", "message"),
    [
        (
            True,
            r"annotations\[0\]: .*'image_id' is a whole number or .* True \(bool\)",
        ),
        (7.5, r"'image_id' is a whole number or a text, received 7.5 \(float\)"),
        ("7", "unlisted image ids: '7'; write ids as numbers in both lists or as text in both"),
    ],
)
def test_ids_of_another_type_are_named(tmp_path, image_id, message):
    texts = [{"id": 1, "image_id": image_id, "caption": "a dog"}]
    put(tmp_path, {"captions_train2017.json": coco({7: "7.jpg"}, [], annotations=texts)})
    refused(tmp_path, message)
