"""Tests of the drawn pictures: objects are visible and distinguishable."""

import collections

import numpy as np
import pytest

from keras_aoa.data.scenes import draw, layout, shapes
from keras_aoa.data.scenes.backgrounds import HIDDEN_COLORS, TEXTURED, TINTS, paint_background


@pytest.fixture(scope="module")
def drawn():
    return [layout.draw_scene(96, np.random.default_rng([1, index])) for index in range(150)]


def test_scenes_have_every_shape_color_size_texture_relation_and_background(drawn):
    things = [thing for scene, _ in drawn for thing in scene.things]
    assert {thing.shape for thing in things} == set(shapes.SHAPES)
    assert {thing.color for thing in things} == set(draw.COLORS)
    assert {thing.size for thing in things} == set(layout.RADIUS)
    assert {thing.texture for thing in things} == set(draw.TEXTURES)
    assert {scene.relation for scene, _ in drawn} == set(layout.RELATIONS)
    assert {scene.background for scene, _ in drawn} == {*TEXTURED, *TINTS}


def test_objects_of_a_scene_differ_in_shape_or_color_and_stand_out_from_the_background(drawn):
    for scene, _ in drawn:
        assert len({(thing.shape, thing.color) for thing in scene.things}) == len(scene.things)
        assert not {thing.color for thing in scene.things} & HIDDEN_COLORS[scene.background]


def test_boxes_are_inside_the_picture_and_size_classes_do_not_overlap(drawn):
    longest = collections.defaultdict(list)
    for scene, _ in drawn:
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            if scene.relation != "behind":
                longest[thing.shape, thing.size].append(max(x1 - x0, y1 - y0))
    for shape in shapes.SHAPES:
        for smaller, larger in (("small", "medium"), ("medium", "big")):
            assert max(longest[shape, smaller]) < min(longest[shape, larger])


def test_the_center_of_a_plain_object_has_its_color(drawn):
    seen = 0
    for scene, picture in drawn:
        for thing in scene.things[2:]:
            if thing.texture == "plain" and thing.shape in ("heart", "triangle", "square", "star"):
                x0, y0, x1, y1 = thing.box
                x, y = int(48 * (x0 + x1)), int(48 * (y0 + y1))
                pixel = picture[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
                distance = {name: np.abs(pixel - rgb).sum() for name, rgb in draw.COLORS.items()}
                assert min(distance, key=distance.get) == thing.color
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("background", HIDDEN_COLORS)
def test_allowed_object_colors_differ_from_the_background(background):
    own = paint_background(background, 96, np.random.default_rng(0)).mean(axis=(0, 1))
    for name in set(draw.COLORS) - HIDDEN_COLORS[background]:
        assert np.abs(own - draw.COLORS[name]).sum() > 100


def test_covered_and_carrying_objects_are_painted_first():
    rng = np.random.default_rng(0)
    orders = collections.Counter()
    for _ in range(150):
        if (attempt := layout._attempt("grey", 96, rng)) is not None:
            scene, painted = attempt
            lower = scene.things[scene.first if scene.relation == "behind" else 1 - scene.first]
            assert (painted[0].shape, painted[0].color) == (lower.shape, lower.color)
            orders[scene.relation] += 1
    assert set(orders) == set(layout.RELATIONS)


def test_only_what_is_not_covered_counts_as_visible():
    plans = [layout._Plan("square", "red", "plain", "big") for _ in range(2)]
    for plan, x in zip(plans, (10, 20), strict=True):
        plan.sprite = draw.Sprite(np.zeros((20, 20, 3)), np.ones((20, 20)))
        plan.x = plan.y = x
    back, front = layout._visible(plans, 64)
    assert (back.sum(), front.sum()) == (300, 400)
    assert layout._box(front) == (20 / 64, 20 / 64, 40 / 64, 40 / 64)
