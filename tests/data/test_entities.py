"""Tests of the reader of Flickr30k Entities."""

import logging
import re

import pytest
from reader_files import examples_of, karpathy, photographs, put

from keras_aoa.data.examples import NamedObject, Phrase
from keras_aoa.data.readers import read
from keras_aoa.data.readers.entities import Mark, read_boxes, read_sentence
from keras_aoa.data.text.mentions import Mention, annotated_mentions
from keras_aoa.utils.errors import UserError

SENTENCES = (
    "[/EN#1/people A man] throws [/EN#2/other two red balls] to [/EN#0/notvisual himself] .\n"
    "[/EN#1/people/clothing The thrower] stands in [/EN#3/scene a park] .\n"
)
CAPTIONS = ["A man throws two red balls to himself .", "The thrower stands in a park ."]


def thing(names, box=None, flag=""):
    if box:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        content = f"<bndbox>{inner}</bndbox>"
    else:
        content = "".join(f"<{name}>{int(name == flag)}</{name}>" for name in ("scene", "nobndbox"))
    listed = "".join(f"<name>{name}</name>" for name in names.split())
    return f"<object>{listed}{content}</object>"


def annotations(*things, size=(200, 100)):
    width, height = size
    return (
        f"<annotation><filename>5.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{''.join(things)}</annotation>"
    )


WHOLE = annotations(
    thing("1", (20, 10, 60, 90)),
    thing("2", (100, 10, 110, 20)),
    thing("2 9", (120, 10, 130, 20)),
    thing("3", flag="scene"),
)
MAN, BALL, OTHER = (0.1, 0.1, 0.3, 0.9), (0.5, 0.1, 0.55, 0.2), (0.6, 0.1, 0.65, 0.2)


def flickr30k(folder, files):
    photographs(folder, "5.jpg", "6.jpg")
    texts = {
        "dataset_flickr30k.json": karpathy(("5.jpg", "test", CAPTIONS), ("6.jpg", "test", ["x"]))
    }
    put(folder, texts | {"Sentences/6.txt": "x", "Annotations/6.xml": annotations()} | files)
    return examples_of(read(folder))["5.jpg"]


def test_flickr8k_images_have_the_entity_files_of_their_flickr30k_number(tmp_path, caplog):
    photographs(tmp_path, "5_693b08cb0e.jpg")
    token = "".join(f"5_693b08cb0e.jpg#{n}\t{c}\n" for n, c in enumerate(reversed(CAPTIONS)))
    entities = {"Sentences/5.txt": SENTENCES, "Annotations/5.xml": WHOLE}
    lists = {"Flickr_8k.trainImages.txt": "5_693b08cb0e.jpg\n"}
    put(tmp_path, {"Flickr8k.token.txt": token} | lists | entities)
    (example,) = read(tmp_path).splits["train"]
    assert example.phrases[0] == Phrase(0, 0, 2, MAN)
    assert [phrase.caption for phrase in example.phrases] == [0, 1, 1, 1]
    assert not caplog.text


def test_phrases_and_objects_of_an_image(tmp_path, caplog):
    example = flickr30k(tmp_path, {"Sentences/5.txt": SENTENCES, "Annotations/5.xml": WHOLE})
    assert example.captions == tuple(CAPTIONS)
    assert example.phrases == (
        Phrase(0, 0, 2, MAN),
        Phrase(0, 3, 6, BALL),
        Phrase(0, 3, 6, OTHER),
        Phrase(1, 0, 2, MAN),
    )
    assert example.objects == (
        NamedObject(frozenset({"man", "thrower"}), frozenset(), MAN),
        NamedObject(frozenset({"balls"}), frozenset(), BALL),
        NamedObject(frozenset({"balls"}), frozenset(), OTHER),
    )
    assert annotated_mentions(example, 0) == [
        Mention(1, (MAN,), 2),
        Mention(5, (BALL, OTHER), 3),
    ]
    assert annotated_mentions(example, 1) == [Mention(1, (MAN,), 2)]
    assert not caplog.records
    assert not examples_of(read(tmp_path, objects=False))["5.jpg"].phrases


