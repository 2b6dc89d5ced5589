"""Computes EdgeBoxes in an image, with edges from its gradients or from a structured forest.

Source: Zitnick & Dollar, "Edge Boxes: Locating Object Proposals from Edges", ECCV 2014; OpenCV's
implementation.

An edge map is `(height, width)` float32 in 0..1, with contours that are one pixel wide. A second
float32 map of the same shape contains the direction across the contour, in radians from 0 to pi. y
points down.
"""

import functools
import hashlib
import os

import numpy as np

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_line

MAX_BOXES = 10000
WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])

# Chosen for recall on drawn scenes and on photographs, both scaled to 256 * 256 pixels. A blur of 1
# finds no more objects and takes 50 % more time; a blur of 2.5 misses objects in photographs.
# With 1000 boxes, Canny's edges find more objects than thinned gradients, and with fewer boxes as
# many.
_BLUR = 2.0
# Canny's upper threshold is this percentile of the slopes, within bounds, and its lower threshold
# is a third of it. A fixed threshold of 150 misses objects of low contrast.
_STEEP_PERCENTILE, _LEAST_STEEP, _MOST_STEEP = 95, 40, 150

# Every image is scaled to `_PIXELS` pixels: 96 * 96 pixels yield too few window positions, and more
# pixels take longer without finding more objects. If the long side would exceed `_LONGEST`, that
# limit determines the scale.
_PIXELS, _LONGEST, _SHORTEST = 256 * 256, 1024, 32
SMALLEST_BOX = 0.005  # of the image's area; half of it takes 20 % more time for no more objects
# OpenCV's defaults are alpha 0.65 and beta 0.75. Compared with them, recall at IoU 0.5 is up to
# 0.13 higher with 10 to 1000 boxes, in little more than half the time. Recall at IoU 0.7 with up to
# 50 boxes is equal on photographs and higher on scenes. With 1000 boxes, it is 0.03 to 0.09 lower,
# which is acceptable because the regions for captions need not fit objects tightly.
_SEARCH = {"alpha": 0.6, "beta": 0.65}
# Canny's edges are 0 or 1, so these thresholds count pixels. Smaller edge groups are merged or
# removed, because fewer groups are faster and rank closed contours higher. A forest's edges have
# values between 0 and 1, for which OpenCV's defaults are used.
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
    """Compute the EdgeBoxes of an image.

    Args:
        image: Upright RGB, `(height, width, 3)` uint8.
        model: A structured-forest model file. If `model` is empty, edges come from the image's
            gradients.

    Returns:
        Boxes `(k, 4)` float64, best first, with k <= `MAX_BOXES`. A box is x0, y0, x1, y1 in 0..1.
        If no object is found, or the long side exceeds 32 times the short side, the only box is the
        whole image.

    Raises:
        UserError: `check_opencv` or `load_forest` fails.
    """
    check_opencv()
    import cv2

    image = scaled_image(image)
    if image is None:
        return WHOLE.copy()
    size = image.shape[1::-1]
    if model:
        maps, groups = forest_edges(image, load_forest(model)), {}
    else:
        maps, groups = gradient_edges(image), _CANNY_GROUPS
    # Create a new finder for each image, because its state would affect the next image's boxes.
    finder = cv2.ximgproc.createEdgeBoxes(
        maxBoxes=MAX_BOXES, minBoxArea=SMALLEST_BOX * size[0] * size[1], **_SEARCH, **groups
    )
    boxes = np.array(finder.getBoundingBoxes(*maps)[0], np.float64).reshape(-1, 4)
    # OpenCV counts pixels from 1, and the sides of a box pass through the centers of edge pixels.
    boxes[:, :2] -= 0.5
    boxes[:, 2:] += boxes[:, :2]
    boxes = np.clip(boxes / np.tile(size, 2), 0, 1)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    return boxes if len(boxes) else WHOLE.copy()


