"""Tests of file names: Unicode forms, files that desktops add, and addresses of clouds."""

import unicodedata

import pytest
from reader_files import coco, karpathy, names, photographs, put, refused

from keras_aoa.data.readers import read

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
ROWS = "image,caption,split\n{0}/{0}.png,a cup,train\nb.png,a dog,val\n"


@pytest.mark.parametrize(("listed", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_names_are_found_in_either_unicode_form(tmp_path, listed, stored):
    photographs(tmp_path, f"{stored}/{stored}.png", "b.png", f"train2017/{stored}.png")
    put(tmp_path, {"captions.csv": ROWS.format(listed)})
    example = read(tmp_path).splits["train"][0]
    assert example.image_id == f"{listed}/{listed}.png"
    assert example.path == str(tmp_path / stored / f"{stored}.png")
    for name, text in {
        "x.json": karpathy((f"{listed}/{listed}.png", "val", ["a cup"])),
        "captions_train2017.json": coco({1: f"{listed}.png"}, [(1, "a cup")]),
    }.items():
        put(tmp_path, {name: text})
        (example,) = (e for part in read(tmp_path / name).splits.values() for e in part)
        assert example.path.endswith(f"{stored}.png")


def test_split_lists_and_folders_are_found_in_the_other_form(tmp_path):
    photographs(tmp_path / NFD, f"{NFD}.jpg", "b.jpg")
    put(
        tmp_path / NFD,
        {
            "Flickr8k.token.txt": f"{NFD}.jpg#0\ta cup\nb.jpg#0\ta dog\n",
            "Flickr_8k.trainImages.txt": f"{NFC}.jpg\n",
            "Flickr_8k.devImages.txt": "b.jpg\n",
        },
    )
    data = read(tmp_path / NFC)
    assert names(data) == {"train": [f"{NFD}.jpg"], "val": ["b.jpg"]}
    assert read(tmp_path / NFC, images=str(tmp_path / NFC)) == data


def test_companions_of_a_caption_file_are_not_a_second_data_set(tmp_path):
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    rows = "".join(f"{name}.jpg#0\ta dog\n" for name in "abc")
    put(tmp_path, {"my.token": rows, "._my.token": "\0\5\26\7", ".DS_Store": "", "Thumbs.db": ""})
    assert sum(map(len, read(tmp_path).splits.values())) == 3
    (tmp_path / "my.token").unlink()
    refused(tmp_path, "contains a.jpg, b.jpg, c.jpg; expected one of")


@pytest.mark.parametrize("url", ["gs://bucket/d", "s3://bucket/captions.csv", "https://host/d/"])
def test_urls_are_refused(tmp_path, url):
    refused(url, f"^{url}: expected a path on this machine, received a URL")
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    put(tmp_path, {"my.token": "a.jpg#0\ta dog\n"})
    refused(tmp_path, f"^{url}: expected a path on this machine", images=url)
