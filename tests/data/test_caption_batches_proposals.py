"""Tests of object proposals in batches: their choice, order and images."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf
from bright_square import settings

from keras_aoa.data.build import proposal_view
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import (
    ImageSettings,
    prepare,
    read_image,
    to_original,
    window,
)
from keras_aoa.data.images.split_images import Images, image_batches, padded
from keras_aoa.data.images.views import ProposalView
from keras_aoa.data.proposals import edge_boxes as edges
from keras_aoa.data.proposals.cache import ProposalSettings
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.utils.errors import UserError

VOCABULARY = Vocabulary(["a", "picture"])
SETTINGS, VIEW = ImageSettings(16), ImageSettings(24, "pad")
COUNTS = (30, 3, 12, 1, 25, 8, 30)  # boxes of each image
BROKEN = 5


def boxes_of(number):
    """Return the distinct boxes of image `number`, best first."""
    random = np.random.default_rng(number)
    corners = np.sort(random.random((COUNTS[number], 2, 2)), axis=1)
    return corners.reshape(-1, 4)


@pytest.fixture
def calls(monkeypatch):
    """Numbers of the images whose proposals were computed, recognized by their gray level."""
    numbers = []

    def boxes(image, model=""):
        numbers.append(int(image[0, 0, 0]) // 30)
        return boxes_of(numbers[-1])

    monkeypatch.setattr(edges, "edge_boxes", boxes)
    return numbers


@pytest.fixture
def examples(tmp_path):
    examples = []
    for number in range(len(COUNTS)):
        picture = np.full((20 + 3 * number, 30, 3), 30 * number, np.uint8)
        picture[:, 15:] += 40  # the right half is lighter
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        examples.append(Example(number, str(tmp_path / f"{number}.png"), ("a picture",)))
    (tmp_path / f"{BROKEN}.png").write_text("no picture")
    return examples


def view_of(tmp_path):
    return ProposalView(VIEW, ProposalSettings(), tmp_path / "kept")


def open_images(examples, tmp_path, cache_gb=4.0):
    return Images("train", examples, SETTINGS, cache_gb, view_of(tmp_path))


def batches_of(images, proposals=10, seed=0, **more):
    return CaptionBatches(images, VOCABULARY, 2, 1, seed=seed, proposals=proposals, **more)


def numpy(dataset):
    return list(dataset.as_numpy_iterator())


def shown(batches):
    """Return the boxes of each image without padding, in 0..1 of the original."""
    boxes_by_image = {}
    for batch in batches:
        for row, index in enumerate(batch["index"]):
            boxes = batch["proposals"][row]
            if batch.get("flipped", np.zeros(9, bool))[row]:
                boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
            real = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
            corners = to_original(real.reshape(-1, 2, 2), batch["window"][row])
            boxes_by_image[int(index)] = corners.reshape(-1, 4)
    return boxes_by_image


def indices_of(number, boxes):
    """Return the indices of boxes in the list of an image's proposals."""
    distances = np.abs(boxes_of(number)[None] - boxes[:, None]).max(axis=2)
    assert (distances.min(axis=1) < 1e-4).all()
    return distances.argmin(axis=1).tolist()


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_training_chooses_random_boxes_in_each_epoch(examples, tmp_path, calls):
    batches = batches_of(open_images(examples, tmp_path))
    epochs = [shown(numpy(batches.epoch(epoch))) for epoch in range(8)]
    for number, count in enumerate(COUNTS):
        if number == BROKEN:
            continue
        chosen = [tuple(indices_of(number, boxes[number])) for boxes in epochs]
        for choice in chosen:
            assert len(choice) == len(set(choice)) == min(count, 10)
        if count > 3:
            assert len(set(chosen)) == 8
            assert len(set.union(*map(set, chosen))) > 0.9 * count, "not only the best"
    # Two images with equally many boxes have independent choices.
    first, last = (
        [indices_of(number, boxes[number]) for boxes in epochs] for number in (0, len(COUNTS) - 1)
    )
    assert first != last


