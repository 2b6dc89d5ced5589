"""Boxes drawn on an image match the areas of the region features, for every kind of regions."""

import bright_square
import numpy as np
import pytest
from bright_square import CELLS, brightness, draw_all, make_run, propose_these

from keras_aoa.data.build import image_settings
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import from_original, read_image, to_original, window
from keras_aoa.data.images.split_images import image_batches
from keras_aoa.evaluation.grounding import share_inside
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.visualization.heat_map import signed_areas
from keras_aoa.visualization.panel import View

NAMES = [*bright_square.ASPECTS, "exif"]
ELSEWHERE = [(0.02, 0.7, 0.3, 0.98), (0.0, 0.0, 0.4, 0.3)]  # left of the square, or below


def settings(folder, **changes):
    """A configuration of the cheapest variant. The regions do not depend on the variant."""
    return bright_square.settings(folder, variant="baseline", **changes)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return draw_all(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def examples(scenes):
    return [Example(name, str(scenes[name].path), ("a square",)) for name in NAMES]


LOADED = {}


def load_images(run, split, examples, **options):
    """Load images, once for all runs whose networks receive the same images."""
    if run.configuration.regions == "proposals":  # each test proposes its own boxes
        return run.load_images(split, examples, **options)
    key = split, run.configuration.fit, tuple(example.path for example in examples)
    if key not in LOADED:
        LOADED[key] = run.load_images(split, examples, **options)
    return LOADED[key]


def regions_in_training(run, examples, captioner, epochs=1, flip=False):
    """Yield each epoch's features and boxes in the original image, by image name, and the flipped.

    They come from training batches.
    """
    images = load_images(run, "train", examples, cache_gb=1.0)  # in memory, as in a training
    batches = CaptionBatches(
        images, run.vocabulary, 3, captions_per_image=1, flip=flip, proposals=50
    )
    for epoch in range(epochs):
        by_name, flipped = {}, set()
        for batch in batches.epoch(epoch):
            encoded = captioner.encode(batch)
            for row, index in enumerate(batch["index"].numpy()):
                boxes = np.asarray(encoded.boxes[row])
                if batch["flipped"][row]:
                    flipped.add(examples[index].image_id)
                    boxes = boxes * (-1, 1) + (1, 0)
                boxes = to_original(boxes, batch["window"][row].numpy())
                by_name[examples[index].image_id] = (
                    np.asarray(encoded.memory.regions[row]),
                    boxes,
                )
        yield by_name, flipped


def regions_in_evaluation(run, examples, captioner):
    """Features and boxes in the original image, by image name, from evaluation batches."""
    images, by_name = load_images(run, "test", examples), {}
    for batch in image_batches(images, 2, run.configuration.test_proposals):
        encoded = captioner.encode(batch, stride=run.configuration.test_stride)
        for row, index in enumerate(batch["index"].numpy()):
            boxes = to_original(np.asarray(encoded.boxes[row]), images.windows[index])
            by_name[examples[index].image_id] = (
                np.asarray(encoded.memory.regions[row]),
                boxes,
            )
    return by_name


def regions_in_captioning(run, examples):
    """Features and boxes in the original image, by image name, from `ImageCaptioner`."""
    captioner, by_name = ImageCaptioner(run.folder), {}
    for example in examples:
        inputs = captioner.inputs(read_image(example.path))
        encoded = captioner.captioner.encode(inputs, stride=run.configuration.test_stride)
        boxes = captioner.caption(example.path).boxes
        by_name[example.image_id] = np.asarray(encoded.memory.regions[0]), boxes
    return by_name


def regions_of_every_path(run, examples):
    """Features and boxes in the original image, by code path and by image name."""
    captioner = run.load_captioner()
    ((in_training, _),) = regions_in_training(run, examples, captioner)
    return {
        "training": in_training,
        "evaluation": regions_in_evaluation(run, examples, captioner),
        "captioning": regions_in_captioning(run, examples),
    }


@pytest.mark.parametrize(
    ("regions", "fit", "stride"),
    [("grid", "crop", 1), ("grid", "stretch", 2), ("mean", "crop", 1)],
)
def test_the_brightness_of_a_cell_is_the_brightness_inside_its_box(
    scenes, examples, tmp_path, regions, fit, stride
):
    run = make_run(settings(tmp_path, fit=fit, regions=regions, test_stride=stride), brightness())
    for path, by_name in regions_of_every_path(run, examples).items():
        own_stride = 1 if path == "training" else stride
        for name, (features, boxes) in by_name.items():
            expected = 255 * share_inside(boxes, [scenes[name].box])
            assert len(boxes) == (1 if regions == "mean" else (CELLS // own_stride) ** 2)
            # Antialiasing shifts brightness by less than a pixel, an eighth of a cell.
            assert np.abs(features[:, 0] - expected).max() < 0.12 * 255, (path, name)
            assert abs(features.mean() - expected.mean()) < 2, (path, name)
            best = boxes[features[:, 0].argmax()].mean(axis=0)
            x0, y0, x1, y1 = scenes[name].box
            if regions == "grid":
                assert x0 < best[0] < x1 and y0 < best[1] < y1, (path, name)


ANGLE = np.pi / 6
SHARE = 0.5  # size relative to the square, since the nine points also sample neighboring cells
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])


@pytest.mark.parametrize(
    ("fit", "names", "turn"),
    [
        ("crop", NAMES, TURN),  # the central crops of all images have the square at one position
        ("stretch", ["wide"], np.eye(2)),
    ],
    ids=["crop", "stretch"],
)
def test_a_transformer_moved_to_the_square_has_its_features_and_its_box(
    scenes, examples, tmp_path, fit, names, turn
):
    configuration = settings(tmp_path, fit=fit, regions="transformer")
    shown = window(*read_image(scenes[names[0]].path).shape[:2], image_settings(configuration))
    box = from_original(np.array([scenes[names[0]].box]), shown.numpy())[0].reshape(2, 2) * CELLS
    matrix = np.diag(SHARE * (box[1] - box[0])) @ turn / 3
    transform = np.concatenate([matrix, box.mean(axis=0)[:, None] - 0.5], axis=1)

    def set_transform(captioner):
        captioner.regions.localization.bias.assign(transform.ravel())
        # Each feature is the mean over the box's nine points.
        captioner.regions.kernel.assign(np.tile(np.eye(3, dtype=np.float32) / 9, (3, 3, 1, 1)))

    run = make_run(configuration, brightness(), set_transform)
    chosen = [example for example in examples if example.image_id in names]
    for path, by_name in regions_of_every_path(run, chosen).items():
        assert set(by_name) == set(names)
        for name, (features, boxes) in by_name.items():
            square = corners_of(scenes[name].box)
            center, size = square.mean(axis=0), square[2] - square[0]
            corners = ((square - center) / size * SHARE) @ turn.T * size + center
            # Sides are rounded to whole pixels; the smallest image has 64.
            np.testing.assert_allclose(boxes[0], corners, atol=0.02, err_msg=f"{path} {name}")
            assert features[0].min() > 0.95 * 255, (path, name)
            assert share_inside(boxes[:1], [scenes[name].box])[0] > 0.97
            # The same box a few cells away is dark.
            x0, y0, x1, y1 = scenes[name].box
            outside = share_inside(boxes, [(x0 - 0.1, y0 - 0.1, x1 + 0.1, y1 + 0.1)]) < 1e-6
            assert outside.sum() > 100
            assert features[outside].max() < 0.05 * 255


def corners_of(box):
    return np.array(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def inner(box, share=0.5):
    """The central part of a box, so that it contains no cells across the box's border."""
    x0, y0, x1, y1 = box
    x, y = (x1 - x0) * (1 - share) / 2, (y1 - y0) * (1 - share) / 2
    return (x0 + x, y0 + y, x1 - x, y1 - y)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_proposals_are_pooled_at_their_positions_and_returned_unchanged(
    scenes, examples, tmp_path, monkeypatch, fit
):
    given = {name: [ELSEWHERE[0], inner(scenes[name].box), ELSEWHERE[1]] for name in NAMES}
    propose_these(monkeypatch, scenes, given)
    run = make_run(settings(tmp_path, regions="proposals", proposals_fit=fit), brightness())
    for path, by_name in regions_of_every_path(run, examples).items():
        assert set(by_name) == set(NAMES)
        for name, (features, corners) in by_name.items():
            assert corners.shape == (3, 4, 2)
            boxes = np.concatenate([corners[:, 0], corners[:, 2]], axis=1)
            np.testing.assert_array_equal(corners, [corners_of(box) for box in boxes])
            order = [0, 1, 2]
            if path == "training":  # a random order
                order = [np.abs(boxes - box).max(axis=1).argmin() for box in given[name]]
            message = f"{path} {name}"
            np.testing.assert_allclose(boxes[order], given[name], atol=1e-3, err_msg=message)
            assert features[order][1].min() > 0.95 * 255, message
            assert features[order][[0, 2]].max() < 0.05 * 255, message


def test_a_caption_with_one_proposal_uses_the_best_one(scenes, tmp_path, monkeypatch):
    given = {name: [ELSEWHERE[1], scenes[name].box] for name in NAMES}
    propose_these(monkeypatch, scenes, given)
    run = make_run(settings(tmp_path, regions="proposals"), brightness())
    caption = ImageCaptioner(run.folder, proposals=1).caption(scenes["wide"].path)
    np.testing.assert_allclose(caption.boxes, [corners_of(ELSEWHERE[1])], atol=1e-3)
    assert signed_areas(caption.boxes) > 0, "clockwise"
    assert caption.attention.shape[1] == 1


@pytest.mark.parametrize(("regions", "fit"), [("grid", "crop"), ("proposals", "pad")])
def test_mirrored_images_have_mirrored_boxes(scenes, examples, tmp_path, monkeypatch, regions, fit):
    given = {name: [inner(scenes[name].box), *ELSEWHERE] for name in NAMES}
    propose_these(monkeypatch, scenes, given)
    fits = {"proposals_fit" if regions == "proposals" else "fit": fit}
    run = make_run(settings(tmp_path, regions=regions, **fits), brightness())
    flips = set()
    of_epochs = regions_in_training(run, examples, run.load_captioner(), epochs=3, flip=True)
    for epoch, (by_name, flipped) in enumerate(of_epochs):
        flips |= {(name, name in flipped) for name in NAMES}
        for name, (features, boxes) in by_name.items():
            share = share_inside(boxes, [scenes[name].box])
            # The maximum equals the mean for a box that is entirely inside or outside the square.
            assert np.abs(features[:, 0] - 255 * share).max() < 0.12 * 255, (epoch, name)
            assert share.max() > 0.99
    assert len(flips) > 1.5 * len(NAMES), "most images appear in both orientations"


def test_highlights_and_outlines_lie_on_the_square_of_a_padded_image(
    scenes, examples, tmp_path, monkeypatch
):
    given = {name: [ELSEWHERE[1], scenes[name].box] for name in NAMES}
    propose_these(monkeypatch, scenes, given)
    run = make_run(settings(tmp_path, regions="proposals", proposals_fit="pad"), brightness())
    images = run.load_images("test", examples)
    (batch,) = image_batches(images, 9, 9)
    corners = to_original(run.load_captioner().encode(batch).boxes, images.windows[:, None, None])
    for name, boxes, shown in zip(NAMES, corners, images.windows, strict=True):
        pixels = read_image(scenes[name].path)
        height, width = pixels.shape[:2]
        view = View(pixels, shown, 1.0)
        assert view.is_whole
        dark, highlighted = view.highlight(np.array([[0.0, 0.0], [0.0, 1.0]]), boxes)
        light = (highlighted.astype(float) - dark).sum(axis=2)
        x0, y0, x1, y1 = (
            (np.array(scenes[name].box) * (width, height, width, height)).round().astype(int)
        )
        on_square = light[y0:y1, x0:x1].sum()
        y, x = np.mgrid[:height, :width] + 0.5
        center = [(light * x).sum() / light.sum(), (light * y).sum() / light.sum()]
        np.testing.assert_allclose(center, [(x0 + x1) / 2, (y0 + y1) / 2], atol=2, err_msg=name)
        assert on_square > 0.5 * light.sum(), "the rest is the blurred border of the highlight"
        ((outline, _),) = view.outlines(np.array([[0.0, 1.0]]), boxes)[0]
        np.testing.assert_allclose(outline, corners_of((x0, y0, x1, y1)), atol=1, err_msg=name)
