"""Tests of the object proposals of an image, with and without an edge model."""

import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rectangles import RECTANGLES, SETTINGS, check, draw, forest, overlap

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.data.proposals import cache as proposals
from keras_aoa.data.proposals.cache import ONE, ProposalSettings, boxes_as_floats, propose
from keras_aoa.data.proposals.edge_boxes import edge_boxes, gradient_edges
from keras_aoa.utils.errors import UserError


@pytest.mark.parametrize("scale", [1, 7])
def test_bright_rectangles_are_among_the_first_boxes(scale):
    picture = np.kron(draw(), np.ones((scale, scale, 1), np.uint8))
    boxes = propose(picture, SETTINGS)
    check(boxes, 200)
    for box in RECTANGLES:
        assert overlap(np.array(box) / (120, 90, 120, 90), boxes[:5]).max() > 0.85


def test_rectangles_that_differ_only_in_color_are_found():
    # Both colors have nearly the same gray, so that edges of brightness would not show them.
    picture = np.full((90, 120, 3), (200, 60, 60), np.uint8)
    picture[20:60, 30:80] = (60, 131, 60)
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert np.ptp(gray) <= 3
    assert (
        overlap((30 / 120, 20 / 90, 80 / 120, 60 / 90), propose(picture, SETTINGS)[:5]).max() > 0.8
    )


def test_an_object_of_low_contrast_is_found():
    picture = np.full((90, 120, 3), 100, np.uint8)
    picture[20:60, 30:80] = 130
    box = (30 / 120, 20 / 90, 80 / 120, 60 / 90)
    assert overlap(box, propose(picture, SETTINGS)[:5]).max() > 0.8


def test_fewer_boxes_are_the_first_of_many():
    picture = draw()
    many = propose(picture, ProposalSettings(count=150))
    assert len(many) > 20
    for count in (1, 7, 20):
        np.testing.assert_array_equal(propose(picture, ProposalSettings(count=count)), many[:count])


def test_closed_strong_contours_come_before_small_parts():
    boxes = propose(draw(), SETTINGS)
    best = [overlap(np.array(box) / (120, 90, 120, 90), boxes) for box in RECTANGLES]
    good = np.max(best, axis=0)
    assert good[:2].min() > 0.7 > good[-20:].max()


def test_boxes_do_not_depend_on_previous_images():
    rng = np.random.default_rng(0)
    others = [rng.integers(0, 256, (60, 80, 3)).astype(np.uint8), draw({(5, 5, 60, 60): (0, 0, 0)})]
    picture = draw()
    first = propose(picture, SETTINGS)
    for other in others:
        assert not np.array_equal(propose(other, SETTINGS)[:5], first[:5])
        np.testing.assert_array_equal(propose(picture, SETTINGS), first)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (2, 2), (3, 90), (1, 40000), (64, 2), (65, 2), (16, 16)]
)
@pytest.mark.parametrize("content", ["gray", "noise", "step"])
def test_every_image_shape_yields_valid_boxes(shape, content):
    image = np.full((*shape, 3), 128, np.uint8)
    if content == "noise":
        image = np.random.default_rng(1).integers(0, 256, image.shape).astype(np.uint8)
    if content == "step":
        image[shape[0] // 2 :, shape[1] // 2 :] = 255
    boxes = propose(image, SETTINGS)
    check(boxes, 200)
    if content == "gray":
        np.testing.assert_array_equal(boxes, [[0, 0, 1, 1]])


def test_objects_are_found_in_tiny_and_in_tall_images():
    tiny = np.full((16, 16, 3), 90, np.uint8)
    tiny[4:11, 5:13] = 240
    assert overlap((5 / 16, 4 / 16, 13 / 16, 11 / 16), propose(tiny, SETTINGS)[:5]).max() > 0.7
    tall = np.full((600, 30, 3), 90, np.uint8)
    tall[200:222, 5:25] = (250, 230, 20)
    boxes = propose(tall, SETTINGS)
    check(boxes, 200)
    assert overlap((5 / 30, 200 / 600, 25 / 30, 222 / 600), boxes[:5]).max() > 0.7


def test_boxes_of_large_images_survive_fixed_point():
    large = np.kron(draw(), np.ones((30, 30, 1), np.uint8))
    boxes = propose(large, SETTINGS)
    check(boxes, 200)
    scaled = np.rint(boxes.astype(np.float64) * ONE)
    np.testing.assert_array_equal(boxes_as_floats(scaled.astype(np.uint16)), boxes)


def test_boxes_are_rounded_outward_and_keep_an_area(monkeypatch):
    left = 0.3001  # not halfway between two fixed-point numbers
    exact = np.array([[left, 0.2, left + 1e-9, 0.9], [left, 0.2, left + 2e-9, 0.9], [0, 0, 1, 1]])
    monkeypatch.setattr(proposals.edges, "edge_boxes", lambda image, model: exact)
    boxes = propose(draw(), SETTINGS)
    check(boxes, 200)
    assert len(boxes) == 2
    np.testing.assert_allclose(boxes, exact[[0, 2]], atol=1.01 / ONE)
    assert boxes[0, 0] <= left < boxes[0, 2] and boxes[0, 1] <= 0.2 and boxes[0, 3] >= 0.9


@pytest.mark.parametrize("size", [256, 512, 100])
def test_sides_of_boxes_pass_through_the_centers_of_edge_pixels(monkeypatch, size):
    """OpenCV counts pixels from 1: x 41 is the 41st of 256 pixels, whose center is at 40.5."""
    finder = SimpleNamespace(getBoundingBoxes=lambda *_: ([[41, 21, 80, 60], [1, 1, 255, 255]],))
    monkeypatch.setattr(cv2.ximgproc, "createEdgeBoxes", lambda **_: finder)
    boxes = edge_boxes(np.zeros((size, size, 3), np.uint8))
    expected = [[40.5, 20.5, 120.5, 80.5], [0.5, 0.5, 255.5, 255.5]]
    np.testing.assert_allclose(boxes * 256, expected, atol=1e-9)


def test_direction_is_across_the_edge():
    for angle in (20, 70, 110, 160):
        y, x = np.mgrid[:80, :80] - 40
        side = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle)) > 0
        edges, across = gradient_edges(np.repeat(side[:, :, None] * np.uint8(200), 3, axis=2))
        assert set(np.unique(edges)) == {0, 1}
        middle = across[20:60, 20:60][edges[20:60, 20:60] > 0]
        assert len(middle) > 20
        np.testing.assert_allclose(np.degrees(np.median(middle)), angle, atol=4)


