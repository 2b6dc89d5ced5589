"""Tests of `read`: Flickr's token files and split lists, and the real data sets."""

import gzip
import logging
import pathlib
import re

import cv2
import pytest
from reader_files import examples_of, names, photographs, put, refused

from keras_aoa.data.examples import Example
from keras_aoa.data.readers import read, read_captions


def flickr8k(folder: pathlib.Path) -> None:
    photographs(folder / "Flicker8k_Dataset", *(f"{i}.jpg" for i in range(4)))
    lines = [f"{i}.jpg#{k}\tCaption  {k} of #{i} . \n" for i in range(5) for k in range(2)]
    put(
        folder,
        {
            "Flickr8k.token.txt": "".join(lines),
            "Flickr8k.lemma.token.txt": "nonsense",
            "Flickr_8k.trainImages.txt": "2.jpg\n0.jpg\n",
            "Flickr_8k.devImages.txt": "1.jpg\n",
        },
    )


def test_flickr8k_uses_its_split_lists(tmp_path):
    flickr8k(tmp_path)
    data = read(tmp_path)
    assert data.name == "flickr8k"
    assert names(data) == {"train": ["2.jpg", "0.jpg"], "val": ["1.jpg"]}
    assert data.splits["val"][0] == Example(
        "1.jpg",
        str(tmp_path / "Flicker8k_Dataset" / "1.jpg"),
        ("Caption 0 of #1 .", "Caption 1 of #1 ."),
    )


def test_flickr30k_without_lists_is_split_by_name(tmp_path, caplog):
    photographs(tmp_path / "flickr30k-images", *(f"{i}.jpg" for i in range(6)))
    text = "".join(f"{i}.jpg#0\ta dog\n" for i in range(6))
    with gzip.open(tmp_path / "results_20130124.token.gz", "wt") as file:
        file.write(text)
    with caplog.at_level(logging.INFO):
        data = read(tmp_path)
    assert data.name == "flickr30k"
    assert set(data.splits) == {"train", "val", "test"}
    assert "has no splits; split by name with seed 0: " in caplog.text
    assert read(tmp_path / "results_20130124.token.gz") == data


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2.jpg a dog", "line 2: expected 'image.jpg#0<TAB>caption', received '2.jpg a dog'"),
        ("2.jpg\ta dog", "line 2: expected 'image.jpg#0<TAB>caption'"),
        ("2.jpg#x\ta dog", "line 2: expected"),
        ("2.jpg#0\t  ", "line 2: expected"),
        ("1.jpg#0\ta cat", "line 2: expected .*different numbers, received '1.jpg#0' again"),
    ],
)
def test_invalid_line_of_a_token_file_is_reported(tmp_path, line, message):
    put(tmp_path, {"my.token": f"1.jpg#0\ta dog\n{line}\n"})
    refused(tmp_path, "my.token " + message)


def test_damaged_gzip_is_a_one_line_error(tmp_path):
    whole = gzip.compress(b"1.jpg#0\ta dog\n" * 99)
    for data in (whole[:20], b"text", whole[:-9] + b"123456789"):
        (tmp_path / "my.token.gz").write_bytes(data)
        refused(tmp_path, "my.token.gz: expected a file to read")


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("1.jpg\n7.jpg\n", "1 of its 2 images have no captions: 7.jpg; add captions"),
        ("1.jpg\n0.jpg\n", r"'0.jpg' again \(also in Flickr_8k.trainImages.txt\)"),
        ("1.jpg\n1.jpg\n", "expected each image once, received '1.jpg' again"),
    ],
)
def test_error_in_a_split_list_names_the_file(tmp_path, dev, message):
    flickr8k(tmp_path)
    put(tmp_path, {"Flickr_8k.devImages.txt": dev})
    refused(tmp_path, "Flickr_8k.devImages.txt: .*" + message)


def test_own_token_file_requires_every_image(tmp_path):
    flickr8k(tmp_path)
    (tmp_path / "Flickr8k.token.txt").rename(tmp_path / "mine.token.txt")
    put(tmp_path, {"Flickr_8k.testImages.txt": "4.jpg\n3.jpg"})
    (tmp_path / "Flicker8k_Dataset").rename(tmp_path / "images")
    refused(tmp_path, "mine.token.txt: 1 of its 5 images do not exist: 4.jpg; add them to")


def test_image_name_may_contain_a_hash_sign(tmp_path):
    put(tmp_path, {"my.token": "dog#1.jpg#0\ta dog\n"})
    assert read_captions(tmp_path / "my.token") == {"dog#1.jpg": ["a dog"]}


def test_folder_with_the_name_of_an_image_is_not_an_image(tmp_path):
    (tmp_path / "1.jpg").mkdir()
    put(tmp_path, {"captions.csv": "image,caption,split\n1.jpg,a dog,train\n"})
    refused(tmp_path, "captions.csv: 1 of its 1 images do not exist: 1.jpg")


def test_incomplete_public_data_set_is_read_with_a_warning(tmp_path, caplog):
    flickr8k(tmp_path)
    put(tmp_path, {"Flickr_8k.testImages.txt": "4.jpg\n"})
    data = read(tmp_path)
    assert set(data.splits) == {"train", "val"}
    assert "1 of its 4 images do not exist: 4.jpg; the missing images are left out" in caplog.text


def test_real_flickr8k_with_boxes_of_entities(shared, caplog):
    data = read(shared / "data/flickr8k")
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 6000, "val": 1000}
    assert all(len(example.captions) == 5 for example in examples_of(data).values())
    assert cv2.imread(data.splits["val"][0].path) is not None
    # Every entity without a box has a flag, and about 3 % of the captions differ by a word.
    assert re.findall(r"(\d+) (captions|phrases|images)", caplog.text) == [("1040", "captions")]
    assert sum(bool(example.objects) for example in data.splits["val"]) == 998
    assert sum(len(example.phrases) for example in data.splits["val"]) == 18_039


def test_real_flickr30k_captions(shared):
    captions = read_captions(shared / "data/flickr30k/results_20130124.token.gz")
    assert len(captions) == 29_000 and {len(texts) for texts in captions.values()} == {5}
