"""Chooses the objects of a scene and their positions.

The first two objects, the pair, are near the center and have one clear spatial relation. Further
objects are placed around the pair. Further objects touch no other object and are at most as large
as the larger object of the pair.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from keras_aoa.data.scenes.backgrounds import HIDDEN_COLORS, choose_background, paint_background
from keras_aoa.data.scenes.draw import COLORS, TEXTURES, Sprite, light, make_sprite, paste
from keras_aoa.data.scenes.shapes import SHAPES

RADIUS = {"big": 0.188, "medium": 0.13, "small": 0.086}  # relative to the picture's side
RELATIONS = {"left": 0.36, "above": 0.26, "inside": 0.11, "on": 0.12, "under": 0.04, "behind": 0.11}
SIZES_OF_PAIR = (("big", "big"), ("big", "medium"), ("medium", "medium"), ("medium", "small"))


@dataclass(frozen=True)
class Thing:
    """A drawn object; `box` is x0, y0, x1, y1 of the object's visible part, in 0..1."""

    shape: str
    color: str
    texture: str
    size: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """The content of a picture.

    `relation` is where `things[first]` is relative to `things[1 - first]`, for example "left".
    """

    background: str
    things: tuple[Thing, ...]
    relation: str
    first: int


@dataclass
class _Plan:
    """An object to draw; the top left pixel of its sprite is at `x` and `y`."""

    shape: str
    color: str
    texture: str
    size: str
    sprite: Sprite | None = None
    x: int = 0
    y: int = 0

    @property
    def width(self) -> int:
        return self.sprite.alpha.shape[1]

    @property
    def height(self) -> int:
        return self.sprite.alpha.shape[0]


def _sizes(relation: str, first: int, rng: Generator) -> list[str]:
    """Return the sizes of all objects, beginning with the pair."""
    if relation in ("inside", "under"):
        pair = ["big", "big"]
        pair[first] = "small"
    elif relation == "on":
        pair = ["big", "big"]
        pair[first] = str(rng.choice(["medium", "small"]))
    elif relation == "behind":
        pair = [str(size) for size in rng.choice(["big", "medium"], size=2)]
    else:
        pair = list(SIZES_OF_PAIR[rng.choice(4, p=[0.3, 0.4, 0.15, 0.15])])
    if pair == ["medium", "small"]:
        return [*pair, "small"]
    others = rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25])
    third = str(rng.choice(["medium", "small"])) if others == 1 else "medium"
    return [*pair, third, *["small"] * (others - 1)]


def _plans(background: str, relation: str, first: int, rng: Generator) -> list[_Plan]:
    """Choose objects that often share a shape or a color, but never both."""
    colors = [color for color in COLORS if color not in HIDDEN_COLORS[background]]
    plans: list[_Plan] = []
    for index, size in enumerate(_sizes(relation, first, rng)):
        fixed = None
        if index == 1 - first:
            fixed = {"inside": "ring", "under": "table"}.get(relation)
            if relation == "on":
                fixed = str(rng.choice(["square", "table"]))
        while True:
            shape, color = fixed or str(rng.choice(list(SHAPES))), str(rng.choice(colors))
            if plans and rng.random() < 0.4:
                model = plans[rng.integers(len(plans))]
                if fixed or rng.random() < 0.5:
                    color = model.color
                else:
                    shape = model.shape
            if all((plan.shape, plan.color) != (shape, color) for plan in plans):
                break
        patterned = size != "small" and rng.random() < 0.5
        texture = str(rng.choice(TEXTURES[1:])) if patterned else "plain"
        plans.append(_Plan(shape, color, texture, size))
    return plans


def _place_pair(one: _Plan, two: _Plan, relation: str, size: int, rng: Generator) -> bool:
    """Place `one` relative to `two`, which is at the origin; return whether `one` fits."""
    jitter = rng.integers(-round(0.03 * size), round(0.03 * size) + 1, size=2)
    gap = rng.integers(round(0.03 * size), round(0.08 * size) + 1)
    middle_x, middle_y = (two.width - one.width) // 2, (two.height - one.height) // 2
    if relation == "left":
        one.x, one.y = -one.width - gap, middle_y + jitter[1]
    elif relation == "above":
        one.x, one.y = middle_x + jitter[0], -one.height - gap
    elif relation == "inside":
        one.x, one.y = middle_x, middle_y
    elif relation == "on":
        one.x, one.y = middle_x + jitter[0], 1 - one.height
        return one.width < 0.85 * two.width
    elif relation == "under":
        one.x, one.y = middle_x + jitter[0] // 2, two.height - one.height
    else:
        side = rng.choice([-1, 1])
        reach = rng.uniform(0.55, 0.8) * (one.width + two.width) / 2
        one.x, one.y = middle_x + round(side * reach), middle_y + jitter[1]
    return True


