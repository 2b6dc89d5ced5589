"""Attention correctness on cases worked out by hand."""

import numpy as np
import pytest

from keras_aoa.data.text.mentions import Mention
from keras_aoa.evaluation.correctness_measures import (
    COLUMNS,
    MEASURES,
    Picture,
    Tally,
    attention_maps,
    box_of_map,
    center_attention,
    measure,
    overlap,
    pointing,
    uniform_attention,
)

WINDOW = (0.0, 0.0, 1.0, 1.0)


def rectangle(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def grid(side):
    """Corners of cells by rows, `(side ** 2, 4, 2)`."""
    steps = np.arange(side) / side
    return np.array([rectangle(x, y, x + 1 / side, y + 1 / side) for y in steps for x in steps])


def measured(weights, corners, boxes):
    weights, corners = np.array([weights], float), np.array(corners, float)
    found = measure(weights, attention_maps(weights, corners), corners, boxes)
    assert list(found) == list(MEASURES)
    return {name: values.item() for name, values in found.items()}


def test_attention_on_the_whole_box_and_nothing_else_is_perfect():
    found = measured(np.eye(16)[6], grid(4), [(0.5, 0.25, 0.75, 0.5)])
    assert found == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    two = (np.eye(16)[0] + np.eye(16)[6]) / 2
    union = [(0.0, 0.0, 0.25, 0.25), (0.5, 0.25, 0.75, 0.5)]
    assert measured(two, grid(4), union) == pytest.approx(dict.fromkeys(MEASURES, 1.0))


def test_attention_on_other_regions_is_nothing():
    found = measured(np.eye(16)[6], grid(4), [(0.0, 0.0, 0.25, 1.0)])
    assert found == dict.fromkeys(MEASURES, 0.0)


@pytest.mark.parametrize("box", [(0.25, 0.0, 1.0, 0.5), (0.125, 0.125, 0.25, 0.875)])
def test_equal_weights_of_a_grid_are_the_share_of_the_image_that_the_box_covers(box):
    share = (box[2] - box[0]) * (box[3] - box[1])
    found = measured(uniform_attention(np.ones(16, bool)), grid(4), [box])
    for name in ("region", "pixel", "pointing"):
        assert found[name] == pytest.approx(share)
    assert found["localization"] == 0.0  # the map's own box is the whole image
    assert measured(np.full(16, 1 / 16), grid(4), [(0, 0, 1, 0.6)])["localization"] == 1.0


def test_large_regions_count_more_by_pixels():
    corners = [rectangle(0, 0, 1, 1), rectangle(0, 0, 0.25, 1)]
    found = measured([0.5, 0.5], corners, [(0, 0, 0.25, 1)])
    assert found["region"] == pytest.approx(0.5 * 1 / 4 + 0.5)
    # Of both the part in the box is a quarter of the image; the first spreads over all of it.
    assert found["pixel"] == pytest.approx((0.125 + 0.125) / (0.5 + 0.125))


def test_what_lies_outside_of_the_image_is_cut_off_by_pixels_alone():
    corners = [rectangle(-0.5, 0, 0.5, 1), rectangle(0.5, 0, 1, 1)]
    found = measured([0.5, 0.5], corners, [(0, 0, 0.5, 1)])
    assert found["region"] == pytest.approx(0.25)
    assert found["pixel"] == pytest.approx(0.5)
    # So is what of the box the network does not see.
    assert measured([0.5, 0.5], corners, [(-0.5, 0, 0.5, 1)])["region"] == pytest.approx(0.5)
    assert measured([0.5, 0.5], corners, [(-0.5, 0, 0.5, 1)])["pixel"] == pytest.approx(0.5)
    outside = measured([1.0], [rectangle(1, 0, 2, 1)], [(0, 0, 1, 1)])
    assert outside == dict.fromkeys(MEASURES, 0.0)


def test_a_region_half_in_the_box_shares_its_maximum():
    heat = np.zeros((4, 4))
    heat[1, 1:3] = 2.0
    heat[3, 3] = 1.9
    assert pointing(heat, [(0, 0, 0.5, 0.5)]) == 0.5
    assert pointing(heat, [(0, 0, 0.5, 0.5), (0.5, 0.25, 0.75, 0.5)]) == 1.0
    assert pointing(heat, [(0.75, 0.75, 1, 1)]) == 0.0


def test_the_maps_box_is_around_its_largest_part_above_a_fifth_of_the_maximum():
    heat = np.zeros((10, 20))
    heat[1, 1] = 10.0
    heat[4:7, 8:12] = 2.1
    heat[7, 12] = 2.0  # touches by its corner
    heat[4:7, 12:16] = 1.9
    np.testing.assert_allclose(box_of_map(heat), [8 / 20, 4 / 10, 13 / 20, 8 / 10])


def test_overlap_of_boxes():
    assert overlap((0, 0, 0.5, 0.5), (0.25, 0, 0.75, 0.5)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0.0
    assert overlap((0, 0, 0.5, 1), (0, 0, 0.5, 1)) == pytest.approx(1.0)


def test_two_boxes_are_found_one_by_one_not_as_their_union():
    weights = np.zeros(16)
    weights[[0, 1]] = 0.5
    found = measured(weights, grid(4), [(0, 0, 0.25, 0.25), (0.25, 0, 0.5, 0.25)])
    assert found["region"] == pytest.approx(1.0)
    assert found["localization"] == 1.0  # each is just half of the map's box
    found = measured(weights, grid(4), [(0, 0, 0.2, 0.25), (0.2, 0, 0.4, 0.25)])
    assert found["localization"] == 0.0


def test_the_center_prior_is_a_gaussian_over_the_regions_centers():
    corners = np.array([rectangle(0.4, 0.4, 0.6, 0.6), rectangle(0.1, 0.0, 0.4, 1.0)] * 2)
    found = center_attention(corners, np.array([True, True, False, True]))
    edge = np.exp(-(0.25**2) / (2 * 0.25**2))
    np.testing.assert_allclose(found, np.array([1, edge, 0, edge]) / (1 + 2 * edge))
    np.testing.assert_array_equal(uniform_attention(np.array([True, False])), [1.0, 0.0])


CELLS = np.array([rectangle(x, 0, x + 0.25, 1) for x in (0.0, 0.25, 0.5, 0.75)])
ATTENTION = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.4, 0.1], [0.25, 0.05, 0.1, 0.6], [0.05, 0.85, 0.05, 0.05]]
)


