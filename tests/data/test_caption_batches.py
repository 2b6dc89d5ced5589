"""Tests of batches: their content, their order and mirroring."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from shaded_images import MEMORY, SETTINGS, assert_same, indices, numpy, write_examples

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import prepare, read_image
from keras_aoa.data.images.split_images import Images
from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP, Vocabulary
from keras_aoa.utils.errors import UserError


@MEMORY
def test_each_image_with_captions_occurs_once_per_epoch_with_its_captions(
    images, vocabulary, cache_gb
):
    batches = numpy(CaptionBatches(images[cache_gb], vocabulary, 4).epoch(0))
    assert sorted(indices(batches)) == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    for batch in batches:
        for image, captions, index in zip(
            batch["images"], batch["captions"], batch["index"], strict=True
        ):
            assert image[0, 0, 0] == 10 * index
            shown = {vocabulary.decode(ids) for ids in captions if ids[0] == START}
            own = images[cache_gb].examples[index].captions
            assert shown <= set(own)
            assert len(shown) == min(len(own), 5)


@MEMORY
def test_shapes_and_types_match_the_documentation(images, vocabulary, cache_gb):
    batches = CaptionBatches(images[cache_gb], vocabulary, 4, captions_per_image=3)
    dataset = batches.epoch(0)
    assert dataset.element_spec == {
        "images": tf.TensorSpec((None, 16, 16, 3), tf.float32),
        "captions": tf.TensorSpec((None, 3, 10), tf.int32),
        "index": tf.TensorSpec((None,), tf.int32),
        "window": tf.TensorSpec((None, 4), tf.float32),
        "flipped": tf.TensorSpec((None,), tf.bool),
    }
    assert [len(batch["images"]) for batch in numpy(dataset)] == [4, 4, 1]
    assert batches.batches_per_epoch == 3


def test_captions_and_images_with_few_captions_are_padded(images, vocabulary):
    for batch in numpy(CaptionBatches(images[4.0], vocabulary, 4, captions_per_image=7).epoch(0)):
        assert batch["captions"].shape[1:] == (7, 10)
        for captions, index in zip(batch["captions"], batch["index"], strict=True):
            count = index % 8
            assert (captions[:count, 0] == START).all() and (captions[count:] == PAD).all()
            for row in captions[:count]:
                end = row.tolist().index(STOP)
                assert (row[end + 1 :] == PAD).all() and (row[:end] != PAD).all()


def test_long_captions_are_cut_and_unknown_words_are_oov(images):
    batch = numpy(CaptionBatches(images[4.0], Vocabulary(["many"]), 20, max_words=2).epoch(0))[0]
    rows = batch["captions"][batch["index"].tolist().index(3)]
    cut = [START, OOV, OOV, PAD]
    assert rows.tolist() == [[START, OOV, 4, STOP], cut, cut, [PAD] * 4, [PAD] * 4]


def test_images_with_many_captions_show_others_in_each_epoch(images, vocabulary):
    batches = CaptionBatches(images[4.0], vocabulary, 20, captions_per_image=2)
    shown = set()
    for epoch in range(15):
        batch = numpy(batches.epoch(epoch))[0]
        rows = batch["captions"][batch["index"].tolist().index(7)]
        decoded = [vocabulary.decode(ids) for ids in rows]
        assert len(set(decoded)) == 2
        shown.update(decoded)
    assert shown == set(images[4.0].examples[7].captions)


def test_captions_without_words_are_ignored(examples, vocabulary):
    path = examples[0].path
    captions = [("...", "one many"), ("one",), ("", "!")]
    examples = [Example(index, path, texts) for index, texts in enumerate(captions)]
    batch = numpy(CaptionBatches(Images("train", examples, SETTINGS), vocabulary, 4).epoch(0))[0]
    assert sorted(batch["index"]) == [0, 1]
    assert (batch["captions"][:, 0, 0] == START).all() and (batch["captions"][:, 1:] == PAD).all()


def test_split_without_captions_is_rejected(examples, vocabulary):
    images = Images("train", [examples[0], examples[8]], SETTINGS)
    with pytest.raises(UserError, match="train: expected captions, received none"):
        CaptionBatches(images, vocabulary, 4)


def test_names_returns_the_image_files_of_a_batch(images, vocabulary):
    batches = CaptionBatches(images[4.0], vocabulary, 4)
    index = numpy(batches.epoch(0))[0]["index"]
    assert len(set(index.tolist())) == 4
    assert batches.names(index) == [images[4.0].examples[i].path for i in index]
    assert [pathlib.Path(name).name for name in batches.names([3, 10])] == ["3.png", "10.png"]


# --- determinism ----------------------------------------------------------------------------------


def test_batches_depend_only_on_seed_and_epoch(images, vocabulary):
    def run(epoch, seed, cache_gb=4.0):
        batches = CaptionBatches(
            images[cache_gb], vocabulary, 4, captions_per_image=2, flip=True, seed=seed
        )
        return numpy(batches.epoch(epoch))

    expected = run(1, 0)
    assert_same(expected, run(1, 0))
    assert_same(expected, run(1, 0, cache_gb=0))
    for other in (run(2, 0), run(1, 1)):
        assert indices(other) != indices(expected)


@MEMORY
def test_resumed_epoch_equals_the_rest_of_an_uninterrupted_epoch(images, vocabulary, cache_gb):
    batches = CaptionBatches(images[cache_gb], vocabulary, 4, flip=True, crop=0.5)
    whole = numpy(batches.epoch(3))
    for skip in (1, 3):
        assert_same(numpy(batches.epoch(3, skip)), whole[skip:])


def test_resuming_does_not_decode_skipped_images(vocabulary, tmp_path):
    batches = CaptionBatches(Images("train", write_examples(tmp_path), SETTINGS, 0), vocabulary, 4)
    first, *rest = numpy(batches.epoch(0))
    for index in first["index"]:
        (tmp_path / f"{index}.png").write_bytes(b"gone")
    assert_same(numpy(batches.epoch(0, 1)), rest)


# --- mirroring ------------------------------------------------------------------------------------


def test_half_of_the_images_are_mirrored_and_marked_as_flipped(images, vocabulary):
    batches = CaptionBatches(images[4.0], vocabulary, 20, flip=True)
    plain = CaptionBatches(images[4.0], vocabulary, 20)
    flipped = []
    for epoch in range(8):
        (batch,), (other,) = numpy(batches.epoch(epoch)), numpy(plain.epoch(epoch))
        mirrored = other["images"][:, :, ::-1]
        expected = np.where(batch["flipped"][:, None, None, None], mirrored, other["images"])
        np.testing.assert_array_equal(batch["images"], expected)
        assert not other["flipped"].any()
        flipped.append(batch["flipped"])
    assert 0.35 < np.mean(flipped) < 0.65
    assert len({tuple(mirrored) for mirrored in flipped}) > 6


def test_images_whose_captions_mention_sides_are_never_mirrored(examples):
    sides = [
        "A man on the LEFT waves.",
        "his right-hand glove",
        "a left-handed batter",
        "the leftmost dog",
        "a lefty pitches",
        "turning counter-clockwise",
        "counterclockwise",
        "on the boat's right side",
    ]
    others = ["an upright bright copyright", "leftovers on a plate", "a dog"]
    examples = [Example(text, examples[0].path, ("a dog", text)) for text in sides + others]
    batches = CaptionBatches(Images("train", examples, SETTINGS), Vocabulary([]), 20, flip=True)
    mirrored = set()
    for epoch in range(10):
        batch = numpy(batches.epoch(epoch))[0]
        mirrored |= {examples[index].image_id for index in batch["index"][batch["flipped"]]}
    assert mirrored == set(others)


@MEMORY
def test_batches_of_real_photographs_equal_the_preprocessed_images(shared, cache_gb):
    files = sorted((shared / "data/flickr8k/images").glob("*.jpg"))[:12]
    examples = [Example(file.name, str(file), ("a photograph",)) for file in files]
    images = Images("train", examples, SETTINGS, cache_gb)
    for batch in numpy(CaptionBatches(images, Vocabulary(["photograph"]), 5).epoch(0)):
        for image, index in zip(batch["images"], batch["index"], strict=True):
            np.testing.assert_array_equal(image, prepare(read_image(files[index]), SETTINGS))


def test_added_columns_follow_the_images_and_their_chosen_captions(images, vocabulary):
    batches = CaptionBatches(images[4.0], vocabulary, 4, captions_per_image=3)
    batches.add_column("number", 10 * np.arange(11))
    batches.add_column("row", np.tile(np.arange(7), (11, 1)), of_captions=True)
    for epoch in range(2):
        for batch in numpy(batches.epoch(epoch, skip_batches=epoch)):
            np.testing.assert_array_equal(batch["number"], 10 * batch["index"])
            words = (batch["captions"] != PAD).sum(axis=2) - 2  # caption k has k + 2 words
            real = words > 0
            np.testing.assert_array_equal(batch["row"][real], words[real] - 2)
