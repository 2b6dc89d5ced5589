"""Tests of `read`: your own photographs, Flickr token files, and recognition of formats."""

import gzip
import logging
import pathlib
import re
import unicodedata

import cv2
import pytest
from reader_files import coco, examples_of, karpathy, names, photographs, put, refused

from keras_aoa.data.examples import Example
from keras_aoa.data.readers import read, read_captions

# Your own photographs


def test_own_photographs_with_quotes_splits_and_folders(tmp_path):
    photographs(tmp_path, "a.jpg", "beach/b.jpg", "c.png")
    put(
        tmp_path,
        {
            "captions.csv": "\ufeffimage,caption,split\r\n"
            'a.jpg,"A dog, said to be ""good"".",train\r\n'
            "beach/b.jpg,Ein Hügel,dev\r\n\r\n"
            'a.jpg,"two\r\nlines",train\r\n'
            "c.png,a cat,test\r\n",
        },
    )
    data = read(tmp_path)
    assert data.name == tmp_path.name
    assert names(data) == {"train": ["a.jpg"], "val": ["b.jpg"], "test": ["c.png"]}
    assert data.splits["train"][0] == Example(
        "a.jpg", str(tmp_path / "a.jpg"), ('A dog, said to be "good".', "two lines")
    )
    assert data.splits["val"][0].captions == ("Ein Hügel",)
    assert all(cv2.imread(e.path) is not None for e in examples_of(data).values())
    assert read(tmp_path / "captions.csv") == data


def test_own_photographs_may_be_in_images_or_another_folder(tmp_path):
    rows = "".join(f"{i}.jpg,a dog\n" for i in range(5))
    put(tmp_path, {"captions.csv": "image,caption\n" + rows})
    photographs(tmp_path / "images", *(f"{i}.jpg" for i in range(5)))
    data = read(tmp_path)
    assert len(examples_of(data)) == 5
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    (tmp_path / "images").rename(elsewhere)
    refused(tmp_path, r"5 of its 5 images do not exist: .* and 2 more; looked in .*images")
    moved = read(tmp_path, images=str(elsewhere))
    assert names(moved) == names(data)


@pytest.mark.parametrize("folder", ["Images", "image", "photos", "any/a/b"])
def test_images_are_found_in_subfolders(tmp_path, folder):
    files = [f"{number}.jpg" for number in range(3)]
    # Kaggle's Flickr8k has this file.
    put(tmp_path, {"captions.txt": "image,caption\n" + "".join(f"{f},a dog\n" for f in files)})
    photographs(tmp_path / folder, *files)
    photographs(tmp_path / "more/deeper/than/three/levels", *files)
    found = examples_of(read(tmp_path))
    assert {key: example.path for key, example in found.items()} == {
        file: str(tmp_path / folder / file) for file in files
    }
    assert examples_of(read(tmp_path / "captions.txt")) == found


def test_images_are_found_by_the_end_of_their_paths_in_either_unicode_form(tmp_path):
    rows = ["x/1.jpg,a dog", "y/1.jpg,a cat", unicodedata.normalize("NFC", "ö.jpg,a bird")]
    put(tmp_path, {"captions.csv": "\n".join(["image,caption", *rows])})
    other_form = unicodedata.normalize("NFD", "ö.jpg")
    photographs(tmp_path / "archive", "x/1.jpg", "y/1.jpg", other_form)
    stored = {
        pathlib.Path(e.path).relative_to(tmp_path) for e in examples_of(read(tmp_path)).values()
    }
    assert stored == {pathlib.Path("archive", name) for name in ("x/1.jpg", "y/1.jpg", other_form)}


def test_an_image_in_two_subfolders_is_refused(tmp_path):
    put(tmp_path, {"captions.csv": "image,caption\n1.jpg,a\n2.jpg,b\n3.jpg,c\n"})
    photographs(tmp_path / "large", "1.jpg", "2.jpg", "3.jpg")
    photographs(tmp_path / "small", "2.jpg")
    refused(tmp_path, "expected one 2.jpg, found large/2.jpg, small/2.jpg in .*; name .*--images")
    assert len(examples_of(read(tmp_path, images=str(tmp_path / "large")))) == 3