def _center_pair(pair: list[_Plan], size: int, rng: Generator) -> bool:
    """Move the pair near the center of the picture; return whether the pair fits."""
    for axis, extent in (("x", "width"), ("y", "height")):
        start = min(getattr(plan, axis) for plan in pair)
        length = max(getattr(plan, axis) + getattr(plan, extent) for plan in pair) - start
        room = size - length - 4
        if room < 0:
            return False
        shift = 2 + round(room * rng.uniform(0.15, 0.85)) - start
        for plan in pair:
            setattr(plan, axis, getattr(plan, axis) + shift)
    return True


def _place_other(plan: _Plan, placed: list[_Plan], size: int, rng: Generator) -> bool:
    """Place an object at a free position with a small margin; return whether the object fits."""
    margin = max(2, round(0.025 * size))
    for _ in range(60):
        plan.x = int(rng.integers(1, size - plan.width))
        plan.y = int(rng.integers(1, size - plan.height))
        if all(
            plan.x >= other.x + other.width + margin
            or other.x >= plan.x + plan.width + margin
            or plan.y >= other.y + other.height + margin
            or other.y >= plan.y + plan.height + margin
            for other in placed
        ):
            return True
    return False


def _visible(plans: list[_Plan], size: int) -> list[np.ndarray]:
    """Return a mask `(size, size)` in 0..1 of each object; later objects cover earlier objects."""
    masks: list[np.ndarray] = []
    for plan in plans:
        window = np.s_[plan.y : plan.y + plan.height, plan.x : plan.x + plan.width]
        for other in masks:
            other[window] *= 1 - plan.sprite.alpha
        mask = np.zeros((size, size))
        mask[window] = plan.sprite.alpha
        masks.append(mask)
    return masks


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / mask.shape[0]
    return tuple(round(float(edge), 4) for edge in edges)


def _attempt(background: str, size: int, rng: Generator) -> tuple[Scene, list[_Plan]] | None:
    relation = str(rng.choice(list(RELATIONS), p=list(RELATIONS.values())))
    first = int(rng.integers(2))
    plans = _plans(background, relation, first, rng)
    for index, plan in enumerate(plans):
        level = index < 2 and relation in ("on", "under")
        radius = RADIUS[plan.size] * size * rng.uniform(0.94, 1.06)
        plan.sprite = make_sprite(plan.shape, plan.color, plan.texture, radius, level, rng)
    one, two = plans[first], plans[1 - first]
    if not _place_pair(one, two, relation, size, rng) or not _center_pair(plans[:2], size, rng):
        return None
    for index in range(2, len(plans)):
        if not _place_other(plans[index], plans[:index], size, rng):
            return None
    # The object `first` is drawn in front of the other object, unless its relation is "behind".
    order = [first, 1 - first] if relation == "behind" else [1 - first, first]
    order += range(2, len(plans))
    painted = [plans[index] for index in order]
    masks = _visible(painted, size)
    if relation == "behind" and not 0.55 < masks[0].sum() / one.sprite.alpha.sum() < 0.85:
        return None
    boxes = {index: _box(mask > 0.5) for index, mask in zip(order, masks, strict=True)}
    things = tuple(
        Thing(plan.shape, plan.color, plan.texture, plan.size, boxes[index])
        for index, plan in enumerate(plans)
    )
    return Scene(background, things, relation, first), painted


def draw_scene(size: int, rng: Generator) -> tuple[Scene, np.ndarray]:
    """Draw a random scene; return the scene and its 8-bit RGB picture `(size, size, 3)`."""
    background = choose_background(rng)
    while (attempt := _attempt(background, size, rng)) is None:
        pass
    scene, painted = attempt
    picture = paint_background(background, size, rng)
    for plan in painted:
        paste(picture, plan.sprite, plan.x, plan.y)
    return scene, light(picture, rng)
