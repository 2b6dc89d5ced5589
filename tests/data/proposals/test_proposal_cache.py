"""Tests of the proposal cache: each image is computed once, in upright orientation."""

import json
import os
import pathlib

import cv2
import numpy as np
import pytest
from image_files import exif, insert
from rectangles import RECTANGLES, SETTINGS, draw, forest, overlap, write

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.data.proposals import cache as proposals
from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings, boxes_as_floats, propose
from keras_aoa.utils.errors import UserError


@pytest.mark.parametrize(("value", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_boxes_refer_to_the_upright_image(tmp_path, value, turns):
    jpeg = cv2.imencode(".jpg", draw()[:, :, ::-1])[1].tobytes()
    plain, turned = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    plain.write_bytes(jpeg)
    turned.write_bytes(insert(jpeg, exif(value)))
    upright = write(tmp_path / "upright.png", np.rot90(read_image(plain), turns))
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    as_plain, as_turned, as_upright = cache.read([plain, turned, upright])
    np.testing.assert_array_equal(as_turned, as_upright)
    assert not np.array_equal(as_turned[:5], as_plain[:5])


def test_gray_and_cmyk_images_yield_the_same_objects(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    picture = draw()
    write(tmp_path / "rgb.png", picture)
    image_module.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    image_module.fromarray(picture).convert("L").save(tmp_path / "gray.jpg", quality=98)
    paths = [tmp_path / name for name in ("rgb.png", "cmyk.jpg", "gray.jpg")]
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    assert cache.extract(paths) == []
    for boxes in cache.read(paths):
        for box in RECTANGLES:
            expected = np.array(box) / (120, 90, 120, 90)
            assert overlap(expected, boxes_as_floats(boxes)[:10]).max() > 0.8


@pytest.fixture
def pictures(tmp_path):
    return [
        write(tmp_path / f"{i}.png", draw({(10 + 4 * i, 10, 50 + 4 * i, 60): (250, 240, 20 * i)}))
        for i in range(8)
    ]


@pytest.fixture
def calls(monkeypatch):
    """A list with one entry per computation of an image's proposals."""
    computed = []

    def counted(image, model):
        computed.append(True)
        return boxes(image, model)

    boxes = proposals.edges.edge_boxes
    monkeypatch.setattr(proposals.edges, "edge_boxes", counted)
    return computed


def test_second_extraction_computes_nothing(tmp_path, pictures, calls):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    # A file under two names is computed once.
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


def test_files_are_in_folders_by_digest_and_contain_no_pickle(tmp_path, pictures):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    cache.extract(pictures)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 8
    for file in files:
        assert file.parent.parent == cache.folder and file.parent.name == file.name[:2]
        assert np.load(file, allow_pickle=False).dtype == np.uint16


def test_other_settings_use_another_folder(tmp_path, pictures):
    model = tmp_path / "forest.yml"
    model.write_text(forest(0.8))
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


def test_interrupted_extraction_resumes(tmp_path, pictures, calls, monkeypatch):
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
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def damages(data):
    one = json.dumps([1, 2]).encode()
    yield from (b"", data[:-1], data[:5], data[:70], b"junk" + data, one, b"PK\x03\x04" + data)
    yield data[: len(data) - 8] + bytes(8)  # a box without area
    yield data[:10] + b"{" * 40 + data[50:]


def test_proposals_in_damaged_files_are_computed_again(tmp_path, pictures, calls):
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


def test_proposals_of_a_replaced_image_are_computed_again(tmp_path, pictures, calls):
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    (before,) = cache.read(pictures[:1])
    data = pathlib.Path(pictures[5]).read_bytes()
    pathlib.Path(pictures[0]).write_bytes(data)
    os.utime(pictures[0], ns=(1, 1))
    (after,) = cache.read(pictures[:1])
    np.testing.assert_array_equal(after, cache.read(pictures[5:6])[0])
    assert not np.array_equal(before[:5], after[:5])
    # A new modification time is sufficient.
    os.utime(pictures[0], ns=(1, 2))
    cache.extract(pictures[:1])
    assert len(calls) == 4


def test_unreadable_images_are_returned_not_raised(tmp_path, pictures):
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


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path, pictures):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="proposals: expected to write to") as e:
        ProposalCache(tmp_path / "cache", SETTINGS).extract(pictures)
    assert "\n" not in str(e.value)
