"""Selective search: it finds objects, always in the same order, and has its own cache."""

import cv2
import numpy as np
import pytest

from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings, propose
from keras_aoa.data.proposals.selective_search import ranked, selective_search
from keras_aoa.utils.errors import UserError

SEARCH = ProposalSettings(method="selective_search")
OBJECTS = {"red": (10, 12, 50, 60), "green": (70, 30, 110, 90), "blue": (20, 70, 60, 110)}


@pytest.fixture(scope="module")
def picture():
    """Three rectangles of 120 x 140 pixels; x0, y0, x1, y1 in `OBJECTS`."""
    image = np.full((120, 140, 3), 200, np.uint8)
    for channel, (x0, y0, x1, y1) in enumerate(OBJECTS.values()):
        image[y0:y1, x0:x1] = 30
        image[y0:y1, x0:x1, channel] = 240
    return image


def overlap(box, other):
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - both)


def test_each_object_has_a_box(picture):
    boxes = propose(picture, SEARCH)
    assert boxes.dtype == np.float32 and (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0 and boxes.max() <= 1
    for box in OBJECTS.values():
        wanted = np.array(box) / (140, 120, 140, 120)
        assert max(overlap(each, wanted) for each in boxes) > 0.85


def test_the_boxes_of_an_image_are_always_the_same_in_the_same_order(picture):
    first = selective_search(picture)
    selective_search(picture[::-1].copy())  # moves the generator that OpenCV uses
    assert len(first) > 5
    np.testing.assert_array_equal(selective_search(picture), first)
    few = propose(picture, ProposalSettings(count=3, method="selective_search"))
    np.testing.assert_array_equal(few, propose(picture, SEARCH)[:3])


def test_the_order_is_that_of_random_numbers_times_the_position_by_area():
    random = np.random.default_rng(1)
    boxes = np.concatenate([np.zeros((40, 2), int), random.integers(1, 99, (40, 2))], axis=1)
    largest = sorted(boxes.tolist(), key=lambda box: (-box[2] * box[3], box[2], box[3]))
    numbers = np.random.default_rng(0).random(40)
    ranks = {tuple(box): numbers[i] * (i + 1) for i, box in enumerate(largest)}
    expected = sorted(ranks, key=ranks.get)
    assert [tuple(box) for box in ranked(boxes).tolist()] == expected
    np.testing.assert_array_equal(ranked(boxes[::-1]), ranked(boxes))


def test_an_image_without_segments_or_too_narrow_has_its_whole_as_the_only_box():
    for shape in ((40, 60, 3), (8, 300, 3)):
        image = np.full(shape, 90, np.uint8)
        np.testing.assert_array_equal(selective_search(image), [[0, 0, 1, 1]])


def test_each_method_has_its_own_cache(picture, tmp_path):
    path = str(tmp_path / "picture.png")
    cv2.imwrite(path, picture[:, :, ::-1])
    caches = [ProposalCache(tmp_path / "data", each) for each in (ProposalSettings(), SEARCH)]
    assert caches[0].folder != caches[1].folder
    # The folder in which earlier versions stored EdgeBoxes.
    assert caches[0].folder.name == "proposals-726f1dabe817"
    assert caches[1].extract([path]) == []
    (boxes,) = caches[1].read([path])
    np.testing.assert_allclose(boxes / 65535, propose(picture, SEARCH), atol=1e-6)


def test_unknown_methods_and_an_edge_model_are_refused_in_one_line():
    with pytest.raises(
        UserError, match="expected edge_boxes or selective_search as the method, rec"
    ):
        ProposalSettings(method="windows")
    with pytest.raises(
        UserError, match="expected no edge model with method 'selective_search', rec"
    ):
        ProposalSettings(edge_model="forest.yml", method="selective_search")
