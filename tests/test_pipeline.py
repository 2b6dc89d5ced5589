"""Examples to batches: what is in them, in which order, and what becomes of spoilt files."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_aoa.data import pipeline
from keras_aoa.data.examples import Example
from keras_aoa.data.images import ImageSettings, decode, prepare
from keras_aoa.data.pipeline import CaptionBatches, Images, image_batches
from keras_aoa.data.vocabulary import OOV, PAD, START, STOP, Vocabulary
from keras_aoa.errors import UserError

SETTINGS = ImageSettings(16)
WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
MEMORY = pytest.mark.parametrize("cache_gb", [4.0, 0], ids=["memory", "files"])


@pytest.fixture
def examples(tmp_path):
    """13 images, dark on the left half, light on the right; image i has i % 8 captions."""
    made = []
    for i, word in enumerate(WORDS):
        image = np.full((20, 24, 3), 10 * i, np.uint8)
        image[:, 12:] += 100
        path = str(tmp_path / f"{i}.png")
        cv2.imwrite(path, image)
        captions = [f"{word} {'very ' * k}many" for k in range(i % 8)]
        made.append(Example(f"image {i}", path, tuple(captions)))
    return made


@pytest.fixture
def vocabulary(examples):
    return Vocabulary.from_captions([c for example in examples for c in example.captions], 1)


def make(examples, vocabulary, cache_gb=4.0, **options):
    images = Images("train", examples, SETTINGS, cache_gb)
    return CaptionBatches(images, vocabulary, **({"batch_size": 4} | options))


def numpy(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def indices(batches):
    return np.concatenate([batch["index"] for batch in batches]).tolist()


# --- what is in a batch ---------------------------------------------------------------------------


@MEMORY
def test_every_image_with_captions_comes_once_an_epoch_with_its_own(examples, vocabulary, cache_gb):
    batches = numpy(make(examples, vocabulary, cache_gb).epoch(0))
    assert sorted(indices(batches)) == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    for batch in batches:
        for image, captions, index in zip(
            batch["images"], batch["captions"], batch["index"], strict=True
        ):
            assert image[0, 0, 0] == 10 * index
            said = {vocabulary.decode(ids) for ids in captions if ids[0] == START}
            assert said <= set(examples[index].captions)
            assert len(said) == min(len(examples[index].captions), 5)


@MEMORY
def test_shapes_and_types_are_as_stated(examples, vocabulary, cache_gb):
    batches = make(examples, vocabulary, cache_gb, batch_size=4, captions_per_image=3)
    spec = batches.epoch(0).element_spec
    assert spec["images"] == tf.TensorSpec((None, 16, 16, 3), tf.float32)
    assert spec["captions"] == tf.TensorSpec((None, 3, None), tf.int32)
    assert spec["index"] == tf.TensorSpec((None,), tf.int32)
    assert spec["window"] == tf.TensorSpec((None, 4), tf.float32)
    assert spec["flipped"] == tf.TensorSpec((None,), tf.bool)
    sizes = [len(batch["images"]) for batch in numpy(batches.epoch(0))]
    assert sizes == [4, 4, 3] and batches.batches_per_epoch == 3


def test_captions_are_padded_to_the_longest_of_the_batch(examples, vocabulary):
    for batch in numpy(make(examples, vocabulary, captions_per_image=7).epoch(0)):
        longest = max(len(examples[i].captions) + 3 for i in batch["index"])
        assert batch["captions"].shape[2] == longest
        for captions, index in zip(batch["captions"], batch["index"], strict=True):
            count = len(examples[index].captions)
            assert (captions[:count, 0] == START).all() and (captions[count:] == PAD).all()
            for row in captions[:count]:
                end = row.tolist().index(STOP)
                assert (row[end + 1 :] == PAD).all() and (row[:end] != PAD).all()


def test_long_captions_are_cut_and_unknown_words_are_oov(examples):
    batch = numpy(make(examples, Vocabulary(["many"]), max_words=2, batch_size=20).epoch(0))[0]
    row = batch["captions"][batch["index"].tolist().index(3)]
    assert row[:3].tolist() == [
        [START, OOV, 4, STOP],
        [START, OOV, OOV, PAD],
        [START, OOV, OOV, PAD],
    ]


def test_captions_beyond_the_wanted_number_take_turns(examples, vocabulary):
    batches = make(examples, vocabulary, captions_per_image=2, batch_size=20)
    shown = set()
    for epoch in range(30):
        batch = numpy(batches.epoch(epoch))[0]
        rows = batch["captions"][batch["index"].tolist().index(7)]
        said = [vocabulary.decode(ids) for ids in rows]
        assert len(set(said)) == 2
        shown.update(said)
    assert shown == {caption.strip() for caption in examples[7].captions}


def test_captions_without_a_word_count_as_none(examples, vocabulary):
    examples = [Example("a", examples[0].path, ("...", "one many")), examples[1]]
    examples += [Example("b", examples[0].path, ("", "!"))]
    batch = numpy(make(examples, vocabulary).epoch(0))[0]
    assert sorted(batch["index"]) == [0, 1]
    assert (batch["captions"][batch["index"].tolist().index(0), 1:] == PAD).all()


def test_split_without_captions_is_refused(examples, vocabulary):
    with pytest.raises(UserError, match="train: expected captions, received none"):
        make([examples[0], examples[8]], vocabulary)


# --- determinism ----------------------------------------------------------------------------------


@MEMORY
def test_same_seed_gives_the_same_run_and_other_seeds_and_epochs_others(
    examples, vocabulary, cache_gb
):
    options = {"flip": True, "captions_per_image": 2}
    batches = numpy(make(examples, vocabulary, cache_gb, **options).epoch(1))
    assert_same(batches, numpy(make(examples, vocabulary, **options).epoch(1)))
    others = [make(examples, vocabulary, **options).epoch(2)]
    others += [make(examples, vocabulary, **options, seed=1).epoch(1)]
    for other in others:
        assert indices(numpy(other)) != indices(batches)


@MEMORY
@pytest.mark.parametrize("skip", [0, 1, 2, 3, 4])
def test_resumed_epoch_equals_the_rest_of_an_uninterrupted_one(
    examples, vocabulary, cache_gb, skip
):
    batches = make(examples, vocabulary, cache_gb, flip=True)
    assert_same(numpy(batches.epoch(3, skip)), numpy(batches.epoch(3))[skip:])


def test_resuming_decodes_no_skipped_image(examples, vocabulary, tmp_path):
    batches = make(examples, vocabulary, 0)
    first, *rest = numpy(batches.epoch(0))
    for index in first["index"]:
        (tmp_path / f"{index}.png").write_bytes(b"gone")
    assert_same(numpy(batches.epoch(0, 1)), rest)


# --- mirroring ------------------------------------------------------------------------------------


def test_half_of_the_images_are_mirrored_and_flipped_tells_which(examples, vocabulary):
    batches = make(examples, vocabulary, flip=True)
    plain = make(examples, vocabulary)
    flipped = []
    for epoch in range(40):
        for batch, other in zip(
            numpy(batches.epoch(epoch)), numpy(plain.epoch(epoch)), strict=True
        ):
            mirrored = other["images"][:, :, ::-1]
            expected = np.where(batch["flipped"][:, None, None, None], mirrored, other["images"])
            np.testing.assert_array_equal(batch["images"], expected)
            assert not other["flipped"].any()
            flipped.extend(batch["flipped"])
    assert 0.4 < np.mean(flipped) < 0.6


@pytest.mark.parametrize(
    ("caption", "sides"),
    [
        ("A man on the LEFT waves.", True),
        ("his right-hand glove", True),
        ("a left-handed batter", True),
        ("the leftmost dog", True),
        ("a lefty pitches", True),
        ("turning counter-clockwise", True),
        ("counterclockwise", True),
        ("on the boat's right side", True),
        ("an upright bright copyright", False),
        ("leftovers on a plate", False),
        ("a dog", False),
    ],
)
def test_images_whose_captions_tell_sides_are_never_mirrored(examples, caption, sides):
    told = [Example(i, examples[0].path, ("a dog", caption)) for i in range(8)]
    batches = make(told, Vocabulary([]), flip=True, batch_size=8)
    flipped = any(numpy(batches.epoch(epoch))[0]["flipped"].any() for epoch in range(5))
    assert flipped != sides


# --- spoilt files ---------------------------------------------------------------------------------


@pytest.fixture
def spoilt(examples, tmp_path):
    """Examples 2 and 5 cannot be read: one is text, one is half a file."""
    (tmp_path / "2.png").write_text("404 not found")
    half = (tmp_path / "5.png").read_bytes()
    (tmp_path / "5.png").write_bytes(half[: len(half) // 2])
    return examples


@MEMORY
def test_spoilt_images_are_left_out_and_named(spoilt, vocabulary, cache_gb, caplog):
    images = Images("train", spoilt, SETTINGS, cache_gb)
    assert images.skipped == [spoilt[2].path, spoilt[5].path]
    assert f"train: 2 of 13 images cannot be read and are left out: {spoilt[2].path}" in caplog.text
    batches = CaptionBatches(images, vocabulary, batch_size=4)
    for epoch in range(2):
        assert sorted(indices(numpy(batches.epoch(epoch)))) == [1, 3, 4, 6, 7, 9, 10, 11, 12]
    assert batches.batches_per_epoch == 3
    assert indices(numpy(image_batches(images, 4))) == [0, 1, 3, 4, *range(6, 13)]


def test_split_of_spoilt_images_alone_is_refused(spoilt):
    with pytest.raises(UserError, match=r"val: not one of 2 files is a readable image: .*2\.png"):
        Images("val", [spoilt[2], spoilt[5]], SETTINGS)


def test_missing_files_are_told_at_once(examples, tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(UserError, match=r"7 of 13 images are missing: .*0\.png.*4\.png, …; add"):
        Images("train", examples, SETTINGS)


def test_empty_split_is_refused():
    with pytest.raises(UserError, match="test: expected images, received none"):
        Images("test", [], SETTINGS)


def test_more_pixels_than_the_limit_are_not_kept(examples, vocabulary, caplog):
    needed = 13 * 16 * 16 * 3 / 1e9
    kept = Images("train", examples, SETTINGS, needed * 1.01)
    assert not caplog.records
    not_kept = Images("train", examples, SETTINGS, needed * 0.99)
    assert "decoded anew every epoch" in caplog.text
    assert_same(numpy(image_batches(kept, 5)), numpy(image_batches(not_kept, 5)))


def test_kept_pixels_are_decoded_once(examples, vocabulary, tmp_path):
    batches = make(examples, vocabulary)
    before = numpy(batches.epoch(0))
    for file in tmp_path.glob("*.png"):
        file.unlink()
    assert_same(numpy(batches.epoch(0)), before)


def test_images_refuse_a_distribution_scope(examples):
    with tf.distribute.OneDeviceStrategy("CPU:0").scope(), pytest.raises(ValueError, match="scope"):
        Images("train", examples, SETTINGS)


# --- evaluation and real photographs --------------------------------------------------------------


@MEMORY
def test_evaluation_sees_the_images_in_their_order(examples, cache_gb):
    batches = numpy(image_batches(Images("test", examples, SETTINGS, cache_gb), 5))
    assert [batch["index"].tolist() for batch in batches] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11, 12],
    ]
    for batch in batches:
        assert batch["images"].dtype == np.float32
        np.testing.assert_allclose(batch["window"], [[1 / 12, 0, 11 / 12, 1]] * len(batch["index"]))


@MEMORY
def test_real_photographs_arrive_as_the_preprocessing_makes_them(shared, cache_gb):
    files = sorted((shared / "data/flickr8k/images").glob("*.jpg"))[:12]
    examples = [Example(file.name, str(file), ("a photograph",)) for file in files]
    settings = ImageSettings(64)
    images = Images("train", examples, settings, cache_gb)
    batches = CaptionBatches(images, Vocabulary(["photograph"]), batch_size=5)
    for batch in numpy(batches.epoch(0)):
        for image, index in zip(batch["images"], batch["index"], strict=True):
            expected = prepare(decode(files[index].read_bytes()), settings)
            np.testing.assert_array_equal(image, expected)


def test_names_in_messages_are_few():
    assert pipeline._some(["a", "b"]) == "a, b"
    assert pipeline._some(list("abcdefg")) == "a, b, c, d, e, …"
