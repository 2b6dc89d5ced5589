"""Readers, vocabulary and tokenizer handle any text, or raise an error of one line."""

import gzip
import json
import os
import pathlib
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reader_files import put

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.readers import files, read
from keras_aoa.data.text.tokenizer import has_spaceless_script, tokenize
from keras_aoa.data.text.vocabulary import OOV, STOP, Vocabulary
from keras_aoa.utils.errors import UserError

EVERY_LETTER = st.characters(exclude_categories=())  # including UTF-16 surrogates
ANY_TEXT = st.text(EVERY_LETTER, max_size=40)
ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.sampled_from(["a.jpg", "b.jpg", "c/d.jpg", "e.jpg"])
ODD_NAMES = st.sampled_from(
    ["", ".", "..", "../a.jpg", "/etc/passwd", "c/../a.jpg", "c\\..\\a.jpg", "a.jpg\0", "c", "~"]
)
SPLITS = st.sampled_from(["train", "val", "test", "restval", "dev", "other"])
# Mostly valid values, so that the code after the first check also runs.
name = st.one_of(NAMES, NAMES, NAMES, ODD_NAMES, ANY_TEXT)
caption = st.one_of(st.just("a dog"), st.just("a dog"), ANY_TEXT)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.just(10**400), NAMES
)
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
check_often = settings(max_examples=40, deadline=None)


def is_one_line(text):
    return len(text.splitlines()) == 1 and text.encode(errors="backslashreplace")


def check_read(contents):
    """Read a folder of these files; assert valid examples or an error of one line."""
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "data"
        images = ("a.jpg", "b.jpg", "c/d.jpg", "e.jpg", "train2014/a.jpg", "images/a.jpg")
        put(folder, dict.fromkeys((*images, "../a.jpg"), ""))
        for file, content in contents.items():
            (folder / file).parent.mkdir(exist_ok=True)
            content = content if isinstance(content, bytes) else content.encode("utf-8")
            (folder / file).write_bytes(content)
        message, data = None, CaptionData("none")
        try:
            data = read(folder)
        except UserError as error:
            message = str(error)
        assert message is None or is_one_line(message)
        for example in (each for part in data.splits.values() for each in part):
            relative = os.path.relpath(os.path.realpath(example.path), os.path.realpath(folder))
            assert os.path.isfile(example.path) and not relative.startswith("..")
            assert example.captions
            for text in example.captions:
                assert text.strip() and is_one_line(text) and text.encode("utf-8")
            for annotation in example.objects:
                assert all(0 <= corner <= 1 for corner in annotation.box)


def as_json(value):
    # Python's json also writes surrogates, NaN and infinity.
    return json.dumps(value)


# --- readers --------------------------------------------------------------------------------------

FILES = (
    "captions.csv",
    "my.token",
    "my.token.gz",
    "dataset_flickr8k.json",
    "captions_train2014.json",
)


@pytest.mark.parametrize("file", FILES)
@settings(max_examples=30, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), ENCODABLE))
@example(content=b"[" * 100_000)
@example(content=b'{"images": ' + b"9" * 5000 + b"}")
@example(content=b"\xff\xfe\0\0")
@example(content=b"")
def test_a_file_of_any_bytes_is_read_or_refused_in_one_line(file, content):
    check_read({file: content})


def test_a_gzip_file_that_unpacks_to_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", 100_000)
    put(tmp_path, dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), ""))
    lines = "".join(f"{name}.jpg#0\ta dog\n" for name in "abc")
    (tmp_path / "my.token.gz").write_bytes(gzip.compress(lines.encode()))
    assert len(read(tmp_path).splits) == 3
    (tmp_path / "my.token.gz").write_bytes(gzip.compress(lines.encode() + bytes(100_000)))
    with pytest.raises(UserError, match=r"my.token.gz: .* .more than 100000 bytes when unpacked"):
        read(tmp_path)


@check_often
@given(
    st.lists(st.tuples(name, caption, SPLITS), min_size=1, max_size=6),
    st.sampled_from(["image,caption", "image,caption,split"]),
    st.booleans(),
)
def test_any_captions_csv_is_read_or_refused_in_one_line(rows, header, quoted):
    def cell(text):
        text = text.encode(errors="replace").decode()
        return '"' + text.replace('"', '""') + '"' if quoted else text

    columns = header.count(",") + 1
    lines = [",".join(map(cell, row[:columns])) for row in rows]
    check_read({"captions.csv": "\n".join([header, *lines])})


@check_often
@given(
    st.lists(st.tuples(name, st.integers(0, 9), caption), min_size=1, max_size=6),
    st.lists(name, max_size=4),
)
def test_any_token_file_is_read_or_refused_in_one_line(rows, train):
    lines = "\n".join(f"{image}#{number}\t{text}" for image, number, text in rows)
    content = lines.encode(errors="replace")
    check_read({"my.token": content})
    lists = "\n".join(train).encode(errors="replace")
    check_read({"Flickr8k.token.txt": content, "Flickr_8k.trainImages.txt": lists})


sentence = st.one_of(
    st.fixed_dictionaries({"raw": caption}), st.fixed_dictionaries({"raw": caption}), ANYTHING
)
karpathy_image = st.one_of(
    st.fixed_dictionaries(
        {"filename": name, "split": SPLITS, "sentences": st.lists(sentence, max_size=2)},
        optional={"cocoid": st.one_of(st.integers(0, 3), ANYTHING), "filepath": ANYTHING},
    ),
    ANYTHING,
)


