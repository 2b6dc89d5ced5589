"""Tests of `read`: your own photographs, and recognition of formats."""

import pathlib
import unicodedata

import cv2
import pytest
from reader_files import coco, examples_of, karpathy, names, photographs, put, refused

from keras_aoa.data.examples import Example
from keras_aoa.data.readers import read

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
