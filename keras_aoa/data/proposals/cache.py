"""Object proposals, the regions of the paper's section 3.3, and their cache on disk.

The proposals are EdgeBoxes, computed by `keras_aoa.data.proposals.edge_boxes`, or boxes of a
selective search, computed by `keras_aoa.data.proposals.selective_search`.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_aoa.data.proposals import edge_boxes as edges
from keras_aoa.data.proposals.selective_search import selective_search
from keras_aoa.settings.search import MAX_PROPOSALS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, identity, settings_digest
from keras_aoa.utils.progress import progress_bar

FORMAT_VERSION = 1  # increase it if the same image and settings would yield other boxes
ONE = 65535  # 1.0 in fixed point
METHODS = ("edge_boxes", "selective_search")


@dataclass(frozen=True)
class ProposalSettings:
    """Settings of the object proposals.

    Args:
        count: Maximum number of boxes per image. The boxes are sorted, best first, so a smaller
            count omits the last boxes.
        edge_model: A structured-forest model file (.yml or .yml.gz) for
            `cv2.ximgproc.createStructuredEdgeDetection`. If `edge_model` is empty, edges are
            computed from the image's gradients, without a download.
        method: `edge_boxes` or `selective_search`.

    Raises:
        UserError: `count` is out of range, the file `edge_model` does not exist, `method` is
            unknown, or `edge_model` is given for a method that uses no edges.
    """

    count: int = MAX_PROPOSALS
    edge_model: str = ""
    method: str = METHODS[0]

    def __post_init__(self):
        if type(self.count) is not int or not 1 <= self.count <= edges.MAX_BOXES:
            raise UserError(
                f"proposals: expected a number of boxes from 1 to {edges.MAX_BOXES}, received "
                f"{self.count!r}; the default is {MAX_PROPOSALS}."
            )
        if self.method not in METHODS:
            raise UserError(
                f"proposals: expected {' or '.join(METHODS)} as the method, received "
                f"{self.method!r}."
            )
        if self.edge_model and self.method != "edge_boxes":
            raise UserError(
                f"proposals: expected no edge model with method {self.method!r}, received "
                f"{self.edge_model!r}; leave out the edge model, or choose edge_boxes."
            )
        if self.edge_model:
            edges.check_forest(self.edge_model)


def propose(image, settings):
    """Find boxes that may contain objects.

    Args:
        image: Upright RGB, `(height, width, 3)` uint8.
        settings: `ProposalSettings`.

    Returns:
        Distinct boxes `(k, 4)` float32, best first, with 1 <= k <= count. A box is x0, y0, x1, y1
        in 0..1. If no object is found, the only box is the whole image.

    Raises:
        UserError: The edge model cannot be read.
    """
    return boxes_as_floats(_propose(image, settings))


def boxes_as_floats(boxes):
    """Convert boxes from fixed point to float32 in 0..1."""
    return boxes.astype(np.float32) / np.float32(ONE)


def _propose(image, settings):
    """Return the boxes of `propose` as fixed-point numbers, uint16."""
    if settings.method == "selective_search":
        boxes = selective_search(image)
    else:
        boxes = edges.edge_boxes(image, settings.edge_model)
    # Round outward, so that no box loses its whole area.
    boxes = np.concatenate([np.floor(boxes[:, :2] * ONE), np.ceil(boxes[:, 2:] * ONE)], axis=1)
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)][: settings.count].astype(np.uint16)


class ProposalCache:
    """Cache of object proposals in a folder, with one small file per image.

    A file's name is a digest of the image's path, size and modification time, so that proposals of
    a replaced image are recomputed. Several processes may share the folder.

    Args:
        folder: Parent of the folder `proposals-<digest of the settings>`, which contains the files.
        settings: `ProposalSettings`. Edge models are compared by content, not by path.

    Attributes:
        folder: The folder `proposals-<digest of the settings>`.

    Raises:
        UserError: The edge model's file is missing, or OpenCV lacks the modules for proposals.
    """

    def __init__(self, folder, settings):
        edges.check_opencv()
        content = {"format": FORMAT_VERSION, **dataclasses.asdict(settings)}
        if settings.method == METHODS[0]:
            del content["method"]  # caches of earlier versions, which had only this method
        if settings.edge_model:
            content["edge_model"] = edges.forest_digest(settings.edge_model)
        self.folder = pathlib.Path(folder) / f"proposals-{settings_digest(content)}"
        self._settings = settings

    def extract(self, paths, purpose="proposals", workers=None):
        """Compute the missing proposals; after an interruption, the finished files are kept.

        Args:
            paths: Paths of image files.
            purpose: Text of the progress bar.
            workers: Number of threads. If `workers` is None, there is one thread per core.

        Returns:
            The paths of files that cannot be read as images, in the given order.

        Raises:
            UserError: The edge model cannot be read, or the folder cannot be written.
        """
        if self._settings.edge_model:
            edges.load_forest(self._settings.edge_model)  # load it once, before the threads start
        # Absolute paths are unique, so no two threads write the same file.
        todo = list(dict.fromkeys(map(os.path.abspath, paths)))
        readable = {}
        pool = ThreadPoolExecutor(workers or os.cpu_count())
        try:
            with (
                one_core_per_thread(),
                progress_bar(total=len(todo), desc=purpose, unit="image", delay=3) as bar,
            ):
                for path, boxes in zip(todo, pool.map(self._find, todo), strict=True):
                    readable[path] = boxes is not None
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
        return [path for path in paths if not readable[os.path.abspath(path)]]

    def read(self, paths):
        """Return the boxes of each image, `(k, 4)` uint16 in fixed point.

        `boxes_as_floats` converts the boxes to floats. Missing or damaged files are recomputed.

        Raises:
            UserError: An image or the edge model cannot be read, or the folder cannot be written.
        """
        boxes_by_image = [self._find(path) for path in paths]
        for path, boxes in zip(paths, boxes_by_image, strict=True):
            if boxes is None:
                raise UserError(
                    f"proposals: expected a readable image, received {path}; leave it out."
                )
        return boxes_by_image

    def _find(self, path):
        """Load or compute the boxes of an image; return None if the image cannot be read."""
        import tensorflow as tf

        from keras_aoa.data.images.preprocessing import read_image

        try:
            file = self._file(path)
            boxes = self._load(file)
            if boxes is not None:
                return boxes
            image = read_image(path)
        except (OSError, tf.errors.OpError):
            return None
        boxes = _propose(image, self._settings)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as temporary:
                np.save(temporary, boxes, allow_pickle=False)
        except OSError as error:
            # Another process may have written the same file in the meantime.
            if self._load(file) is None:
                raise UserError(
                    f"proposals: expected to write to {self.folder}, received "
                    f"'{error.strerror or error}'; free some space or choose another folder."
                ) from None
        return boxes

    def _file(self, path):
        encoded = identity(path).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(encoded).hexdigest()[:32]
        return self.folder / digest[:2] / f"{digest}.npy"

    def _load(self, file):
        """Return the boxes in a cache file, or None if the file is missing or damaged."""
        try:
            boxes = np.load(file, allow_pickle=False)
            valid = (
                boxes.dtype == np.uint16
                and boxes.ndim == 2
                and boxes.shape[1] == 4
                and 1 <= len(boxes) <= self._settings.count
                and (boxes[:, :2] < boxes[:, 2:]).all()
            )
        except Exception:  # NumPy raises many kinds of exceptions on damaged bytes
            return None
        return boxes if valid else None


@contextlib.contextmanager
def one_core_per_thread():
    """Context in which each thread that calls OpenCV uses a single core."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
