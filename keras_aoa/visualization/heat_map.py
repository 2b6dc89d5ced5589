"""Computes heat maps of region weights from the exact area of each region in each pixel."""

import numpy as np

SMALLEST = 1e-9


def heat_map(weights, corners, height, width):
    """Spread each region's weight evenly over its area, and return the weight of each pixel.

    Args:
        weights: Weights of the regions, `(..., r)`.
        corners: Corners of convex regions, `(r, 4, 2)`, relative (0..1) to the map. The corners of
            a region are in clockwise or counterclockwise order. Regions may overlap and may lie
            partly or entirely outside the map.
        height, width: Size of the map in pixels.

    Returns:
        Weights of the pixels, a float64 array `(..., height, width)`. The sum over all pixels is
        the weight that lies inside the map. Regions without area are ignored.
    """
    weights = np.asarray(weights, np.float64)
    corners = np.asarray(corners, np.float64) * (width, height)
    heat = np.zeros((*weights.shape[:-1], height, width))
    for region, area in enumerate(signed_areas(corners)):
        if abs(area) < SMALLEST:
            continue
        points = corners[region]
        left, top = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int)
        rows, columns = np.arange(top, bottom + 1), np.arange(left, right + 1)
        share = signed_coverage(points, rows, columns) / area
        heat[..., top:bottom, left:right] += weights[..., region, None, None] * share
    return heat


def signed_areas(corners):
    """Return areas `(…,)` of polygons `(…, 4, 2)`.

    An area is positive if the corners are in clockwise order. The y axis points down.
    """
    x, y = corners[..., 0], corners[..., 1]
    next_x, next_y = np.roll(x, -1, axis=-1), np.roll(y, -1, axis=-1)
    return (x * next_y - next_x * y).sum(axis=-1) / 2


def signed_coverage(points, ys, xs):
    """Return the area of polygons inside each cell of a grid, with the sign of `signed_areas`.

    Within a row of cells, an edge runs from x = `near` to x = `far` and changes y by
    `first - last`. The area right of the edge and left of X is `first - last` times the mean of
    max(X - x, 0) along the edge. Between `near` and `far`, the mean is quadratic in X. The sum
    over the polygon's edges is the area inside the polygon and left of X.

    Args:
        points: Corners of polygons, `(…, 4, 2)`.
        ys, xs: Boundaries of the grid's rows and columns, ascending.

    Returns:
        Areas `(…, len(ys) - 1, len(xs) - 1)`.
    """
    x, y = points[..., 0, None], points[..., 1, None]
    next_x, next_y = np.roll(x, -1, axis=-2), np.roll(y, -1, axis=-2)
    first, last = np.clip(y, ys[:-1], ys[1:]), np.clip(next_y, ys[:-1], ys[1:])
    level = np.abs(next_y - y) < SMALLEST
    slope = np.where(level, 0, next_x - x) / np.where(level, 1, next_y - y)
    ends = np.stack([x + (first - y) * slope, x + (last - y) * slope])
    near, far = ends.min(axis=0)[..., None], ends.max(axis=0)[..., None]
    within = np.clip(xs - near, 0, far - near) ** 2 / (2 * np.maximum(far - near, SMALLEST))
    right_of_edge = (first - last)[..., None] * (within + np.maximum(xs - far, 0))
    return np.diff(right_of_edge.sum(axis=-3), axis=-1)