@check_often
@given(st.lists(karpathy_image, max_size=4) | ANYTHING, ANYTHING)
@example([{"filename": "a.jpg", "split": "val", "sentences": [{"raw": "half \ud800"}]}], "flickr8k")
@example([{"filename": "\n\ud800", "split": "val", "sentences": []}], "flickr8k")
def test_any_json_like_karpathys_is_read_or_refused_in_one_line(images, dataset):
    check_read({"dataset_flickr8k.json": as_json({"images": images, "dataset": dataset})})


small_id = st.one_of(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), PLAIN)
side = st.one_of(st.just(100), st.just(100), st.integers(-3, 3), PLAIN)
box = st.one_of(st.just([10, 10, 30, 40]), st.lists(PLAIN, min_size=4, max_size=4), ANYTHING)
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}
CAPTION = {"id": 1, "image_id": 1, "caption": "a dog"}
OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 40]}
CATEGORY = {"id": 1, "name": "dog"}
coco_images = st.lists(
    st.fixed_dictionaries({"id": small_id, "file_name": name, "width": side, "height": side}),
    max_size=3,
)


@check_often
@given(
    coco_images,
    st.lists(
        st.fixed_dictionaries({"id": small_id, "image_id": small_id, "caption": caption}),
        max_size=4,
    ),
    st.lists(
        st.fixed_dictionaries(
            {"id": small_id, "image_id": small_id, "category_id": small_id, "bbox": box}
        ),
        max_size=3,
    ),
    st.lists(st.fixed_dictionaries({"id": small_id, "name": caption}), max_size=2),
)
@example([IMAGE], [CAPTION], [{**OBJECT, "bbox": [0, 0, 10**400, 10]}], [CATEGORY])
@example([IMAGE], [CAPTION], [{**OBJECT, "bbox": [0, 0, float("nan"), 10]}], [CATEGORY])
@example([IMAGE, {**IMAGE, "id": 2, "file_name": "x\ny"}], [CAPTION], [], [CATEGORY])
@example([IMAGE], [CAPTION], [OBJECT], [{**CATEGORY, "name": " "}])
def test_any_json_like_cocos_is_read_or_refused_in_one_line(images, captions, objects, categories):
    check_read(
        {
            "annotations/captions_train2014.json": as_json(
                {"images": images, "annotations": captions}
            ),
            "annotations/instances_train2014.json": as_json(
                {"images": images, "annotations": objects, "categories": categories}
            ),
        }
    )


@check_often
@given(
    st.one_of(ENCODABLE, st.just("[/EN#1/people A dog]"), st.just("[/EN#1/people ]/EN#2/x A] dog")),
    st.one_of(
        st.binary(max_size=80),
        st.tuples(*[st.one_of(st.just("10"), st.floats().map(str), ENCODABLE)] * 6).map(
            lambda texts: (
                "<annotation><size><width>{}</width><height>{}</height></size><object>"
                "<name>1</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
                "<ymax>{}</ymax></bndbox></object></annotation>"
            ).format(*texts)
        ),
    ),
)
def test_any_entities_files_are_read_or_refused_in_one_line(text, boxes):
    check_read(
        {
            "captions.csv": "image,caption,split\na.jpg,a dog,train\n",
            "Sentences/a.txt": text,
            "Annotations/a.xml": boxes,
        }
    )


def test_xml_entities_that_grow_exponentially_or_read_files_are_not_expanded():
    names = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "dog">{names}]><a>&e11;</a>'
    outside = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'
    for boxes in (bomb, outside):
        check_read(
            {
                "captions.csv": "image,caption,split\na.jpg,a dog,train\n",
                "Sentences/a.txt": "[/EN#1/people A dog]",
                "Annotations/a.xml": boxes,
            }
        )


# --- words ----------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.text(EVERY_LETTER, max_size=60))
@example("\ud800 \x00 \x1b[31m a\x85b \u2028 \x7f")
def test_tokens_of_any_text_are_valid_utf_8_without_control_characters(text):
    for token in tokenize(text):
        assert token.encode("utf-8")
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in token)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(EVERY_LETTER, max_size=40), max_size=4), st.integers(1, 12))
@example(["\ud800 a dog"], 5)
@example(["\u3400\u3400"], 2)
def test_encoding_and_decoding_of_any_captions_is_stable(captions, max_words):
    vocabulary = Vocabulary.from_captions(captions, 1)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(os.path.join(folder, "vocabulary.json"))
        loaded = Vocabulary.load(os.path.join(folder, "vocabulary.json"))
    assert loaded.words == vocabulary.words and loaded.digest == vocabulary.digest
    for text in captions:
        ids = vocabulary.encode(text, max_words)
        assert ids == loaded.encode(text, max_words)
        decoded = vocabulary.decode(ids)
        # Words of scripts without spaces are joined, and the tokenizer separates them again.
        words = [
            word
            for part in decoded.split()
            for word in (tokenize(part) if has_spaceless_script(part) else [part])
        ]
        again = vocabulary.encode_words(words, max_words)
        # A truncated caption has no STOP, but its decoded words are few enough to get one.
        assert again[:-1] == (ids[:-1] if ids[-1] == STOP else ids)
        assert vocabulary.decode(again) == decoded
        assert OOV not in ids or "<" in text


@check_often
@given(st.one_of(ANYTHING, st.lists(ANY_TEXT).map(lambda words: {"format": 1, "words": words})))
@example({"format": 1, "words": ["<pad>", "<start>", "<stop>", "<unk>", "\ud800"]})
@example({"format": 1, "words": ["<pad>", "<start>", "<stop>", "<unk>", ["dog"]]})
def test_an_invalid_vocabulary_file_is_refused_in_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "vocabulary.json"
        for text in (as_json(content), "[" * 100_000):
            put(path.parent, {path.name: text})
            with pytest.raises(UserError) as refusal:
                Vocabulary.load(path)
            assert is_one_line(str(refusal.value))