def test_box_choices_depend_on_the_seed(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    expected = numpy(batches_of(images, flip=True).epoch(3))
    assert_same(expected, numpy(batches_of(images, flip=True).epoch(3)))
    other = numpy(batches_of(images, seed=1, flip=True).epoch(3))
    assert {n: indices_of(n, b) for n, b in shown(other).items()} != {
        n: indices_of(n, b) for n, b in shown(expected).items()
    }


def test_resumed_epoch_equals_the_rest_of_an_uninterrupted_epoch(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    # With 2000 proposals, the image with the most boxes may be among those skipped.
    for proposals, epoch in ((10, 0), (2000, 0), (2000, 1), (2000, 2)):
        batches = batches_of(images, proposals, flip=True)
        whole = numpy(batches.epoch(epoch))
        for skip in (1, 2):
            assert_same(numpy(batches.epoch(epoch, skip)), whole[skip:])


def test_images_with_fewer_boxes_are_padded(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    for proposals, width in ((10, 10), (28, 28), (2000, 30)):
        for batch in numpy(batches_of(images, proposals).epoch(0)):
            assert batch["proposals"].shape[1:] == (width, 4)
            assert batch["proposals"].dtype == np.float32
            for row, index in enumerate(batch["index"]):
                own = min(COUNTS[index], proposals)
                boxes = batch["proposals"][row]
                assert (boxes[:own, 2:] > boxes[:own, :2]).all()
                assert not boxes[own:].any()


def test_padding_has_no_area():
    assert padded([np.ones((2, 4)), np.ones((0, 4))]).tolist() == [
        [[1, 1, 1, 1]] * 2,
        [[0, 0, 0, 0]] * 2,
    ]


def test_evaluation_uses_the_best_boxes_in_order(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    for proposals in (1, 7, 2000):
        batches = numpy(image_batches(images, 4, proposals))
        order = [n for n in range(len(COUNTS)) if n != BROKEN]
        assert [int(i) for batch in batches for i in batch["index"]] == order
        for number, boxes in shown(batches).items():
            assert indices_of(number, boxes) == list(range(min(COUNTS[number], proposals)))


def test_unreadable_images_are_left_out_of_images_and_proposals(examples, tmp_path, calls, caplog):
    images = open_images(examples, tmp_path)
    assert images.skipped == [examples[BROKEN].path]
    assert "1 of 7 images cannot be read" in caplog.text
    assert BROKEN not in calls and sorted(calls) == [0, 1, 2, 3, 4, 6]
    assert sorted(shown(numpy(batches_of(images).epoch(0)))) == [0, 1, 2, 3, 4, 6]


def test_cached_boxes_are_not_computed_again(examples, tmp_path, calls):
    expected = numpy(image_batches(open_images(examples, tmp_path), 3, 9))
    before = len(calls)
    assert_same(numpy(image_batches(open_images(examples, tmp_path), 3, 9)), expected)
    assert len(calls) == before == 6
    # Another number of boxes per image needs no new computation.
    numpy(image_batches(open_images(examples[:2], tmp_path), 3, 1))
    assert len(calls) == before


def test_caching_in_memory_does_not_change_the_batches(examples, tmp_path, calls):
    kept, files = (open_images(examples, tmp_path, gigabytes) for gigabytes in (4.0, 0))
    assert_same(numpy(image_batches(kept, 4, 9)), numpy(image_batches(files, 4, 9)))
    for epoch in range(2):
        one, other = (numpy(batches_of(images, flip=True).epoch(epoch)) for images in (kept, files))
        assert_same(one, other)


def test_both_networks_receive_the_image_in_their_own_preprocessing(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    flipped = 0
    dataset = batches_of(images, flip=True).epoch(1)
    assert dataset.element_spec["region_images"] == tf.TensorSpec((None, 36, 36, 3), tf.float32)
    for batch in numpy(dataset):
        for row, index in enumerate(batch["index"]):
            image = read_image(examples[index].path)
            for name, view in (("images", SETTINGS), ("region_images", VIEW)):
                expected = prepare(image, view).numpy()
                expected = expected[:, ::-1] if batch["flipped"][row] else expected
                np.testing.assert_array_equal(batch[name][row], expected, err_msg=name)
            expected = window(*image.shape[:2], VIEW)
            np.testing.assert_array_equal(batch["window"][row], expected)
            np.testing.assert_array_equal(images.windows[index], expected)
            flipped += batch["flipped"][row]
    assert 0 < flipped < 6


def test_the_memory_limit_counts_the_inputs_of_both_networks(examples, tmp_path, calls, caplog):
    needed = len(examples) * (16 * 16 + 36 * 36) * 3 / 1e9
    open_images(examples, tmp_path, needed * 1.01)
    assert "decoded again" not in caplog.text
    open_images(examples, tmp_path, needed * 0.99)
    assert "decoded again" in caplog.text


def test_crops_are_rejected_with_proposals(examples, tmp_path, calls):
    images = open_images(examples, tmp_path)
    with pytest.raises(UserError, match=r"^crop: .*whole images, received 0\.5; set crop to 1\.$"):
        batches_of(images, crop=0.5)
    with pytest.raises(UserError, match=r"^crop: .*set crop to 1"):
        settings(tmp_path, regions="proposals", crop=0.9)


def test_proposal_view_uses_the_settings_of_the_configuration(tmp_path):
    configuration = settings(
        tmp_path, regions="proposals", image_size=64, proposals_size=80, proposals_fit="stretch"
    )
    view = proposal_view(configuration, tmp_path)
    assert view == ProposalView(ImageSettings(80, "stretch"), ProposalSettings(), tmp_path / "data")
    assert view.search.count >= configuration.test_proposals
    assert proposal_view(settings(tmp_path, regions="grid"), tmp_path) is None
    other = dataclasses.replace(configuration, proposal_method="selective_search")
    assert proposal_view(other, tmp_path).search == ProposalSettings(method="selective_search")
