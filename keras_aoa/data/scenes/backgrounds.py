"""Paints the backgrounds of drawn scenes."""

import cv2
import numpy as np
from numpy.random import Generator

TINTS: dict[str, tuple[int, int, int]] = {
    "pink": (250, 214, 224),
    "yellow": (250, 240, 190),
    "green": (208, 236, 205),
    "blue": (205, 225, 246),
    "purple": (224, 212, 242),
    "grey": (196, 198, 202),
}
# Colors that objects on each background may not have.
HIDDEN_COLORS: dict[str, frozenset[str]] = {
    "grass": frozenset({"green"}),
    "sand": frozenset({"yellow", "brown"}),
    "water": frozenset({"blue"}),
    "night": frozenset({"black", "blue"}),
    "sky": frozenset({"blue", "white"}),
    "snow": frozenset({"white"}),
    "brick": frozenset({"red", "brown", "orange"}),
    "wood": frozenset({"brown", "orange"}),
    "tiles": frozenset({"white"}),
} | {tint: frozenset({tint, "white"}) for tint in TINTS}
TEXTURED = ("grass", "sand", "water", "night", "sky", "snow", "brick", "wood", "tiles")


def _flat(size: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.full((size, size, 3), color, dtype=np.float64)


def _clouds(size: int, cell: float, rng: Generator) -> np.ndarray:
    """Return smooth noise of about -1..1; a blob's width is `cell` times the side."""
    coarse = rng.uniform(-1, 1, size=(int(1 / cell) + 2,) * 2)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _strokes(size: int, count: int, length: float, tilt: float, rng: Generator) -> np.ndarray:
    """Return strokes from -1 (dark) to 1 (light); a stroke's length is `length` times the side."""
    canvas = np.full((2 * size, 2 * size), 128, dtype=np.uint8)
    start = rng.uniform(0, 2 * size, size=(count, 2))
    step = np.stack([rng.normal(0, tilt, count), -np.ones(count)], axis=1) * length * 2 * size
    for (x0, y0), (x1, y1), shade in zip(
        start, start + step, rng.integers(30, 226, count), strict=True
    ):
        cv2.line(canvas, (int(x0), int(y0)), (int(x1), int(y1)), int(shade), 2, cv2.LINE_AA)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float64) / 128 - 1


def _grass(size: int, rng: Generator) -> np.ndarray:
    shade = 0.5 * _strokes(size, 420, 0.07, 0.4, rng) + 0.3 * _clouds(size, 0.3, rng)
    return _flat(size, (104, 172, 74)) + shade[..., None] * (38, 48, 30)


def _sand(size: int, rng: Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    ripples = np.sin(2 * np.pi * (7 * y + 0.8 * np.sin(5 * x + rng.uniform(0, 6))))
    grain = rng.normal(0, 0.6, size=(size, size))
    return _flat(size, (230, 203, 150)) + (6 * ripples + 8 * grain)[..., None]


def _water(size: int, rng: Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    bend = 0.12 * np.sin(2 * np.pi * (3 * x + rng.uniform())) + 0.05 * _clouds(size, 0.2, rng)
    crests = np.clip(np.sin(2 * np.pi * (9 * y + 3 * bend)) - 0.55, 0, 1) / 0.45
    return _flat(size, (56, 140, 190)) + crests[..., None] * (70, 60, 45)


def _night(size: int, rng: Generator) -> np.ndarray:
    y = np.linspace(0, 1, size)[:, None, None]
    picture = _flat(size, (18, 22, 58)) + y * (22, 20, 40)
    for x, row in rng.integers(1, size - 1, size=(38, 2)):
        picture[row, x] = rng.uniform(170, 255)
    return picture


def _sky(size: int, rng: Generator) -> np.ndarray:
    y = np.linspace(0, 1, size)[:, None, None]
    picture = _flat(size, (110, 175, 238)) + y * (70, 40, 12)
    cover = np.clip(1.6 * _clouds(size, 0.22, rng) - 0.2, 0, 1)[..., None]
    return picture * (1 - 0.85 * cover) + 0.85 * cover * 252


def _snow(size: int, rng: Generator) -> np.ndarray:
    drifts = _clouds(size, 0.4, rng)[..., None] * (10, 7, 3)
    return _flat(size, (232, 239, 248)) + drifts + rng.normal(0, 4, size=(size, size, 1))


def _grid(
    size: int, rows: int, columns: int, shifted: bool, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's brick index, and the share of the pixel that is a joint (0..1)."""
    position = ((np.arange(2 * size) + 0.5) / (2 * size)).astype(np.float32)
    v = position[:, None] * rows + rng.uniform()
    u = position[None, :] * columns + rng.uniform() + (0.5 * (np.floor(v) % 2) if shifted else 0)
    index = (np.floor(v[::2]) * 31 + np.floor(u[:: 2 if shifted else 1, ::2]) * 17).astype(int) % 97
    joint = (np.abs(v % 1 - 0.5) > 0.5 - 0.007 * rows) | (
        np.abs(u % 1 - 0.5) > 0.5 - 0.007 * columns
    )
    joint = cv2.resize(joint.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return index, joint[..., None]


def _brick(size: int, rng: Generator) -> np.ndarray:
    index, joint = _grid(size, 10, 5, True, rng)
    shade = rng.uniform(-16, 16, size=97)[index][..., None]
    bricks = _flat(size, (170, 88, 68)) + shade
    return bricks * (1 - joint) + joint * (205, 190, 178)


def _wood(size: int, rng: Generator) -> np.ndarray:
    index, joint = _grid(size, 6, 1, False, rng)
    grain = cv2.resize(rng.uniform(-1, 1, size=(size, 4)), (size, size))
    shade = (rng.uniform(-14, 14, size=97)[index] + 8 * grain)[..., None]
    boards = _flat(size, (192, 142, 90)) + shade
    return boards * (1 - joint) + joint * (105, 70, 40)


def _tiles(size: int, rng: Generator) -> np.ndarray:
    index, joint = _grid(size, 5, 5, False, rng)
    tiles = _flat(size, (190, 200, 204)) + rng.uniform(-7, 7, size=97)[index][..., None]
    return tiles * (1 - joint) + joint * (138, 148, 154)


_PAINTERS = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "night": _night,
    "sky": _sky,
    "snow": _snow,
    "brick": _brick,
    "wood": _wood,
    "tiles": _tiles,
}


def choose_background(rng: Generator) -> str:
    """Return a random background: a texture with probability 2/3, otherwise a tint."""
    names = TEXTURED if rng.random() < 2 / 3 else tuple(TINTS)
    return str(rng.choice(names))


def paint_background(name: str, size: int, rng: Generator) -> np.ndarray:
    """Paint a background `(size, size, 3)` in RGB, with values of about 0..255."""
    if name in TINTS:
        y, x = np.mgrid[:size, :size] / size - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        slope = 24 * (x * np.cos(angle) + y * np.sin(angle))
        return _flat(size, TINTS[name]) + slope[..., None]
    return _PAINTERS[name](size, rng)