def scaled_image(image):
    """Scale an image to the size at which proposals are found; return None if too narrow."""
    import cv2

    height, width = image.shape[:2]
    scale = min((_PIXELS / (height * width)) ** 0.5, _LONGEST / max(height, width))
    size = (round(width * scale), round(height * scale))
    if min(size) < _SHORTEST:
        return None
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def check_opencv():
    """Check that OpenCV has the modules for object proposals.

    Raises:
        UserError: OpenCV cannot be imported, or lacks its contrib modules.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"proposals: OpenCV cannot be imported ({first_line(str(error), 'no reason')}); run "
            "pip install opencv-contrib-python or, without a display, "
            "pip install opencv-contrib-python-headless."
        ) from None
    if not hasattr(cv2, "ximgproc"):
        raise UserError(
            "proposals: expected OpenCV with its contrib modules, received OpenCV without "
            "cv2.ximgproc; run pip uninstall -y opencv-python opencv-python-headless, then pip "
            "install --force-reinstall opencv-contrib-python."
        )


def gradient_edges(image):
    """Return Canny's edges of `image (height, width, 3)` uint8, and their direction."""
    import cv2

    smooth = cv2.GaussianBlur(image, (0, 0), _BLUR)
    dx, dy = (
        cv2.Sobel(smooth, cv2.CV_16S, *order, borderType=cv2.BORDER_REPLICATE)
        for order in ((1, 0), (0, 1))
    )
    # Use the channel with the steepest slope, because many neighbors differ only in color.
    steepest = (np.abs(dx) + np.abs(dy)).argmax(axis=2)[:, :, None]
    dx, dy = (np.take_along_axis(d, steepest, axis=2)[:, :, 0] for d in (dx, dy))
    slope, across = cv2.cartToPolar(dx.astype(np.float32), dy.astype(np.float32))
    steep = float(np.clip(np.percentile(slope, _STEEP_PERCENTILE), _LEAST_STEEP, _MOST_STEEP))
    edges = cv2.Canny(dx, dy, steep / 3, steep, L2gradient=True)
    return (edges > 0).astype(np.float32), np.mod(across, np.float32(np.pi))


def forest_edges(image, forest):
    """Return two maps like `gradient_edges`, but computed by a structured forest.

    Args:
        image: RGB, `(height, width, 3)` uint8.
        forest: Structured forest, as returned by `load_forest`.

    Source: Dollar & Zitnick, "Structured Forests for Fast Edge Detection", ICCV 2013.
    """
    edges = forest.detectEdges(np.float32(image) / 255)
    across = forest.computeOrientation(edges)
    return np.clip(forest.edgesNms(edges, across), 0, 1), across


def load_forest(path):
    """Load a structured forest from a file; several threads may share the forest.

    Raises:
        UserError: The file does not exist or is not a structured-forest model.
    """
    return _load(os.path.abspath(path), *check_forest(path))


def check_forest(path):
    """Return the size and the modification time of a model file.

    Raises:
        UserError: The file cannot be opened.
    """
    try:
        with open(path, "rb"):
            status = os.stat(path)
    except OSError as error:
        raise UserError(
            f"proposals: expected a structured-forest model file, received {path!r} "
            f"({error.strerror}); name an existing file, or '' for edges without a model."
        ) from None
    return status.st_size, status.st_mtime_ns


def forest_digest(path):
    """Return the SHA-256 of a model file's content."""
    check_forest(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1)
def _load(path, size, changed):
    import cv2

    try:
        # OpenCV accepts any YAML file and may then divide by zero, which ends the process.
        storage = cv2.FileStorage(path, cv2.FILE_STORAGE_READ)
        options = storage.getNode("options")
        valid = all(_number(options, name) >= 1 for name in _FOREST_OPTIONS)
        valid = valid and all(storage.getNode(name).isSeq() for name in _FOREST_LISTS)
        storage.release()
        if valid:
            return cv2.ximgproc.createStructuredEdgeDetection(path)
    except (cv2.error, SystemError):
        pass
    raise UserError(
        f"proposals: expected a structured-forest model for OpenCV (.yml or .yml.gz), received "
        f"{path!r}, which is damaged or another kind of file; download it again, or use '' for "
        "edges without a model."
    )


def _number(options, name):
    node = options.getNode(name) if options.isMap() else None
    return node.real() if node is not None and node.isInt() else 0
