"""Tests of the images of a split: damaged and missing files, the cache, and the order of images."""

import numpy as np
import pytest
import tensorflow as tf
from shaded_images import MEMORY, SETTINGS, assert_same, indices, numpy, write_examples

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.readers import frames
from keras_aoa.utils.errors import UserError


def damage(folder):
    """Write examples of which 2 (a text) and 5 (half a file) are unreadable."""
    examples = write_examples(folder)
    (folder / "2.png").write_text("404 not found")
    half = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(half[: len(half) // 2])
    return examples


@MEMORY
def test_damaged_images_are_left_out_and_logged(vocabulary, cache_gb, caplog, tmp_path):
    damaged = damage(tmp_path)
    images = Images("train", damaged, SETTINGS, cache_gb)
    assert images.skipped == [damaged[2].path, damaged[5].path]
    assert images.readable.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10]
    assert "train: 2 of 11 images cannot be read and are left out." in caplog.text
    assert f"train: cannot read {damaged[2].path}: Unknown image file format" in caplog.text
    assert f"train: cannot read {damaged[5].path}: Invalid PNG data" in caplog.text
    batches = CaptionBatches(images, vocabulary, 4)
    for epoch in range(2):
        assert sorted(indices(numpy(batches.epoch(epoch)))) == [1, 3, 4, 6, 7, 9, 10]
    assert batches.batches_per_epoch == 2
    seen = numpy(image_batches(images, 4))
    assert indices(seen) == images.readable.tolist()
    assert [batch["images"][:, 0, 0, 0].tolist() for batch in seen][1] == [60, 70, 80, 90]


def test_split_of_only_damaged_images_is_rejected(tmp_path):
    damaged = damage(tmp_path)
    with pytest.raises(UserError, match=r"val: none of 2 files is a readable image: .*2\.png"):
        Images("val", [damaged[2], damaged[5]], SETTINGS)


def test_missing_files_are_reported_together(tmp_path):
    examples = write_examples(tmp_path)
    for i in range(7):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(UserError, match=r"7 of 11 images are missing: .*0\.png.*4\.png, …; add"):
        Images("train", examples, SETTINGS)


def test_empty_split_is_rejected():
    with pytest.raises(UserError, match="test: expected images, received none"):
        Images("test", [], SETTINGS)


def test_images_beyond_the_memory_limit_are_not_cached(examples, caplog, tmp_path):
    needed = len(examples) * 16 * 16 * 3 / 1e9
    kept = Images("train", examples, SETTINGS, needed * 1.01)
    assert not caplog.records
    not_kept = Images("train", write_examples(tmp_path), SETTINGS, needed * 0.99)
    assert "decoded again in every epoch" in caplog.text
    assert_same(numpy(image_batches(kept, 5)), numpy(image_batches(not_kept, 5)))
    (tmp_path / "10.png").unlink()
    with pytest.raises(tf.errors.NotFoundError):
        numpy(image_batches(not_kept, 5))


def test_cached_images_are_decoded_once(vocabulary, tmp_path):
    batches = CaptionBatches(Images("train", write_examples(tmp_path), SETTINGS), vocabulary, 4)
    before = numpy(batches.epoch(0))
    for file in tmp_path.glob("*.png"):
        file.unlink()
    assert_same(numpy(batches.epoch(0)), before)


@pytest.mark.parametrize("reader", ["network inputs", "sizes"])
def test_files_are_read_on_the_cpu(examples, reader):
    read = frames._reader()
    if reader == "network inputs":
        read = Images("train", examples, SETTINGS)._read
    operations = read.get_concrete_function().graph.get_operations()
    others = ("Placeholder", "NoOp", "Identity")  # inputs, order of operations, and outputs
    own = [operation for operation in operations if operation.type not in others]
    assert len(own) > 5
    assert {operation.device for operation in own} == {"/device:CPU:0"}


def test_images_reject_a_distribution_scope(examples):
    with tf.distribute.OneDeviceStrategy("CPU:0").scope(), pytest.raises(ValueError, match="scope"):
        Images("train", examples, SETTINGS)


@MEMORY
def test_evaluation_batches_keep_the_order_of_the_images(images, cache_gb):
    batches = numpy(image_batches(images[cache_gb], 5))
    assert [batch["index"].tolist() for batch in batches] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10],
    ]
    for batch in batches:
        assert batch["images"].dtype == np.float32
        assert batch["images"][:, 0, 0, 0].tolist() == [10 * index for index in batch["index"]]
        np.testing.assert_allclose(batch["window"], [[1 / 12, 0, 11 / 12, 1]] * len(batch["index"]))
    np.testing.assert_allclose(images[cache_gb].windows, [[1 / 12, 0, 11 / 12, 1]] * 11)
