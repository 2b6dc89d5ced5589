"""Pictures of bright rectangles for tests of proposals, and a small edge model."""

import cv2
import numpy as np

from keras_aoa.data.proposals.cache import ProposalSettings

SETTINGS = ProposalSettings(count=200)
RECTANGLES = {  # x0, y0, x1, y1 in pixels of 120 x 90, and color
    (12, 10, 44, 40): (250, 140, 130),
    (66, 30, 108, 78): (40, 220, 250),
}


def draw(rectangles=RECTANGLES, height=90, width=120):
    """Draw rectangles on faint noise, RGB."""
    picture = np.random.default_rng(3).integers(90, 110, (height, width, 3)).astype(np.uint8)
    for (x0, y0, x1, y1), color in rectangles.items():
        picture[y0:y1, x0:x1] = color
    return picture


def overlap(box, boxes):
    """Return the intersection over union of one box with each of `boxes`."""
    values = []
    for x0, y0, x1, y1 in boxes:
        width = max(0, min(x1, box[2]) - max(x0, box[0]))
        height = max(0, min(y1, box[3]) - max(y0, box[1]))
        areas = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1])
        values.append(width * height / (areas - width * height))
    return np.array(values)


def check(boxes, count):
    """Assert that boxes are at most `count`, distinct, inside the image and not empty."""
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,)
    assert 1 <= len(boxes) <= count
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 0
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def write(path, picture, *options):
    """Write an RGB picture and return the path as a string."""
    assert cv2.imwrite(str(path), picture[:, :, ::-1], options)
    return str(path)


def forest(threshold):
    """Return the text of a model file with one tree that only compares a gradient magnitude."""
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
    magnitude = 3 * 4  # first of 2 x 2 cells of the fourth channel
    lines = ["%YAML:1.0", "---", "options:", *(f"   {k}: {v}" for k, v in options.items())]
    lines += ["childs:", "   - [ 2, 0, 0 ]", "featureIds:", f"   - [ {magnitude}, 0, 0 ]"]
    lines += ["thresholds:", f"   - [ {float(threshold)}, 0., 0. ]"]
    lines += ["edgeBoundaries:", "   - [ 0, 0, 0, 4 ]", "edgeBins:", "   - [ 0, 1, 2, 3 ]"]
    return "\n".join(lines) + "\n"
