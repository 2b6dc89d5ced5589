"""Paints objects as small antialiased sprites, and pastes them on a background."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from keras_aoa.data.scenes.shapes import BODY, DARK, INK, LIGHT, outline

SUPERSAMPLING = 3  # sprites are painted this many times larger, then averaged

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 25),
    "yellow": (248, 214, 45),
    "green": (50, 160, 60),
    "blue": (40, 90, 215),
    "purple": (135, 60, 175),
    "pink": (248, 140, 190),
    "brown": (125, 75, 40),
    "white": (246, 246, 246),
    "black": (38, 38, 42),
}
SECOND, RIM = 5, 6  # further roles of pixels: the texture's second color, and the outline
TEXTURES = ("plain", "striped", "dotted", "checked")


@dataclass(frozen=True)
class Sprite:
    """A painted object, cropped to its bounding box.

    Attributes:
        color: Array `(height, width, 3)` of RGB in 0..255, already multiplied by `alpha`.
        alpha: Array `(height, width)` of opacities in 0..1.
    """

    color: np.ndarray
    alpha: np.ndarray


def _pattern(
    texture: str, x: np.ndarray, y: np.ndarray, pitch: float, rng: Generator
) -> np.ndarray:
    """Return a mask of a texture's second color; the texture repeats after `pitch` in x or y."""
    # Stripes are never horizontal, because a single stripe could cover the whole top of a table.
    angle = rng.choice([0.0, 0.25, 0.75]) * np.pi if texture == "striped" else 0.0
    u = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / pitch + rng.uniform()
    if texture == "striped":
        return u % 1 < 0.42
    v = y / pitch + rng.uniform()
    if texture == "checked":
        return (u % 1 < 0.5) ^ (v % 1 < 0.5)
    u = u + 0.5 * (np.floor(v) % 2)
    return (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.3**2


def make_sprite(
    shape: str, color: str, texture: str, radius: float, level: bool, rng: Generator
) -> Sprite:
    """Paint an object of `radius` pixels, without random rotation if `level` is true."""
    side = SUPERSAMPLING * (2 * int(np.ceil(radius * 1.3)) + 4)
    rotation = 0.0 if level else rng.uniform(-0.18, 0.18)
    roles = np.zeros((side, side), dtype=np.uint8)
    for role, points in outline(shape, rotation, mirrored=rng.random() < 0.5):
        corners = np.round(points * radius * SUPERSAMPLING + side / 2).astype(np.int32)
        cv2.fillPoly(roles, [corners], role)
    solid = (roles > 0).astype(np.uint8)
    grown = cv2.dilate(
        solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SUPERSAMPLING - 1,) * 2)
    )

    position = ((np.arange(side) - side / 2) / (radius * SUPERSAMPLING)).astype(np.float32)
    x, y = position[None, :], position[:, None]
    if texture != "plain":
        second = _pattern(texture, x, y, rng.uniform(0.5, 0.62), rng)
        roles[second & (roles == BODY)] = SECOND
    roles[grown > solid] = RIM

    base = np.array(COLORS[color]) * rng.uniform(0.92, 1.08, size=3)
    palette = np.zeros((7, 3))
    palette[BODY], palette[DARK], palette[RIM] = base, base * 0.68, base * 0.3
    palette[LIGHT], palette[INK] = (250, 226, 160), (60, 48, 42)
    palette[SECOND] = (150, 160, 185) if color == "white" else (250, 248, 240)
    painted = np.clip(palette, 0, 255).astype(np.uint8)[roles]
    small = (side // SUPERSAMPLING, side // SUPERSAMPLING)
    pixels = cv2.resize(painted, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = cv2.resize(grown * np.float32(1), small, interpolation=cv2.INTER_AREA)

    x, y = x[:, SUPERSAMPLING // 2 :: SUPERSAMPLING], y[SUPERSAMPLING // 2 :: SUPERSAMPLING]
    shade = 1.06 - 0.12 * (x + y)
    if shape == "ball":
        shade += 0.35 * np.exp(-((x + 0.35) ** 2 + (y + 0.38) ** 2) / 0.08)
    pixels = np.minimum(pixels * shade[..., None], 255)
    x0, y0, width, height = cv2.boundingRect((alpha > 0.05).astype(np.uint8))
    window = np.s_[y0 : y0 + height, x0 : x0 + width]
    return Sprite(pixels[window], alpha[window])


def paste(picture: np.ndarray, sprite: Sprite, x: int, y: int) -> None:
    """Paste a sprite and its soft shadow into `picture (height, width, 3)`, which is changed."""
    height, width = sprite.alpha.shape
    offset = max(1, round(picture.shape[0] / 64))
    shadow = np.zeros(picture.shape[:2], dtype=np.float32)
    shadow[y : y + height, x : x + width] = sprite.alpha
    shadow = cv2.warpAffine(
        shadow, np.float64([[1, 0, offset], [0, 1, offset]]), shadow.shape[::-1]
    )
    shadow = cv2.GaussianBlur(shadow, (0, 0), offset)
    picture *= (1 - 0.3 * shadow)[..., None]
    window = picture[y : y + height, x : x + width]
    window *= (1 - sprite.alpha)[..., None]
    window += sprite.color


def light(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """Add uneven lighting and sensor noise to a picture; return 8-bit RGB."""
    size = picture.shape[0]
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.22) * (x * np.cos(angle) + y * np.sin(angle))
    lit = picture * (rng.uniform(0.9, 1.08) + slope)[..., None]
    return (
        np.clip(lit + 4 * rng.standard_normal(picture.shape, dtype=np.float32), 0, 255)
        .round()
        .astype(np.uint8)
    )
