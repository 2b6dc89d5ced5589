"""Edges of an image, from its gradients or from a structured forest, and EdgeBoxes on them.

Source: Zitnick & Dollar, "Edge Boxes: Locating Object Proposals from Edges", ECCV 2014; here
OpenCV's implementation.

An edge map is `(height, width)` float32 in 0..1, one pixel wide along each contour; beside it the
direction across the contour, float32 radians from 0 to pi, y downwards.
"""

import functools
import hashlib
import os

import numpy as np

from keras_aoa.utils.errors import UserError

MOST_BOXES = 10000

# Chosen for recall on drawn scenes and on photographs alike, both scaled to 256 * 256 pixels:
# blur of 1 finds no more and takes half as long again, blur of 2.5 loses objects of photographs.
# Against thinned gradients, Canny reaches more objects with 1000 boxes, as many with fewer.
_BLUR = 2.0
# Canny's upper threshold is this percentile of the slopes, within bounds, and its lower one a
# third: a fixed one of 150 misses objects hardly brighter than their ground.
_STEEP_PERCENTILE, _LEAST_STEEP, _MOST_STEEP = 95, 40, 150

# Every image is scaled to this many pixels: 96 * 96 ones give too few steps of a window, large
# ones take longer and find no more. Of strips, the long side sets the scale.
_PIXELS, _LONGEST, _SHORTEST = 256 * 256, 1024, 32
_SMALLEST_BOX = 0.005  # of the image's area; half of it costs a fifth more time and finds no more
# Against the defaults, alpha 0.65 and beta 0.75, recall at IoU 0.5 is higher by up to 0.13 with 10
# to 1000 boxes, in little more than half the time. At IoU 0.7 it is as high up to 50 boxes on
# photographs and higher on scenes, and lower by 0.03 to 0.09 with 1000: a caption's regions need
# not fit closely.
_SEARCH = {"alpha": 0.6, "beta": 0.65}
# Canny's edges are 0 or 1, so that bits of texture, shorter than this many pixels, join a
# neighbor or go: fewer groups are faster and rank closed contours higher. A forest's soft edges
# keep OpenCV's defaults.
_CANNY_GROUPS = {"clusterMinMag": 8.0, "edgeMergeThr": 1.0}

_FOREST_OPTIONS = (
    "stride",
    "shrinkNumber",
    "patchSize",
    "patchInnerSize",
    "numberOfGradientOrientations",
    "selfsimilarityGridSize",
    "numberOfTrees",
    "numberOfTreesToEvaluate",
)
_FOREST_LISTS = ("childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")


def edge_boxes(image, model=""):
    """EdgeBoxes of an image.

    Args:
        image: Upright RGB, `(height, width, 3)` uint8.
        model: A structured-forest model file; '' takes edges from the image's gradients.

    Returns:
        `(k, 4)` float64, x0, y0, x1, y1 in 0..1, best first, k of `MOST_BOXES` at most; the whole
        image where nothing is found, and in a strip more than 32 times as long as wide.
    """
    import cv2

    whole = np.array([[0.0, 0.0, 1.0, 1.0]])
    height, width = image.shape[:2]
    scale = min((_PIXELS / (height * width)) ** 0.5, _LONGEST / max(height, width))
    size = (round(width * scale), round(height * scale))
    if min(size) < _SHORTEST:
        return whole
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if model:
        maps, groups = forest_edges(image, load_forest(model)), {}
    else:
        maps, groups = gradient_edges(image), _CANNY_GROUPS
    # A new object each time: what it keeps of an image grows and changes the next one's boxes.
    finder = cv2.ximgproc.createEdgeBoxes(
        maxBoxes=MOST_BOXES, minBoxArea=_SMALLEST_BOX * size[0] * size[1], **_SEARCH, **groups
    )
    boxes = np.array(finder.getBoundingBoxes(*maps)[0], np.float64).reshape(-1, 4)
    # OpenCV counts pixels from 1, and a box's sides run through the centers of its edge pixels.
    boxes[:, :2] -= 0.5
    boxes[:, 2:] += boxes[:, :2]
    boxes = np.clip(boxes / np.tile(size, 2), 0, 1)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    return boxes if len(boxes) else whole


def gradient_edges(image):
    """Canny's edges and their direction of `image (height, width, 3)` uint8: two maps."""
    import cv2

    smooth = cv2.GaussianBlur(image, (0, 0), _BLUR)
    dx, dy = (
        cv2.Sobel(smooth, cv2.CV_16S, *order, borderType=cv2.BORDER_REPLICATE)
        for order in ((1, 0), (0, 1))
    )
    # The channel of the steepest slope: many neighbors differ in color, not in brightness.
    steepest = (np.abs(dx) + np.abs(dy)).argmax(axis=2)[:, :, None]
    dx, dy = (np.take_along_axis(d, steepest, axis=2)[:, :, 0] for d in (dx, dy))
    slope, across = cv2.cartToPolar(dx.astype(np.float32), dy.astype(np.float32))
    steep = float(np.clip(np.percentile(slope, _STEEP_PERCENTILE), _LEAST_STEEP, _MOST_STEEP))
    edges = cv2.Canny(dx, dy, steep / 3, steep, L2gradient=True)
    return (edges > 0).astype(np.float32), np.mod(across, np.float32(np.pi))


def forest_edges(image, forest):
    """As of `gradient_edges`, by what `load_forest` returns (Dollar & Zitnick, ICCV 2013)."""
    edges = forest.detectEdges(np.float32(image) / 255)
    across = forest.computeOrientation(edges)
    return np.clip(forest.edgesNms(edges, across), 0, 1), across


def load_forest(path):
    """The structured forest in a file, for threads to share.

    Raises:
        UserError: No such file, or not such a model.
    """
    return _load(os.path.abspath(path), *check_forest(path))


def check_forest(path):
    """Size and time of change of a model file; a `UserError` where there is none."""
    try:
        with open(path, "rb"):
            status = os.stat(path)
    except OSError as error:
        raise UserError(
            f"proposals: expected a structured-forest model file, received {path!r} "
            f"({error.strerror}); name an existing one or '' for edges without a model."
        ) from None
    return status.st_size, status.st_mtime_ns


def forest_digest(path):
    """What tells the content of one model file from another's."""
    check_forest(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1)
def _load(path, size, changed):
    import cv2

    try:
        # OpenCV takes any YAML file, and then divides by zero: the process would end.
        storage = cv2.FileStorage(path, cv2.FILE_STORAGE_READ)
        options = storage.getNode("options")
        good = all(_number(options, name) >= 1 for name in _FOREST_OPTIONS)
        good = good and all(storage.getNode(name).isSeq() for name in _FOREST_LISTS)
        storage.release()
        if good:
            return cv2.ximgproc.createStructuredEdgeDetection(path)
    except (cv2.error, SystemError):
        pass
    raise UserError(
        f"proposals: expected a structured-forest model for OpenCV (.yml or .yml.gz), received "
        f"{path!r}, which is none or damaged; download it again or use '' for edges without a "
        "model."
    )


def _number(options, name):
    node = options.getNode(name) if options.isMap() else None
    return node.real() if node is not None and node.isInt() else 0
