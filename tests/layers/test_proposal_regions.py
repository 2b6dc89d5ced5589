"""`ProposalRegions`: the maximum over each box, padding, and images without proposals."""

import itertools

import backends
import keras
import numpy as np
import pytest
from backends import compiled
from cases import normal
from keras import ops

from keras_aoa.layers import ProposalRegions

WHOLE = [0, 0, 1, 1]
PADDING = [0.3, 0.4, 0.3, 0.9]

sizes = pytest.mark.parametrize("size", [(5, 7), (1, 1), (40, 3)])


def covered(start, end, count):
    """Cells whose centers lie in `start`..`end`; if there are none, the cell at the middle."""
    cells = [cell for cell in range(count) if start <= (cell + 0.5) / count < end]
    middle = int(np.floor((start + end) / 2 * count))
    return cells or [min(max(middle, 0), count - 1)]


def cells_of(box, rows, columns):
    x0, y0, x1, y1 = (float(side) for side in box)
    return np.ix_(covered(y0, y1, rows), covered(x0, x1, columns))


def definition(activations, proposals):
    """Features, boxes and mask by definition, box by box."""
    images, rows, columns, features = activations.shape
    count = proposals.shape[1]
    actual, corners = np.zeros((images, count, features)), np.zeros((images, count, 4, 2))
    mask = np.zeros((images, count), bool)
    for n in range(images):
        boxes = proposals[n].copy()
        mask[n] = [x1 > x0 and y1 > y0 for x0, y0, x1, y1 in boxes]
        if not mask[n].any():
            boxes[0], mask[n, 0] = WHOLE, True
        for r, (x0, y0, x1, y1) in enumerate(boxes):
            corners[n, r] = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            if mask[n, r]:
                patch = activations[n][cells_of(boxes[r], rows, columns)]
                actual[n, r] = patch.max(axis=(0, 1))
    return actual, corners, mask


def random_proposals(images=2, count=60):
    """Boxes inside, partly outside and fully outside; thin, tiny, whole, and without area."""
    random = np.random.default_rng(5)
    start = random.uniform(-0.3, 1, (images, count, 2))
    extent = random.uniform(0, 0.9, (images, count, 2)) ** random.integers(1, 9, (images, count, 2))
    boxes = np.concatenate([start, start + extent], axis=-1)
    boxes[0, 1:8] = [
        WHOLE,
        PADDING,
        [-3, -2, 4, 5],
        [0.8, 0.2, 0.4, 0.6],
        [0, 0, 0, 0],
        [1.2, -0.9, 1.3, -0.1],
        [1e10, -3e10, 2e10, -1e10],
    ]
    return boxes.astype("float32")


def check(regions, expected, tolerance=0):
    for part, other in zip(backends.to_numpy(regions), expected, strict=True):
        np.testing.assert_allclose(part, other, 0, tolerance)


@sizes
def test_a_box_is_max_pooled_over_its_cells(size):
    activations, proposals = normal(2, *size, 3), random_proposals()
    check(
        compiled(ProposalRegions(dtype="float64"))(activations, proposals),
        definition(activations, proposals),
    )


def test_boxes_that_share_an_edge_do_not_share_cells():
    activations = normal(1, 1, 4, 1)
    edges = [0, 0.125, 0.375, 0.625, 1]  # the inner edges lie on cell centers
    proposals = np.array([[[a, 0, b, 1] for a, b in itertools.pairwise(edges)]])
    actual = backends.to_numpy(compiled(ProposalRegions(dtype="float64"))(activations, proposals))[
        0
    ]
    first, second, third, fourth = activations[0, 0, :, 0]
    np.testing.assert_array_equal(actual[0, :, 0], [first, first, second, max(third, fourth)])


