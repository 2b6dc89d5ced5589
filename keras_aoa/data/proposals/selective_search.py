"""Computes object proposals by selective search, which merges similar neighboring segments.

Sources: Uijlings et al., "Selective Search for Object Recognition", IJCV 2013; OpenCV's
implementation. Jin et al., 2015, arXiv:1506.06272, with attention to regions from selective search.
"""

import numpy as np

from keras_aoa.data.proposals.edge_boxes import SMALLEST_BOX, WHOLE, check_opencv, scaled_image


def selective_search(image):
    """Compute the boxes of a selective search with OpenCV's fast strategies.

    As in section 4.3 of the paper, the rank of a box is a random number times the position of the
    box in the hierarchy of segments. The hierarchy begins with the whole image and ends with the
    smallest segments. OpenCV does not return the positions, and its random numbers cannot be
    seeded. This function therefore sorts boxes by decreasing area to get positions, and uses a
    fixed seed. An image always has the same boxes in the same order.

    Args:
        image: Upright RGB, `(height, width, 3)` uint8.

    Returns:
        Boxes `(k, 4)` float64, best first. A box is x0, y0, x1, y1 in 0..1. If the long side
        exceeds 32 times the short side, the only box is the whole image.

    Raises:
        UserError: `check_opencv` fails.
    """
    check_opencv()
    import cv2

    image = scaled_image(image)
    if image is None:
        return WHOLE.copy()
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))  # OpenCV expects BGR
    search.switchToSelectiveSearchFast()
    boxes = np.array(search.process(), np.int64).reshape(-1, 4)
    height, width = image.shape[:2]
    boxes = boxes[boxes[:, 2] * boxes[:, 3] >= SMALLEST_BOX * height * width]
    boxes = ranked(boxes)
    boxes[:, 2:] += boxes[:, :2]
    return boxes / np.array([width, height, width, height]) if len(boxes) else WHOLE.copy()


def ranked(boxes):
    """Return boxes `(k, 4)` in the order of their random ranks; a box is x, y, width, height."""
    x, y, width, height = boxes.T
    by_area = boxes[np.lexsort((height, width, y, x, -width * height))]
    ranks = np.random.default_rng(0).random(len(boxes)) * np.arange(1, len(boxes) + 1)
    return by_area[np.argsort(ranks, kind="stable")]