def test_entities_beside_a_token_file_are_read(tmp_path):
    photographs(tmp_path / "flickr30k-images", *(f"{i}.jpg" for i in range(3)))
    files = {"results_20130124.token": "".join(f"{i}.jpg#0\tA man runs .\n" for i in range(3))}
    for i in range(3):
        files |= {
            f"Sentences/{i}.txt": "[/EN#1/people A man] runs .\n",
            f"Annotations/{i}.xml": annotations(thing("1", (20, 10, 60, 90))),
        }
    put(tmp_path, files)
    assert all(
        example.phrases == (Phrase(0, 0, 2, MAN),)
        for example in examples_of(read(tmp_path)).values()
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Sentences/5.txt": SENTENCES}, "1 images have no entity file .*: 5.xml"),
        ({"Annotations/5.xml": WHOLE}, "1 images have no entity file .*: 5.txt"),
        (
            {"Sentences/5.txt": SENTENCES, "Annotations/5.xml": WHOLE[:-20]},
            "1 images have a damaged entity file .*: 5.xml: .* line 1",
        ),
        (
            {"Sentences/5.txt": SENTENCES, "Annotations/5.xml": annotations(size=(0, 100))},
            "damaged entity file .*: 5.xml: .* a size of 0 x 100",
        ),
        (
            {"Sentences/5.txt": SENTENCES, "Annotations/5.xml": WHOLE.replace("60<", "?<")},
            "damaged entity file .*: 5.xml: .* bndbox/xmax",
        ),
    ],
)
def test_image_with_unusable_entity_files_has_no_boxes_and_is_counted(
    tmp_path, caplog, files, message
):
    put(tmp_path, {"Sentences/7.txt": "", "Annotations/7.xml": ""})
    example = flickr30k(tmp_path, files)
    assert example.captions == tuple(CAPTIONS)
    assert example.phrases == example.objects == ()
    (logged,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in logged
    assert re.search(message, logged)


def test_unmatched_phrases_and_captions_are_counted_and_the_rest_is_kept(tmp_path, caplog):
    missing = annotations(thing("2", (100, 10, 110, 20)), thing("3", flag="nobndbox"))
    changed = SENTENCES.replace("stands", "stood")
    with caplog.at_level(logging.WARNING):
        example = flickr30k(tmp_path, {"Sentences/5.txt": changed, "Annotations/5.xml": missing})
    assert example.phrases == (Phrase(0, 3, 6, BALL),)
    messages = [record.getMessage() for record in caplog.records]
    assert any("1 phrases name an entity without a box: 5 #1 'man'." in text for text in messages)
    assert any(
        "1 captions match no sentence of their image: 5 'The thrower" in text for text in messages
    )
    assert len(messages) == 2


def test_read_sentence_returns_words_and_marks():
    words, marks = read_sentence(
        "[/EN#7/people A boy 's dog] , [/EN#8/other wet] , runs ( away ) ."
    )
    assert words == ("a", "boy", "'s", "dog", "wet", "runs", "-lrb-", "away", "-rrb-")
    assert marks == (Mark("7", 0, 4), Mark("8", 4, 5))
    assert read_sentence("") == ((), ())


def test_boxes_are_clipped_and_boxes_without_area_are_left_out(tmp_path):
    put(
        tmp_path,
        {
            "a.xml": annotations(
                thing("1", (-10, 50, 300, 100)),
                thing("2", (5, 5, 5, 9)),
                thing("4", flag="nobndbox"),
            )
        },
    )
    assert read_boxes(tmp_path / "a.xml") == {"1": ((0.0, 0.5, 1.0, 1.0),), "4": ()}
    with pytest.raises(UserError, match="No such file"):
        read_boxes(tmp_path / "b.xml")