def test_an_image_without_proposals_has_one_region():
    activations = normal(4, 5, 7, 3)
    proposals = np.zeros((4, 3, 4))
    proposals[1, 2] = [0.1, 0.2, 0.5, 0.9]
    proposals[2] = [PADDING, [0.5, 0.5, 0.2, 0.9], [np.nan] * 4]
    proposals[3, 0] = [0.5, 0.1, 0.8, 0.2]
    layer = ProposalRegions(dtype="float64")
    features, boxes, mask = backends.to_numpy(compiled(layer)(activations, proposals))
    np.testing.assert_array_equal(mask, [[1, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    for n in (0, 2):
        np.testing.assert_array_equal(features[n, 0], activations[n].max(axis=(0, 1)))
        np.testing.assert_array_equal(boxes[n, 0], [(0, 0), (1, 0), (1, 1), (0, 1)])
    np.testing.assert_array_equal(features[mask == 0], 0)
    np.testing.assert_array_equal(features[1, 2], activations[1, 1:4, 1:3].max(axis=(0, 1)))


def test_only_boxes_over_the_brightest_cell_contain_its_value():
    activations = np.zeros((1, 6, 8, 1), "float32")
    activations[0, 4, 1] = 9
    boxes = [[0, 0.5, 0.25, 1], [1 / 8, 4 / 6, 2 / 8, 5 / 6], [0.25, 0, 1, 1], [0, 0, 1, 4 / 6]]
    actual = backends.to_numpy(
        compiled(ProposalRegions())(activations, np.array([boxes], "float32"))
    )[0]
    np.testing.assert_array_equal(actual[0, :, 0], [9, 9, 0, 0])


def test_a_functional_model_accepts_maps_of_any_size():
    inputs = [keras.Input((None, None, 3)), keras.Input((None, 4))]
    symbolic = ProposalRegions()(*inputs)
    shapes = [(None, None, 3), (None, None, 4, 2), (None, None)]
    assert [tuple(part.shape) for part in symbolic] == shapes
    model = keras.Model(inputs, list(symbolic))
    proposals = random_proposals()
    for size in ((40, 3), (3, 40), (1, 1), (7, 9), (256, 2)):
        activations = normal(2, *size, 3, dtype="float32")
        expected = definition(activations, proposals)
        check(model.predict([activations, proposals], verbose=0), expected)


def expected_gradient(upstream, activations, proposals):
    """Routes each box's upstream gradient to the cell with the box's maximum."""
    gradient = np.zeros_like(activations)
    for n, r, f in np.ndindex(upstream.shape):
        x0, y0, x1, y1 = proposals[n, r]
        if x1 > x0 and y1 > y0:
            rows, columns = cells_of(proposals[n, r], *activations.shape[1:3])
            cells = [(row, column) for row in rows.ravel() for column in columns.ravel()]
            best = max(cells, key=lambda cell: activations[(n, *cell, f)])
            gradient[(n, *best, f)] += upstream[n, r, f]
    return gradient


@pytest.mark.parametrize("beside", [0.0, np.nan, np.inf])
def test_gradients_flow_only_to_the_maximum_and_not_through_padding(beside):
    activations, proposals = normal(2, 5, 7, 3), random_proposals(count=12).astype("float64")
    if beside:
        start, extent = np.random.default_rng(6).uniform(0.02, 0.4, (2, 2, 12, 2))
        proposals = np.concatenate([start + 0.33, start + 0.33 + extent], axis=-1)
        activations[:, 0] = beside
        activations[:, :, 0] = beside
    proposals[:, -3:] = [PADDING, [0, 0, 0, 0], [0.5, 0.5, 0.2, 0.9]]
    upstream = normal(2, 12, 3, seed=2)
    layer = ProposalRegions(dtype="float64")

    def loss(activations):
        return ops.sum(ops.multiply(upstream, layer(activations, proposals).features))

    (actual,) = backends.gradients(loss, [activations])
    expected = expected_gradient(upstream, activations, proposals)
    assert np.count_nonzero(expected) > 20
    np.testing.assert_allclose(actual, expected, 0, 1e-13)


def test_thousands_of_boxes_match_the_definition():
    activations, proposals = normal(2, 19, 25, 4, dtype="float32"), random_proposals(2, 2000)
    check(compiled(ProposalRegions())(activations, proposals), definition(activations, proposals))


@pytest.mark.parametrize(
    ("dtype", "policy"), [("bfloat16", "mixed_{}"), ("float16", "mixed_{}"), ("bfloat16", "{}")]
)
def test_half_precision_keeps_boxes_in_float32(dtype, policy):
    activations = ops.convert_to_numpy(ops.cast(ops.cast(normal(2, 9, 60, 3), dtype), "float32"))
    proposals = random_proposals()
    regions = compiled(ProposalRegions(dtype=policy.format(dtype)))(activations, proposals)
    dtypes = [keras.backend.standardize_dtype(part.dtype) for part in regions]
    assert dtypes == [dtype, "float32", "bool"]
    regions = [ops.cast(part, "float32") for part in regions]
    check(regions, definition(activations, proposals))
