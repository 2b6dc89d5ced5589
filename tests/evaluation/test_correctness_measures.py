"""Attention correctness on cases calculated by hand."""

import numpy as np
import pytest

from keras_aoa.data.text.mentions import Mention
from keras_aoa.evaluation.correctness_measures import (
    COLUMNS,
    MEASURES,
    ImageRegions,
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
    """Return the corners of cells, row by row, `(side ** 2, 4, 2)`."""
    steps = np.arange(side) / side
    return np.array([rectangle(x, y, x + 1 / side, y + 1 / side) for y in steps for x in steps])


def measured(weights, corners, boxes):
    weights, corners = np.array([weights], float), np.array(corners, float)
    measures = measure(weights, attention_maps(weights, corners), corners, boxes)
    assert list(measures) == list(MEASURES)
    return {name: values.item() for name, values in measures.items()}


def test_attention_that_fills_exactly_the_box_is_perfect():
    measures = measured(np.eye(16)[6], grid(4), [(0.5, 0.25, 0.75, 0.5)])
    assert measures == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    two = (np.eye(16)[0] + np.eye(16)[6]) / 2
    union = [(0.0, 0.0, 0.25, 0.25), (0.5, 0.25, 0.75, 0.5)]
    assert measured(two, grid(4), union) == pytest.approx(dict.fromkeys(MEASURES, 1.0))


def test_attention_outside_the_box_scores_zero():
    measures = measured(np.eye(16)[6], grid(4), [(0.0, 0.0, 0.25, 1.0)])
    assert measures == dict.fromkeys(MEASURES, 0.0)


@pytest.mark.parametrize("box", [(0.25, 0.0, 1.0, 0.5), (0.125, 0.125, 0.25, 0.875)])
def test_uniform_attention_on_a_grid_scores_the_share_of_the_image_in_the_box(box):
    share = (box[2] - box[0]) * (box[3] - box[1])
    measures = measured(uniform_attention(np.ones(16, bool)), grid(4), [box])
    for name in ("region", "pixel", "pointing"):
        assert measures[name] == pytest.approx(share)
    assert measures["localization"] == 0.0  # the box of the map is the whole image
    assert measured(np.full(16, 1 / 16), grid(4), [(0, 0, 1, 0.6)])["localization"] == 1.0


def test_pixel_correctness_counts_large_regions_more():
    corners = [rectangle(0, 0, 1, 1), rectangle(0, 0, 0.25, 1)]
    measures = measured([0.5, 0.5], corners, [(0, 0, 0.25, 1)])
    assert measures["region"] == pytest.approx(0.5 * 1 / 4 + 0.5)
    # In both regions, the part in the box is a quarter of the image.
    assert measures["pixel"] == pytest.approx((0.125 + 0.125) / (0.5 + 0.125))


def test_only_pixel_correctness_ignores_attention_outside_the_input():
    corners = [rectangle(-0.5, 0, 0.5, 1), rectangle(0.5, 0, 1, 1)]
    measures = measured([0.5, 0.5], corners, [(0, 0, 0.5, 1)])
    assert measures["region"] == pytest.approx(0.25)
    assert measures["pixel"] == pytest.approx(0.5)
    # The same holds for the part of a box outside the network input.
    assert measured([0.5, 0.5], corners, [(-0.5, 0, 0.5, 1)])["region"] == pytest.approx(0.5)
    assert measured([0.5, 0.5], corners, [(-0.5, 0, 0.5, 1)])["pixel"] == pytest.approx(0.5)
    outside = measured([1.0], [rectangle(1, 0, 2, 1)], [(0, 0, 1, 1)])
    assert outside == dict.fromkeys(MEASURES, 0.0)


def test_pointing_is_the_share_of_tied_maxima_inside_the_boxes():
    heat = np.zeros((4, 4))
    heat[1, 1:3] = 2.0
    heat[3, 3] = 1.9
    assert pointing(heat, [(0, 0, 0.5, 0.5)]) == 0.5
    assert pointing(heat, [(0, 0, 0.5, 0.5), (0.5, 0.25, 0.75, 0.5)]) == 1.0
    assert pointing(heat, [(0.75, 0.75, 1, 1)]) == 0.0


def test_the_box_of_a_map_surrounds_its_largest_part_above_a_fifth_of_the_maximum():
    heat = np.zeros((10, 20))
    heat[1, 1] = 10.0
    heat[4:7, 8:12] = 2.1
    heat[7, 12] = 2.0  # connected by a corner
    heat[4:7, 12:16] = 1.9
    np.testing.assert_allclose(box_of_map(heat), [8 / 20, 4 / 10, 13 / 20, 8 / 10])


def test_overlap_of_boxes():
    assert overlap((0, 0, 0.5, 0.5), (0.25, 0, 0.75, 0.5)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0.0
    assert overlap((0, 0, 0.5, 1), (0, 0, 0.5, 1)) == pytest.approx(1.0)


def test_localization_compares_each_box_and_not_their_union():
    weights = np.zeros(16)
    weights[[0, 1]] = 0.5
    measures = measured(weights, grid(4), [(0, 0, 0.25, 0.25), (0.25, 0, 0.5, 0.25)])
    assert measures["region"] == pytest.approx(1.0)
    assert measures["localization"] == 1.0  # each is exactly half of the map's box
    measures = measured(weights, grid(4), [(0, 0, 0.2, 0.25), (0.2, 0, 0.4, 0.25)])
    assert measures["localization"] == 0.0


def test_the_center_prior_is_a_gaussian_of_the_regions_centers():
    corners = np.array([rectangle(0.4, 0.4, 0.6, 0.6), rectangle(0.1, 0.0, 0.4, 1.0)] * 2)
    weights = center_attention(corners, np.array([True, True, False, True]))
    edge = np.exp(-(0.25**2) / (2 * 0.25**2))
    np.testing.assert_allclose(weights, np.array([1, edge, 0, edge]) / (1 + 2 * edge))
    np.testing.assert_array_equal(uniform_attention(np.array([True, False])), [1.0, 0.0])


CELLS = np.array([rectangle(x, 0, x + 0.25, 1) for x in (0.0, 0.25, 0.5, 0.75)])
ATTENTION = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.4, 0.1], [0.25, 0.05, 0.1, 0.6], [0.05, 0.85, 0.05, 0.05]]
)