def tallied(*captions, window=WINDOW, mask=(True,) * 4):
    tally = Tally()
    # Each caption has attention of its own: that of the one before, regions exchanged.
    attention = np.stack([np.roll(ATTENTION, number, axis=1) for number in range(len(captions))])
    tally.add_captions(Picture(CELLS, np.array(mask), window), attention, captions)
    return tally.content()


def test_a_words_attention_is_that_of_its_state_or_of_the_next_by_convention():
    first, last = Mention(0, ((0, 0, 0.25, 1),)), Mention(2, ((0.5, 0, 0.875, 1),))
    found = tallied([first, last])
    assert found["model"]["region"] == pytest.approx((0.7 + (0.1 + 0.6 / 2)) / 2)
    assert found["model_after_word"]["region"] == pytest.approx((0.2 + (0.05 + 0.05 / 2)) / 2)
    assert found["uniform"]["region"] == pytest.approx((1 / 4 + 1.5 / 4) / 2)
    assert found["model"]["pointing"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["model_after_word"]["pointing"] == 0.0
    assert (found["words"], found["captions"], found["captions_without_match"]) == (2, 1, 0)
    assert set(COLUMNS) < set(found)


def test_the_best_word_of_a_phrase_counts_for_it_by_each_measure():
    box, other = (0, 0, 0.25, 1), (0.25, 0, 0.5, 1)
    found = tallied([Mention(1, (box,), 2)])
    assert found["model_phrase"]["region"] == pytest.approx(0.7)
    assert found["model_phrase"]["pointing"] == 1.0
    assert found["model"]["region"] == pytest.approx(0.2) and found["model"]["pointing"] == 0.0
    # A state after the phrase, which predicts another word, does not count, nor one before it.
    assert tallied([Mention(2, (other,), 2)])["model_phrase"]["region"] == pytest.approx(0.3)
    alone = tallied([Mention(1, (box,))], [Mention(2, (other,))])
    assert alone["model_phrase"] == alone["model"]
    # In the second caption the regions are exchanged: 0.1, 0.7, 0.1, 0.1 and 0.1, 0.2, 0.3, 0.4.
    found = tallied([Mention(1, (box,), 2), Mention(2, (other,))], [Mention(1, (other,), 2)])
    assert found["model_phrase"]["region"] == pytest.approx((0.7 + 0.05 + 0.7) / 3)
    assert found["model_after_word"]["region"] == pytest.approx((0.25 + 0.85 + 0.25) / 3)


def test_means_are_over_words_of_all_captions():
    ball = Mention(0, ((0, 0, 0.25, 1),))
    found = tallied([ball], [ball, Mention(1, ((0, 0, 0.25, 1),))])
    assert found["model"]["region"] == pytest.approx((0.7 + 0.1 + 0.1) / 3)


def test_what_cannot_be_measured_is_counted_and_no_zero():
    absent, unseen = Mention(0, ()), Mention(1, ((0.0, 0.0, 0.2, 1.0),))
    shown = Mention(0, ((0.25, 0, 0.4, 1),))
    found = tallied([], [absent, unseen], [absent, shown], window=(0.25, 0.0, 0.75, 1.0))
    counts = {name: found[name] for name in found if name not in COLUMNS}
    assert counts == {
        "words": 1,
        "captions": 3,
        "captions_without_match": 2,
        "nouns_not_in_image": 2,
        "words_out_of_view": 1,
    }
    # In the half of the image that is seen the box reaches from 0 to 0.3; the third caption's
    # weights are 0.1, 0.1, 0.7, 0.1 there.
    assert found["model"]["region"] == pytest.approx(0.1 + 0.1 * 0.05 / 0.25, abs=1e-6)
    assert tallied([])["model"] == dict.fromkeys(MEASURES)


def test_padding_has_no_weight_in_priors():
    found = tallied([Mention(0, ((0, 0, 0.25, 1),))], mask=(True, True, False, False))
    assert found["uniform"]["region"] == pytest.approx(1 / 2)
    near, far = (np.exp(-(d**2) / (2 * 0.25**2)) for d in (0.125, 0.375))
    assert found["center_prior"]["region"] == pytest.approx(far / (near + far))
