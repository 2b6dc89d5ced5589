"""Object proposals: what is found, in which order, of which files; the folder that keeps them."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from test_images import exif, insert

from keras_aoa.data import proposals
from keras_aoa.data.edges import gradient_edges
from keras_aoa.data.images import read_image
from keras_aoa.data.proposals import ONE, ProposalCache, ProposalSettings, boxes_as_floats, propose
from keras_aoa.errors import UserError

SETTINGS = ProposalSettings(count=200)
RECTANGLES = {  # x0, y0, x1, y1 in pixels of 120 x 90, and colour
    (12, 10, 44, 40): (250, 140, 130),
    (66, 30, 108, 78): (40, 220, 250),
}


def draw(rectangles=RECTANGLES, height=90, width=120):
    """Rectangles on faint noise, RGB."""
    picture = np.random.default_rng(3).integers(90, 110, (height, width, 3)).astype(np.uint8)
    for (x0, y0, x1, y1), colour in rectangles.items():
        picture[y0:y1, x0:x1] = colour
    return picture


def overlap(box, boxes):
    """Intersection over union of one box with each of `boxes`."""
    values = []
    for x0, y0, x1, y1 in boxes:
        width = max(0, min(x1, box[2]) - max(x0, box[0]))
        height = max(0, min(y1, box[3]) - max(y0, box[1]))
        areas = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1])
        values.append(width * height / (areas - width * height))
    return np.array(values)


def check(boxes, count):
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,)
    assert 1 <= len(boxes) <= count
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 0
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def write(path, picture, *options):
    assert cv2.imwrite(str(path), picture[:, :, ::-1], options)
    return str(path)


# --- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 7])
def test_bright_rectangles_are_among_the_first_boxes(scale):
    picture = np.kron(draw(), np.ones((scale, scale, 1), np.uint8))
    boxes = propose(picture, SETTINGS)
    check(boxes, 200)
    for box in RECTANGLES:
        assert overlap(np.array(box) / (120, 90, 120, 90), boxes[:5]).max() > 0.85


def test_rectangles_that_differ_in_colour_alone_are_found():
    # Both are (nearly) one grey: Canny's edges of brightness would not show them.
    picture = np.full((90, 120, 3), (200, 60, 60), np.uint8)
    picture[20:60, 30:80] = (60, 131, 60)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert np.ptp(grey) <= 3
    assert (
        overlap((30 / 120, 20 / 90, 80 / 120, 60 / 90), propose(picture, SETTINGS)[:5]).max() > 0.8
    )


def test_an_object_hardly_brighter_than_its_ground_is_found():
    picture = np.full((90, 120, 3), 100, np.uint8)
    picture[20:60, 30:80] = 130
    box = (30 / 120, 20 / 90, 80 / 120, 60 / 90)
    assert overlap(box, propose(picture, SETTINGS)[:5]).max() > 0.8


def test_fewer_boxes_are_the_first_of_more():
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


def test_same_image_gives_the_same_boxes_whatever_came_before():
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
@pytest.mark.parametrize("content", ["grey", "noise", "step"])
def test_no_shape_of_image_upsets_it(shape, content):
    image = np.full((*shape, 3), 128, np.uint8)
    if content == "noise":
        image = np.random.default_rng(1).integers(0, 256, image.shape).astype(np.uint8)
    if content == "step":
        image[shape[0] // 2 :, shape[1] // 2 :] = 255
    boxes = propose(image, SETTINGS)
    check(boxes, 200)
    if content == "grey":
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


def test_large_images_take_bounded_time_and_fixed_point_keeps_every_box():
    large = np.kron(draw(), np.ones((30, 30, 1), np.uint8))
    boxes = propose(large, SETTINGS)
    check(boxes, 200)
    scaled = np.rint(boxes.astype(np.float64) * ONE)
    np.testing.assert_array_equal(boxes_as_floats(scaled.astype(np.uint16)), boxes)


def test_rounding_goes_outward_and_leaves_no_box_empty(monkeypatch):
    left = 0.3001  # not half-way between two numbers of fixed point
    exact = np.array([[left, 0.2, left + 1e-9, 0.9], [left, 0.2, left + 2e-9, 0.9], [0, 0, 1, 1]])
    monkeypatch.setattr(proposals.edges, "edge_boxes", lambda image, model: exact)
    boxes = propose(draw(), SETTINGS)
    check(boxes, 200)
    assert len(boxes) == 2
    np.testing.assert_allclose(boxes, exact[[0, 2]], atol=1.01 / ONE)
    assert boxes[0, 0] <= left < boxes[0, 2] and boxes[0, 1] <= 0.2 and boxes[0, 3] >= 0.9


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
    found, objects = np.zeros(2), 0
    for example in scenes:
        boxes = propose(read_image(example.path), SETTINGS)
        for thing in example.objects:
            overlaps = overlap(thing.box, boxes[:50])
            found += overlaps.max() >= np.array([0.5, 0.7])
            objects += 1
    half, most = found / objects
    assert half > 0.9 and most > 0.8


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 10001, 2.0, True, "9"])
def test_counts_out_of_range_are_refused_in_one_line(count):
    with pytest.raises(
        UserError, match=r"proposals: expected a count of boxes from 1 to 10000"
    ) as e:
        ProposalSettings(count=count)
    assert repr(count) in str(e.value) and "\n" not in str(e.value)


def test_missing_model_file_is_told_in_one_line(tmp_path):
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
def test_a_file_that_is_no_model_is_told_in_one_line_and_ends_no_process(tmp_path, content):
    # In a process of its own: OpenCV divides by zero on some of these.
    (tmp_path / "model.yml").write_bytes(content)
    code = (
        "import sys, numpy as np\n"
        "from keras_aoa.data.proposals import *\n"
        "from keras_aoa.errors import UserError\n"
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


def forest(threshold):
    """A model file's text: one tree of one question, whether the gradient is steep at a place."""
    options = {
        "stride": 2,
        "shrinkNumber": 2,
        "patchSize": 4,
        "patchInnerSize": 2,
        "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": 0,
        "regFeatureSmoothingRadius": 0,
        "ssFeatureSmoothingRadius": 0,
        "gradientNormalizationRadius": 0,
        "selfsimilarityGridSize": 1,
        "numberOfTrees": 1,
        "numberOfTreesToEvaluate": 1,
    }
    magnitude = 3 * 4  # the fourth channel's first of 2 x 2 cells
    lines = ["%YAML:1.0", "---", "options:", *(f"   {k}: {v}" for k, v in options.items())]
    lines += ["childs:", "   - [ 2, 0, 0 ]", "featureIds:", f"   - [ {magnitude}, 0, 0 ]"]
    lines += ["thresholds:", f"   - [ {float(threshold)}, 0., 0. ]"]
    lines += ["edgeBoundaries:", "   - [ 0, 0, 0, 4 ]", "edgeBins:", "   - [ 0, 1, 2, 3 ]"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "forest.yml"
    path.write_text(forest(0.8))
    return path


def test_a_model_file_finds_the_edges(model):
    settings = ProposalSettings(count=200, edge_model=str(model))
    boxes = propose(draw(), settings)
    check(boxes, 200)
    for box in RECTANGLES:
        assert overlap(np.array(box) / (120, 90, 120, 90), boxes[:10]).max() > 0.7
    assert not np.array_equal(boxes[:10], propose(draw(), SETTINGS)[:10])
    for shape in ((1, 1), (64, 2), (40, 1280), (33, 1000)):
        check(propose(draw({}, *shape), settings), 200)


def test_another_model_at_the_same_path_is_loaded(model):
    settings = ProposalSettings(count=200, edge_model=str(model))
    assert len(propose(draw(), settings)) > 1
    model.write_text(forest(1e6))
    np.testing.assert_array_equal(propose(draw(), settings), [[0, 0, 1, 1]])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_boxes_are_of_the_upright_picture(tmp_path, value, turns):
    jpeg = cv2.imencode(".jpg", draw()[:, :, ::-1])[1].tobytes()
    plain, turned = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    plain.write_bytes(jpeg)
    turned.write_bytes(insert(jpeg, exif(value)))
    upright = write(tmp_path / "upright.png", np.rot90(read_image(plain), turns))
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    as_plain, as_turned, as_upright = cache.read([plain, turned, upright])
    np.testing.assert_array_equal(as_turned, as_upright)
    assert not np.array_equal(as_turned[:5], as_plain[:5])


def test_grey_and_cmyk_files(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    picture = draw()
    write(tmp_path / "rgb.png", picture)
    image_module.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    image_module.fromarray(picture).convert("L").save(tmp_path / "grey.jpg", quality=98)
    paths = [tmp_path / name for name in ("rgb.png", "cmyk.jpg", "grey.jpg")]
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    assert cache.extract(paths) == []
    for boxes in cache.read(paths):
        for box in RECTANGLES:
            expected = np.array(box) / (120, 90, 120, 90)
            assert overlap(expected, boxes_as_floats(boxes)[:10]).max() > 0.8


# --- cache ----------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    return [
        write(tmp_path / f"{i}.png", draw({(10 + 4 * i, 10, 50 + 4 * i, 60): (250, 240, 20 * i)}))
        for i in range(8)
    ]


@pytest.fixture
def calls(monkeypatch):
    """Images proposed from now on, a list of True."""
    done = []

    def counted(image, model):
        done.append(True)
        return boxes(image, model)

    boxes = proposals.edges.edge_boxes
    monkeypatch.setattr(proposals.edges, "edge_boxes", counted)
    return done


def test_second_extraction_computes_nothing(tmp_path, pictures, calls):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    # One file under two names is proposed once.
    names = [*pictures, os.path.relpath(pictures[0]), pathlib.Path(pictures[1])]
    assert cache.extract(names) == []
    assert len(calls) == 8
    assert ProposalCache(tmp_path / "cache", SETTINGS).extract(pictures, "again", workers=3) == []
    read = cache.read(names)
    assert len(calls) == 8
    assert not list(cache.folder.rglob("*.part*"))
    for path, boxes in zip(names, read, strict=True):
        assert boxes.dtype == np.uint16
        np.testing.assert_array_equal(boxes_as_floats(boxes), propose(read_image(path), SETTINGS))


def test_files_lie_in_folders_by_their_digest_and_hold_no_pickle(tmp_path, pictures):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    cache.extract(pictures)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 8
    for file in files:
        assert file.parent.parent == cache.folder and file.parent.name == file.name[:2]
        assert np.load(file, allow_pickle=False).dtype == np.uint16


def test_other_settings_have_another_folder(tmp_path, pictures, model):
    other = tmp_path / "same-forest.yml"
    other.write_bytes(model.read_bytes())
    changed = tmp_path / "changed.yml"
    changed.write_text(forest(0.9))
    folders = [
        ProposalCache(tmp_path, ProposalSettings(count=count, edge_model=str(path))).folder
        for count, path in [(9, ""), (10, ""), (9, model), (9, other), (9, changed), (9, "")]
    ]
    assert len(set(folders)) == 4
    assert folders[0] == folders[5] and folders[2] == folders[3]
    assert all(len(folder.name) == len("proposals-") + 12 for folder in folders)


def test_interrupted_extraction_goes_on(tmp_path, pictures, calls, monkeypatch):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    counted = proposals.edges.edge_boxes

    def stopped(image, model):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return counted(image, model)

    monkeypatch.setattr(proposals.edges, "edge_boxes", stopped)
    threads = cv2.getNumThreads()
    with pytest.raises(KeyboardInterrupt):
        cache.extract(pictures, workers=1)
    assert cv2.getNumThreads() == threads
    monkeypatch.setattr(proposals.edges, "edge_boxes", counted)
    assert len(calls) == 3
    assert cache.extract(pictures) == []
    assert len(calls) == 8


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def damages(data):
    one = json.dumps([1, 2]).encode()
    yield from (b"", data[:-1], data[:5], data[:70], b"junk" + data, one, b"PK\x03\x04" + data)
    yield data[: len(data) - 8] + bytes(8)  # a box without area
    yield data[:10] + b"{" * 40 + data[50:]


def test_damaged_files_are_found_anew(tmp_path, pictures, calls):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    cache.extract(pictures[:1])
    (file,) = cache.folder.rglob("*.npy")
    good = file.read_bytes()
    (expected,) = cache.read(pictures[:1])
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    np.save(tmp_path / "many.npy", np.tile(np.uint16([0, 0, 9, 9]), (201, 1)))
    np.save(tmp_path / "float.npy", np.float32([[0, 0, 1, 1]]))
    others = [(tmp_path / f"{n}.npy").read_bytes() for n in ("pickled", "many", "float")]
    for number, damage in enumerate([*damages(good), *others], start=2):
        file.write_bytes(damage)
        assert cache.extract(pictures[:1]) == []
        assert len(calls) == number
        assert file.read_bytes() == good
        file.write_bytes(damage)
        np.testing.assert_array_equal(cache.read(pictures[:1])[0], expected)
        calls.pop()
    assert not (tmp_path / "sprung").exists()


def test_an_exchanged_image_is_proposed_anew(tmp_path, pictures, calls):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    (before,) = cache.read(pictures[:1])
    data = pathlib.Path(pictures[5]).read_bytes()
    pathlib.Path(pictures[0]).write_bytes(data)
    os.utime(pictures[0], ns=(1, 1))
    (after,) = cache.read(pictures[:1])
    np.testing.assert_array_equal(after, cache.read(pictures[5:6])[0])
    assert not np.array_equal(before[:5], after[:5])
    # The time of change alone tells, too.
    os.utime(pictures[0], ns=(1, 2))
    cache.extract(pictures[:1])
    assert len(calls) == 4


def test_unreadable_images_are_told_not_raised(tmp_path, pictures):
    half = tmp_path / "half.png"
    half.write_bytes(pathlib.Path(pictures[0]).read_bytes()[:200])
    text = tmp_path / "text.jpg"
    text.write_text("<html>404</html>")
    missing = tmp_path / "missing.jpg"
    bad = [str(half), text, str(missing), str(tmp_path)]
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    assert cache.extract([*pictures[:2], *bad[:2], pictures[2], *bad[2:]]) == bad
    assert len(cache.read(pictures[:3])) == 3
    assert cache.extract([]) == []
    with pytest.raises(UserError, match="expected a readable image"):
        cache.read([pictures[0], half])


def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(tmp_path, pictures):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="proposals: expected to write to") as e:
        ProposalCache(tmp_path / "cache", SETTINGS).extract(pictures)
    assert "\n" not in str(e.value)


def test_two_processes_may_share_the_folder(tmp_path, pictures):
    code = (
        "import sys; from keras_aoa.data.proposals import *\n"
        "print(ProposalCache(sys.argv[1], ProposalSettings(count=200)).extract(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), *pictures]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate()[0] for run in runs] == ["[]\n", "[]\n"]
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    files = {hashlib.sha256(f.read_bytes()).digest() for f in cache.folder.rglob("*.npy")}
    assert len(files) == 8 and len(list(cache.folder.rglob("*.*"))) == 8
