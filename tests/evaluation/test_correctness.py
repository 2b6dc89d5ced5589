"""Attention correctness of a run: alignment of words and attention, the command, errors."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tiny
from reader_files import karpathy, put

from keras_aoa import evaluate as command
from keras_aoa.data.examples import Example, NamedObject, Phrase
from keras_aoa.data.images.preprocessing import to_original
from keras_aoa.data.images.split_images import image_batches
from keras_aoa.data.readers import read
from keras_aoa.data.scenes.dataset import ScenesSettings, prepare
from keras_aoa.data.text.mentions import Mention, annotated_mentions, named_mentions, naming_words
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP, Vocabulary
from keras_aoa.evaluation.correctness import (
    attend_captions,
    check_attends,
    encode,
    mentions_of,
    tally,
)
from keras_aoa.evaluation.correctness_measures import COLUMNS
from keras_aoa.evaluation.grounding import ground, share_inside
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError

VOCABULARY = Vocabulary(["red", "ball", "blue", "box"])
IMAGES = tiny.make_images(3)
WINDOWS = np.array([[0.0, 0.0, 1.0, 1.0]] * 3)
GIVEN = ["a red ball and blue box", "ball"]
BATCHES = [
    {"images": tf.constant(IMAGES[:2]), "index": tf.constant([0, 1])},
    {"images": tf.constant(IMAGES[2:]), "index": tf.constant([2])},
]


@pytest.fixture(scope="module")
def captioner():
    return tiny.make_captioner(weights=1)


@pytest.fixture(scope="module")
def attended(captioner):
    """Return generated captions, words of all captions, their ids, and attention and regions."""
    generator = CaptionGenerator(
        captioner, VOCABULARY, beam=1, max_words=4, length_penalty=0.0, stride=1
    )
    generated = generator(IMAGES, with_attention=True)
    captions = {
        index: [generated[index].words, *(text.split() for text in GIVEN[: 2 - index % 2])]
        for index in range(3)
    }
    ids = encode(VOCABULARY, captions)
    images = list(attend_captions(captioner, 1, BATCHES, ids, WINDOWS))
    return generated, captions, ids, images


def test_ids_are_whole_captions_between_start_and_stop(attended):
    _, captions, ids, _ = attended
    assert {rows.shape for rows in ids.values()} == {(3, 8)}
    expected = [START, OOV, 4, 5, OOV, 6, 7, STOP]
    assert ids[0][1].tolist() == expected
    assert ids[0][2].tolist() == [START, 5, STOP, PAD, PAD, PAD, PAD, PAD]
    assert ids[1][2].tolist() == [PAD] * 8
    assert ids[0][0][len(captions[0][0]) + 1] == STOP


def test_attention_at_a_given_word_is_from_the_state_that_predicts_it(captioner, attended):
    _, _, ids, images = attended
    assert [index for index, *_ in images] == [0, 1, 2]
    for index, attention, _ in images:
        encoded = captioner.encode(IMAGES[index : index + 1], stride=1)
        for row in (1, 2) if index != 1 else (1,):
            state, region = encoded.state, encoded.attended
            for step in range(list(ids[index][row]).index(STOP)):
                word = np.array([[ids[index][row][step]]])
                state, region, _, expected = captioner.decode_step(
                    word, state, region, encoded.memory
                )
                np.testing.assert_allclose(
                    attention[row, step], expected[0, 0], rtol=1e-3, atol=1e-5
                )


def test_attention_at_a_generated_word_equals_that_of_the_search(attended):
    generated, _, _, images = attended
    for index, attention, regions in images:
        own = generated[index].attention
        assert len(own) > 0
        np.testing.assert_allclose(attention[0, : len(own)], own, rtol=1e-3, atol=1e-5)
        assert not np.allclose(attention[0, 1 : len(own) + 1], own, rtol=0.1), (
            "all steps are similar"
        )
        np.testing.assert_array_equal(regions.corners, generated[index].boxes)


def test_the_correctness_of_generated_captions_equals_their_grounding(attended):
    generated, captions, _, images = attended
    objects = tuple(
        NamedObject(frozenset({noun}), frozenset(), (0.0, 0.1, 0.55, 0.6))
        for noun in ("red", "ball", "blue", "box")
    )
    examples = [Example(i, f"{i}.png", tuple(GIVEN[: 2 - i % 2]), (), objects) for i in range(3)]
    tallies = tally(images, mentions_of(examples, captions))
    measured = tallies["generated"].content()
    expected = ground(dict(enumerate(generated)), examples)
    assert measured["words"] == expected.phrases > 3
    assert measured["model"]["region"] == pytest.approx(expected.attention_on_object, rel=1e-3)
    assert measured["uniform"]["region"] == pytest.approx(
        expected.uniform_attention_on_object, rel=1e-6
    )
    after = measured["model_after_word"]["region"]
    assert after != pytest.approx(expected.attention_on_object, rel=1e-2)
    # Without phrases, nouns of given captions name objects too: 4 words and 1, 4, 4 and 1.
    given = tallies["ground_truth"].content()
    assert (given["captions"], given["words"]) == (5, 14)


def test_given_captions_use_annotated_phrases_if_there_are_any():
    box, other = (0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)
    thing = NamedObject(frozenset({"ball"}), frozenset(), box)
    examples = [
        Example(0, "0.png", ("a ball",), (Phrase(0, 0, 2, other),), (thing,)),
        Example(1, "1.png", ("a ball",), (), (thing,)),
        Example(2, "2.png", ("a ball",)),
    ]
    captions = {index: [("ball", "ball"), ["a", "ball"]] for index in range(3)}
    twice = [Mention(0, (box,)), Mention(1, (box,))]
    assert mentions_of(examples, captions) == {
        0: [twice, [Mention(1, (other,), 2)]],
        1: [twice, [Mention(1, (box,))]],
    }


def test_a_phrase_consists_of_a_noun_of_several_words_and_its_adjectives():
    words = ["a", "big", "hot", "dog", "near", "a", "dog"]
    thing = NamedObject(frozenset({"hot dog", "dog"}), frozenset({"big"}), (0, 0, 1, 1))
    naming = naming_words([Example(0, "0.png", (), objects=(thing,))])
    mentions = named_mentions(words, [thing], *naming)
    assert [(mention.index, mention.length) for mention in mentions] == [(3, 3), (6, 1)]


@pytest.fixture(scope="module")
def squares_with_entities(squares, tmp_path_factory):
    """Create six squares with Flickr30k Entities; one lacks boxes, one has a plain caption."""
    folder = tmp_path_factory.mktemp("entities") / "flickr30k"
    texts, listed = {}, []
    for number in range(6):
        color, side = ("red", "green", "blue")[number % 3], ("left", "right")[number % 2]
        name, left = f"{number:02d}.png", 6 if side == "left" else 36
        marked = f"[/EN#{number + 1}/other a {color} square] on the [/EN#0/notvisual {side}]"
        one = "A square !" if number == 1 else f"One {color} square"
        listed.append((name, "test", [f"a {color} square on the {side}", one]))
        texts[f"Sentences/{number:02d}.txt"] = f"{marked}\n{one}\n"
        texts[f"Annotations/{number:02d}.xml"] = (
            "<annotation><size><width>60</width><height>40</height></size><object>"
            f"<name>{number + 1}</name><bndbox><xmin>{left}</xmin><ymin>8</ymin>"
            f"<xmax>{left + 18}</xmax><ymax>28</ymax></bndbox></object></annotation>"
        )
    texts["Annotations/04.xml"] = "<annotation>"
    put(folder, {"dataset_flickr30k.json": karpathy(*listed)} | texts)
    for number in range(6):
        name = f"{number:02d}.png"
        (folder / name).write_bytes((squares / name).read_bytes())
    return folder


def shares_at_squares(run, examples):
    """Mean attention inside the box at "square" of "a COLOR square …" and after it, by steps."""
    captioner, shares = run.load_captioner(), []
    for batch in image_batches(run.load_images("test", examples, cache_gb=1.0), 1):
        for phrase in examples[int(batch["index"][0])].phrases:
            encoded = captioner.encode(batch)
            inside = share_inside(np.asarray(encoded.boxes[0], float), [phrase.box])
            words = tokenize(examples[int(batch["index"][0])].captions[0])[:3]
            assert words[::2] == ["a", "square"]
            state, attended, found = encoded.state, encoded.attended, []
            for word in run.vocabulary.encode_words(words, 3)[:-1]:
                state, attended, _, attention = captioner.decode_step(
                    np.array([[word]]), state, attended, encoded.memory
                )
                found.append(float(np.asarray(attention)[0, 0] @ inside))
            shares.append(found[-2:])
    assert len(shares) == 5
    return np.mean(shares, axis=0)


def test_the_command_prints_a_table_and_writes_the_measures(
    trained, squares_with_entities, tmp_path, capsys, caplog
):
    arguments = ["--data", str(squares_with_entities), "--output", str(tmp_path / "out")]
    command.main([str(trained.folder), "--correctness", "--split", "test", *arguments])
    content = json.loads((tmp_path / "out/correctness.json").read_text())
    assert (content["images"], content["images_without_boxes"]) == (6, 1)
    assert content["search"]["beam"] == 2
    given = content["ground_truth"]
    assert (given["words"], given["captions"], given["captions_without_match"]) == (5, 10, 5)
    assert content["generated"]["captions"] == 5
    area = 18 * 20 / (60 * 40)
    assert given["uniform"]["region"] == pytest.approx(area, abs=1e-6)
    assert given["uniform"]["pixel"] == pytest.approx(area, abs=1e-6)
    lines = capsys.readouterr().out.splitlines()
    (region,) = [line.split() for line in lines if line.startswith("ground-truth  region")]
    assert region[2:] == [f"{100 * given[column]['region']:.1f}" for column in COLUMNS]
    assert any("5 captions name nothing that has a box" in line for line in lines)
    assert any(line.startswith("1 images have no boxes") for line in lines)
    assert sum("damaged entity file" in text for text in caplog.messages) == 1
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/correctness.json"]
    at_word, after_word = shares_at_squares(trained, read(squares_with_entities).splits["test"])
    assert given["model"]["region"] == pytest.approx(at_word, abs=1e-5)
    assert given["model_after_word"]["region"] == pytest.approx(after_word, abs=1e-5)
    assert at_word != pytest.approx(after_word, abs=1e-4) != pytest.approx(area, abs=1e-4)


def test_object_proposals_are_measured_without_their_padding(
    trained_proposals, squares_with_entities, tmp_path
):
    arguments = ["--data", str(squares_with_entities), "--output", str(tmp_path)]
    command.main([str(trained_proposals.folder), "--correctness", "--split", "test", *arguments])
    content = json.loads((tmp_path / "correctness.json").read_text())
    assert "proposals" in content["search"] and content["ground_truth"]["words"] == 5
    run, examples = trained_proposals, read(squares_with_entities).splits["test"]
    images = run.load_images("test", examples, cache_gb=1.0)
    shares = []
    for index, example in enumerate(examples):
        if example.phrases:
            boxes = to_original(
                images.proposals(index, lambda count: slice(5)).reshape(-1, 2, 2),
                images.windows[index],
            ).reshape(-1, 4)
            x0, y0, x1, y1 = example.phrases[0].box
            width = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0)
            height = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0)
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            shares.append(np.mean(np.maximum(width, 0) * np.maximum(height, 0) / areas))
    assert content["ground_truth"]["uniform"]["region"] == pytest.approx(np.mean(shares), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "correctness: expected boxes of named objects, but the 3 images of test have none"),
        (["--stride", "1,2"], "correctness: expected one value of stride, received several"),
        (["--split", "tset"], "expected a split of .* received 'tset'"),
    ],
)
def test_runs_that_cannot_be_measured_raise_a_one_line_error(trained, arguments, message):
    before = sorted(trained.folder.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        command.main([str(trained.folder), "--correctness", *arguments])
    assert "\n" not in str(caught.value)
    assert sorted(trained.folder.rglob("*")) == before


def test_measuring_a_file_of_captions_raises_an_error():
    with pytest.raises(UserError, match="--correctness needs the folder of a run"):
        command.main(["--results", "a.json", "--references", "b.json", "--correctness"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "baseline"}, "runs/x has variant 'baseline' and its attention is uniform"),
        ({"variant": "semantic", "concepts": "attributes"}, "runs/x has variant 'semantic' and"),
        ({"regions": "mean"}, "runs/x has regions 'mean' and its attention is uniform"),
    ],
)
def test_a_run_with_uniform_attention_raises_an_error(changes, message):
    configuration = dataclasses.replace(Configuration(), **changes)
    with pytest.raises(UserError, match=message):
        check_attends(configuration, "runs/x")
    check_attends(Configuration(), "runs/x")


def test_phrases_and_nouns_of_drawn_scenes_name_the_same_objects(tmp_path):
    examples = prepare(tmp_path, ScenesSettings(train=1, val=1, test=20)).splits["test"]
    naming = naming_words(examples)
    words = 0
    for example in examples:
        for number, caption in enumerate(example.captions):
            by_phrase = annotated_mentions(example, number)
            by_noun = named_mentions(tokenize(caption), example.objects, *naming)
            assert [mention.index for mention in by_phrase] == [each.index for each in by_noun]
            for one, other in zip(by_phrase, by_noun, strict=True):
                assert set(one.boxes) <= set(other.boxes)
            words += len(by_phrase)
    assert words > 100


def test_most_nouns_of_real_coco_captions_match_an_object(shared):
    examples = read(shared / "data/coco").splits["val"]
    captions = {index: [(), *map(tokenize, each.captions)] for index, each in enumerate(examples)}
    mentions = mentions_of(examples, captions)
    matched = [bool(each.boxes) for texts in mentions.values() for named in texts for each in named]
    assert len(matched) > 400 and np.mean(matched) > 0.85