def test_recall_on_drawn_scenes(tmp_path):
    from keras_aoa.data.scenes import ScenesSettings, prepare

    scenes = prepare(tmp_path, ScenesSettings(seed=11, train=1, val=40, test=1)).splits["val"]
    recalled, objects = np.zeros(2), 0
    for example in scenes:
        boxes = propose(read_image(example.path), SETTINGS)
        for thing in example.objects:
            overlaps = overlap(thing.box, boxes[:50])
            recalled += overlaps.max() >= np.array([0.5, 0.7])
            objects += 1
    half, most = recalled / objects
    assert half > 0.9 and most > 0.8


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 10001, 2.0, True, "9"])
def test_counts_out_of_range_are_rejected_in_one_line(count):
    with pytest.raises(
        UserError, match=r"proposals: expected a number of boxes from 1 to 10000"
    ) as e:
        ProposalSettings(count=count)
    assert repr(count) in str(e.value) and "\n" not in str(e.value)


def test_missing_model_file_is_a_one_line_error(tmp_path):
    for path in (tmp_path / "none.yml.gz", tmp_path):
        with pytest.raises(UserError, match="proposals: expected a structured-forest model") as e:
            ProposalSettings(edge_model=str(path))
        assert str(path) in str(e.value) and "\n" not in str(e.value)


OTHER_FILES = {
    "text": b"hello",
    "empty": b"",
    "binary": bytes(range(256)),
    "other yaml": b"%YAML:1.0\n---\na: 1\n",
    "options of another kind": b"%YAML:1.0\n---\noptions: [1, 2]\n",
    "no trees": b"%YAML:1.0\n---\noptions:\n   stride: 2\n   numberOfTrees: 0\n",
}


@pytest.mark.parametrize("content", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_file_that_is_not_a_model_is_a_one_line_error_without_a_crash(tmp_path, content):
    # Use a separate process, because OpenCV divides by zero on some of these files.
    (tmp_path / "model.yml").write_bytes(content)
    code = (
        "import sys, numpy as np\n"
        "from keras_aoa.data.proposals.cache import *\n"
        "from keras_aoa.utils.errors import UserError\n"
        "settings = ProposalSettings(edge_model=sys.argv[1])\n"
        "try: propose(np.zeros((50, 50, 3), np.uint8), settings)\n"
        "except UserError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.yml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("proposals: expected a structured-forest model for OpenCV")
    assert run.stdout.count("\n") == 1 and "model.yml" in run.stdout


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "forest.yml"
    path.write_text(forest(0.8))
    return path


def test_edges_from_a_model_file_yield_boxes(model):
    settings = ProposalSettings(count=200, edge_model=str(model))
    boxes = propose(draw(), settings)
    check(boxes, 200)
    for box in RECTANGLES:
        assert overlap(np.array(box) / (120, 90, 120, 90), boxes[:10]).max() > 0.7
    assert not np.array_equal(boxes[:10], propose(draw(), SETTINGS)[:10])
    for shape in ((1, 1), (64, 2), (40, 1280), (33, 1000)):
        check(propose(draw({}, *shape), settings), 200)


def test_a_replaced_model_file_is_loaded_again(model):
    settings = ProposalSettings(count=200, edge_model=str(model))
    assert len(propose(draw(), settings)) > 1
    model.write_text(forest(1e6))
    np.testing.assert_array_equal(propose(draw(), settings), [[0, 0, 1, 1]])