def tallied(*captions, window=WINDOW, mask=(True,) * 4):
    tally = Tally()
    # Each caption's attention is that of the previous caption, shifted by one region.
    attention = np.stack([np.roll(ATTENTION, number, axis=1) for number in range(len(captions))])
    tally.add_captions(ImageRegions(CELLS, np.array(mask), window), attention, captions)
    return tally.content()


def test_columns_use_the_state_that_predicts_the_word_or_the_next_state():
    first, last = Mention(0, ((0, 0, 0.25, 1),)), Mention(2, ((0.5, 0, 0.875, 1),))
    measures = tallied([first, last])
    assert measures["model"]["region"] == pytest.approx((0.7 + (0.1 + 0.6 / 2)) / 2)
    assert measures["model_after_word"]["region"] == pytest.approx((0.2 + (0.05 + 0.05 / 2)) / 2)
    assert measures["uniform"]["region"] == pytest.approx((1 / 4 + 1.5 / 4) / 2)
    assert measures["model"]["pointing"] == pytest.approx((1.0 + 0.5) / 2)
    assert measures["model_after_word"]["pointing"] == 0.0
    assert (measures["words"], measures["captions"], measures["captions_without_match"]) == (
        2,
        1,
        0,
    )
    assert set(COLUMNS) < set(measures)


def test_model_phrase_takes_the_best_word_of_the_phrase_for_each_measure():
    box, other = (0, 0, 0.25, 1), (0.25, 0, 0.5, 1)
    measures = tallied([Mention(1, (box,), 2)])
    assert measures["model_phrase"]["region"] == pytest.approx(0.7)
    assert measures["model_phrase"]["pointing"] == 1.0
    assert (
        measures["model"]["region"] == pytest.approx(0.2) and measures["model"]["pointing"] == 0.0
    )
    # States before and after the phrase predict other words and do not count.
    assert tallied([Mention(2, (other,), 2)])["model_phrase"]["region"] == pytest.approx(0.3)
    single = tallied([Mention(1, (box,))], [Mention(2, (other,))])
    assert single["model_phrase"] == single["model"]
    # In the second caption the regions are shifted: 0.1, 0.7, 0.1, 0.1 and 0.1, 0.2, 0.3, 0.4.
    measures = tallied([Mention(1, (box,), 2), Mention(2, (other,))], [Mention(1, (other,), 2)])
    assert measures["model_phrase"]["region"] == pytest.approx((0.7 + 0.05 + 0.7) / 3)
    assert measures["model_after_word"]["region"] == pytest.approx((0.25 + 0.85 + 0.25) / 3)


def test_means_are_over_words_of_all_captions():
    ball = Mention(0, ((0, 0, 0.25, 1),))
    measures = tallied([ball], [ball, Mention(1, ((0, 0, 0.25, 1),))])
    assert measures["model"]["region"] == pytest.approx((0.7 + 0.1 + 0.1) / 3)


def test_words_that_cannot_be_measured_are_counted_and_omitted_from_the_means():
    absent, outside = Mention(0, ()), Mention(1, ((0.0, 0.0, 0.2, 1.0),))
    inside = Mention(0, ((0.25, 0, 0.4, 1),))
    measures = tallied([], [absent, outside], [absent, inside], window=(0.25, 0.0, 0.75, 1.0))
    counts = {name: measures[name] for name in measures if name not in COLUMNS}
    assert counts == {
        "words": 1,
        "captions": 3,
        "captions_without_match": 2,
        "nouns_not_in_image": 2,
        "words_out_of_view": 1,
    }
    # In the network input, the box reaches from 0 to 0.3. The third caption's weights are 0.1, 0.1,
    # 0.7 and 0.1.
    assert measures["model"]["region"] == pytest.approx(0.1 + 0.1 * 0.05 / 0.25, abs=1e-6)
    assert tallied([])["model"] == dict.fromkeys(MEASURES)


def test_priors_give_padding_no_weight():
    measures = tallied([Mention(0, ((0, 0, 0.25, 1),))], mask=(True, True, False, False))
    assert measures["uniform"]["region"] == pytest.approx(1 / 2)
    near, far = (np.exp(-(d**2) / (2 * 0.25**2)) for d in (0.125, 0.375))
    assert measures["center_prior"]["region"] == pytest.approx(far / (near + far))
