"""Heat maps: spreading the weights of regions over pixels."""

import numpy as np
import pytest

from keras_aoa.visualization.heat_map import heat_map

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def upright(x0, y0, x1, y1):
    return np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]], float)


def grid(rows, columns):
    y, x = np.mgrid[:rows, :columns]
    return (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + SQUARE) / (columns, rows)


def quadrilaterals(count, seed, middle, radius):
    """Random convex quadrilaterals: corners on a circle, sorted by angle."""
    rng = np.random.default_rng(seed)
    angles = np.pi / 2 * np.arange(4) + rng.uniform(0.1, 1.4, (count, 4))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return rng.uniform(*middle, (count, 1, 2)) + rng.uniform(*radius, (count, 1, 1)) * circle


def sampled_heat(corners, height, width, finer=40):
    """A region's share of each pixel, estimated by sample points to the right of all its edges."""
    y, x = (np.mgrid[: height * finer, : width * finer] + 0.5) / finer
    points = corners * (width, height)
    inside = np.ones(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) >= (y1 - y0) * (x - x0)
    (a, b), (c, d) = points[2] - points[0], points[3] - points[1]
    area = abs(a * d - b * c) / 2
    return inside.reshape(height, finer, width, finer).mean(axis=(1, 3)) / area


@pytest.mark.parametrize("seed", range(6))
def test_a_pixels_heat_is_the_area_that_the_region_covers(seed):
    corners = quadrilaterals(1, seed, middle=(0, 1), radius=(0.3, 0.9))
    np.testing.assert_allclose(
        heat_map([1], corners, 9, 12), sampled_heat(corners[0], 9, 12), atol=2e-4
    )


def test_the_map_sums_to_the_weights_of_regions_inside():
    corners = quadrilaterals(50, 0, middle=(0.3, 0.7), radius=(0.01, 0.3))
    weights = np.random.default_rng(1).dirichlet(np.ones(50), 3)
    heat = heat_map(weights, corners, 17, 31)
    np.testing.assert_allclose(heat.sum(axis=(1, 2)), 1)
    assert heat.min() > -1e-12


def test_equal_weights_on_a_grid_are_constant_on_any_map():
    heat = heat_map(np.full(35, 1 / 35), grid(5, 7), 12, 16)
    np.testing.assert_allclose(heat, 1 / (12 * 16))


def test_one_region_spreads_its_weight_evenly_over_its_inside_only():
    heat = heat_map([0.6], upright(0.25, 0.5, 0.75, 1), 4, 8)
    expected = np.zeros((4, 8))
    expected[2:, 2:6] = 0.6 / 8
    np.testing.assert_allclose(heat, expected, atol=1e-15)


def test_a_region_partly_outside_loses_only_the_weight_outside():
    heat = heat_map([1], upright(-0.5, 0.25, 0.5, 0.75), 4, 4)
    expected = np.zeros((4, 4))
    expected[1:3, :2] = 1 / 8
    np.testing.assert_allclose(heat, expected, atol=1e-15)


@pytest.mark.parametrize("edges", [(-2, 0, -1, 1), (0, 1, 1, 2), (5, 5, 6, 6)])
def test_a_region_entirely_outside_leaves_the_map_zero(edges):
    assert not heat_map([1], upright(*edges), 4, 4).any()


def test_clockwise_and_counterclockwise_corners_give_the_same_map():
    corners = quadrilaterals(5, 2, middle=(0, 1), radius=(0.1, 0.6))
    weights = np.arange(1, 6)
    np.testing.assert_allclose(
        heat_map(weights, corners[:, ::-1], 8, 8), heat_map(weights, corners, 8, 8), atol=1e-12
    )


def test_overlapping_regions_add_up_and_words_do_not_mix():
    corners = quadrilaterals(3, 3, middle=(0.4, 0.6), radius=(0.3, 0.5))
    weights = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
    single = np.stack([heat_map([1], corners[region : region + 1], 6, 6) for region in range(3)])
    np.testing.assert_allclose(
        heat_map(weights, corners, 6, 6), np.einsum("wr,rij->wij", weights, single)
    )


def test_a_region_without_area_is_ignored():
    flat = upright(0.2, 0.2, 0.8, 0.2)
    assert not heat_map([1], flat, 4, 4).any()


def test_a_thin_region_keeps_its_weight():
    np.testing.assert_allclose(heat_map([1], upright(0.4, 0, 0.4 + 1e-6, 1), 4, 4).sum(), 1)


def test_without_regions_the_map_is_zero():
    assert heat_map(np.zeros((2, 0)), np.zeros((0, 4, 2)), 3, 5).shape == (2, 3, 5)
