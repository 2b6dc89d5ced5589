"""Outlines of the objects: each shape is a list of parts, and later parts cover earlier parts.

A part consists of a role and a polygon. A polygon is a `(points, 2)` array of (x, y) around the
origin. y points down, and the distance of a point from the origin is at most about 1.
"""

import numpy as np

HOLE, BODY, DARK, LIGHT, INK = range(5)
Part = tuple[int, np.ndarray]


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return _polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def _circle(x: float, y: float, radius: float) -> np.ndarray:
    return _ellipse(x, y, radius, radius)


def _star() -> np.ndarray:
    angle = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.48, 1.1)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _heart() -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(angle) ** 3
    y = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    return np.stack([x, -y - 2.5], axis=1) / 16


def _moon() -> np.ndarray:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 40)
    inner = np.linspace(1.65 * np.pi, 0.35 * np.pi, 40)
    return np.concatenate(
        [
            np.stack([np.cos(outer) + 0.2, np.sin(outer)], axis=1),
            np.stack([0.75 * np.cos(inner) + 0.55, 0.75 * np.sin(inner)], axis=1),
        ]
    )


def _petals() -> list[Part]:
    angle = np.arange(5) * 2 * np.pi / 5
    return [(BODY, _circle(0.56 * np.sin(a), -0.56 * np.cos(a), 0.46)) for a in angle]


SHAPES: dict[str, list[Part]] = {
    "ball": [(BODY, _circle(0, 0, 0.95))],
    "square": [(BODY, _rectangle(-0.85, -0.85, 0.85, 0.85))],
    "triangle": [(BODY, _polygon((0, -0.95), (1.05, 0.85), (-1.05, 0.85)))],
    "star": [(BODY, _star())],
    "heart": [(BODY, _heart())],
    "ring": [(BODY, _circle(0, 0, 1.05)), (HOLE, _circle(0, 0, 0.65))],
    "cross": [(BODY, _rectangle(-0.33, -1, 0.33, 1)), (BODY, _rectangle(-1, -0.33, 1, 0.33))],
    "moon": [(BODY, _moon())],
    "flower": [*_petals(), (INK, _circle(0, 0, 0.38)), (LIGHT, _circle(0, 0, 0.31))],
    "tree": [
        (INK, _rectangle(-0.16, 0.5, 0.16, 1.05)),
        (BODY, _polygon((0, -0.35), (0.9, 0.65), (-0.9, 0.65))),
        (BODY, _polygon((0, -1.1), (0.68, 0.05), (-0.68, 0.05))),
    ],
    "house": [
        (BODY, _rectangle(-0.75, -0.2, 0.75, 0.95)),
        (DARK, _polygon((0, -1.05), (1.05, -0.1), (-1.05, -0.1))),
        (LIGHT, _rectangle(-0.2, 0.3, 0.2, 0.95)),
    ],
    "fish": [
        (BODY, _polygon((0.35, 0), (1.1, -0.6), (1.1, 0.6))),
        (BODY, _ellipse(-0.25, 0, 0.85, 0.58)),
        (LIGHT, _circle(-0.68, -0.14, 0.17)),
        (INK, _circle(-0.71, -0.14, 0.08)),
    ],
    "boat": [
        (DARK, _polygon((-1.05, 0.4), (1.05, 0.4), (0.65, 0.9), (-0.65, 0.9))),
        (INK, _rectangle(-0.06, -1, 0.06, 0.4)),
        (BODY, _polygon((0.06, -1), (0.9, 0.25), (0.06, 0.25))),
        (BODY, _polygon((-0.06, -0.75), (-0.06, 0.25), (-0.7, 0.25))),
    ],
    "table": [
        (DARK, _rectangle(-0.9, -0.4, -0.66, 0.85)),
        (DARK, _rectangle(0.66, -0.4, 0.9, 0.85)),
        (BODY, _rectangle(-1.1, -0.8, 1.1, -0.3)),
    ],
    "cup": [
        (DARK, _circle(0.6, -0.1, 0.48)),
        (HOLE, _circle(0.6, -0.1, 0.24)),
        (BODY, _polygon((-0.85, -0.8), (0.6, -0.8), (0.42, 0.85), (-0.67, 0.85))),
        (LIGHT, _ellipse(-0.125, -0.78, 0.7, 0.16)),
    ],
    "car": [
        (BODY, _polygon((-0.6, -0.1), (-0.35, -0.7), (0.4, -0.7), (0.65, -0.1))),
        (BODY, _polygon((-1.1, 0.5), (-1.1, -0.05), (-0.9, -0.15), (1, -0.15), (1.1, 0.5))),
        (LIGHT, _polygon((-0.4, -0.15), (-0.24, -0.52), (0, -0.52), (0, -0.15))),
        (LIGHT, _polygon((0.12, -0.15), (0.12, -0.52), (0.3, -0.52), (0.44, -0.15))),
        (INK, _circle(-0.55, 0.5, 0.27)),
        (INK, _circle(0.55, 0.5, 0.27)),
    ],
}


def outline(shape: str, rotation: float, mirrored: bool) -> list[Part]:
    """Return the parts of a shape, optionally mirrored, then rotated by `rotation` radians."""
    cosine, sine = np.cos(rotation), np.sin(rotation)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    flip = np.array([-1.0 if mirrored else 1.0, 1.0])
    return [(role, (points * flip) @ turn) for role, points in SHAPES[shape]]