def test_other_formats_take_precedence_over_captions_txt(tmp_path):
    photographs(tmp_path, *(f"{number}.jpg" for number in range(3)))
    put(
        tmp_path,
        {"captions.txt": "notes\n", "my.token": "".join(f"{i}.jpg#0\ta\n" for i in range(3))},
    )
    assert len(examples_of(read(tmp_path))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header 'image,caption'.* received ''"),
        ("a.jpg,a dog\n", "line 1: expected the header .* received 'a.jpg,a dog'"),
        ("image;caption\na.jpg;a dog\n", "line 1: expected the header .* 'image;caption'"),
        ("image,caption\n\na.jpg\n", "line 3: expected 'image,caption', received 'a.jpg'"),
        ("image,caption\na.jpg,a dog, running\n", "line 2: expected .*quote a caption"),
        ("image,caption\na.jpg,\n", "line 2: expected 'image,caption', received 'a.jpg,'"),
        ("image,caption\na.jpg, \t \n", "line 2: expected"),
        ("image,caption\n,a dog\n", "line 2: expected a path inside .* received ''"),
        ('image,caption\na.jpg,"a dog\n', "line 2: expected comma-separated values"),
        ('image,caption\na.jpg,"a "dog"\n', "line 2: expected comma-separated values"),
        ("image,caption,split\na.jpg,a dog,\n", "line 2: expected a split train.* received ''"),
        ("image,caption,split\na.jpg,a dog,Train\n", "line 2: .* received 'Train'"),
        (
            "image,caption,split\na.jpg,a dog,train\na.jpg,a cat,test\n",
            "line 3: expected a.jpg in one split, received train and test",
        ),
        ("image,caption\n", "expected at least 3 images .* received 0"),
        ("image,caption\na.jpg,a dog\nb.jpg,a cat\n", "at least 3 images .* received 2"),
        ("image,caption,split\n", "expected images with captions, received none"),
        (
            "image,caption,split\na.jpg,a dog,train\nb.jpg,a cat,val\n",
            "1 of its 2 images do not exist: b.jpg; add them to .* or remove their captions",
        ),
    ],
)
def test_error_in_captions_csv_names_file_and_line(tmp_path, text, message):
    photographs(tmp_path, "a.jpg")
    put(tmp_path, {"captions.csv": text})
    refused(tmp_path, "captions.csv.*" + message)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\b.jpg", "..\\b.jpg", "\\\\s\\b\\c"],
)
def test_path_outside_the_data_folder_is_rejected(tmp_path, name):
    message = "expected a path inside the data folder"
    put(tmp_path / "own", {"captions.csv": f"image,caption\n{name},a dog\n"})
    refused(tmp_path / "own", "captions.csv line 2: " + message)
    put(tmp_path / "token", {"my.token": f"{name}#0\ta dog\n"})
    refused(tmp_path / "token", "my.token line 1: " + message)
    put(tmp_path / "karpathy", {"dataset_coco.json": karpathy((name, "train", ["a dog"]))})
    refused(tmp_path / "karpathy", r"dataset_coco.json images\[0\]: " + message)
    put(tmp_path, {"captions_val2017.json": coco({1: name}, [(1, "a dog")])})
    refused(tmp_path, "captions_val2017.json: " + message)


def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path):
    (tmp_path / "captions.csv").write_bytes("image,caption\na.jpg,Hügel\n".encode("latin-1"))
    refused(tmp_path, "captions.csv line 2: expected UTF-8, received byte 0xfc")


# Flickr token files


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


# Recognition of formats


def test_karpathys_file_with_its_images_takes_precedence(tmp_path):
    put(
        tmp_path,
        {
            "dataset_coco.json": karpathy(("1.jpg", "val", ["a"]), filepath="val2014"),
            "dataset_flickr8k.json": "never read",
            "dataset_flickr30k.json": "never read",
            "annotations/captions_val2014.json": coco({1: "1.jpg"}, [(1, "a")]),
        },
    )
    refused(tmp_path / "dataset_coco.json", "1 of its 1 images do not exist: val2014/1.jpg")
    photographs(tmp_path, "val2014/1.jpg")
    assert read(tmp_path).name == "coco"
    assert read(tmp_path / "annotations").name == "coco2014"
    (tmp_path / "val2014").rename(tmp_path / "val2017")
    put(tmp_path, {"annotations/captions_val2017.json": coco({1: "1.jpg"}, [(1, "a")])})
    (tmp_path / "annotations/captions_val2014.json").unlink()
    assert read(tmp_path).name == "coco2017"


def test_unknown_format_reports_the_content_and_the_supported_formats(tmp_path):
    refused(tmp_path, "contains nothing; expected one of: captions.csv")
    photographs(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    refused(
        tmp_path, "contains 1.jpg, 2.jpg, 3.jpg and 1 more; expected one of: captions.csv .*COCO"
    )
    refused(tmp_path / "1.jpg", "1.jpg is not one of: captions.csv")
    refused(tmp_path / "absent", "expected a folder or a caption file, found no file at .*absent")
    refused(tmp_path / "absent/deeper", "found no file at .*deeper")
    put(tmp_path, {"a.token": "", "b.token": ""})
    refused(tmp_path, "more than one data set; name the file: a.token, b.token")
    (tmp_path / "captions.csv").mkdir()
    refused(tmp_path, "captions.csv: expected a file to read, received 'Is a directory'")


def test_folders_are_listed_instead_of_checking_each_file(tmp_path, monkeypatch):
    photographs(tmp_path, "val2017/1.jpg")
    put(tmp_path, {"annotations/captions_val2017.json": coco({1: "1.jpg"}, [(1, "a")])})
    checked = []
    for module, name in ((pathlib.os, "stat"), (pathlib.os.path, "exists")):
        original = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda path, *a, f=original, **k: (checked.append(str(path)), f(path, *a, **k))[1],
        )
    assert read(tmp_path).name == "coco2017"
    assert checked and not [path for path in checked if path.endswith(".jpg")]


# Real photographs and captions


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
