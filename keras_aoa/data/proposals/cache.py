"""Object proposals, the regions of the paper's section 3.3, and a folder that keeps them.

They are EdgeBoxes, as of `keras_aoa.data.proposals.edge_boxes`.
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
from keras_aoa.settings.search import MOST_PROPOSALS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, identity, settings_digest
from keras_aoa.utils.progress import progress_bar

FORMAT_VERSION = 1  # to be raised whenever the same image and settings would give other boxes
ONE = 65535  # what 1.0 is in fixed point


@dataclass(frozen=True)
class ProposalSettings:
    """How objects are proposed.

    Args:
        count: Most boxes of an image, best first; the first ones do not depend on it.
        edge_model: A structured-forest model file (.yml or .yml.gz) for
            `cv2.ximgproc.createStructuredEdgeDetection`; '' takes edges from the image's
            gradients, which needs no download.

    Raises:
        UserError: A count out of range, or no such file.
    """

    count: int = MOST_PROPOSALS
    edge_model: str = ""

    def __post_init__(self):
        if type(self.count) is not int or not 1 <= self.count <= edges.MOST_BOXES:
            raise UserError(
                f"proposals: expected a count of boxes from 1 to {edges.MOST_BOXES}, received "
                f"{self.count!r}; the default is {MOST_PROPOSALS}."
            )
        if self.edge_model:
            edges.check_forest(self.edge_model)


def propose(image, settings):
    """Boxes that may hold objects, best first.

    Args:
        image: Upright RGB, `(height, width, 3)` uint8.
        settings: `ProposalSettings`.

    Returns:
        `(k, 4)` float32, x0, y0, x1, y1 in 0..1, no two the same, 1 <= k <= count; the whole
        image where nothing is found.

    Raises:
        UserError: The edge model cannot be read.
    """
    return boxes_as_floats(_propose(image, settings))


def boxes_as_floats(boxes):
    """Boxes in 0..1, float32, of `boxes` in fixed point."""
    return boxes.astype(np.float32) / np.float32(ONE)


def _propose(image, settings):
    """As of `propose`, in fixed point, uint16."""
    boxes = edges.edge_boxes(image, settings.edge_model)
    # Outward, so that no box loses its area.
    boxes = np.concatenate([np.floor(boxes[:, :2] * ONE), np.ceil(boxes[:, 2:] * ONE)], axis=1)
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)][: settings.count].astype(np.uint16)


class ProposalCache:
    """Proposals of image files, kept in a folder: one small file an image.

    A file's name tells the image's path, size and time of change, so that an exchanged image is
    proposed anew. Several processes may share the folder.

    Args:
        folder: Its folder `proposals-<digest of the settings>` holds the files.
        settings: `ProposalSettings`; an edge model counts by its content, not by its path.

    Attributes:
        folder: That inner folder.

    Raises:
        UserError: The edge model's file is missing.
    """

    def __init__(self, folder, settings):
        described = {"format": FORMAT_VERSION, **dataclasses.asdict(settings)}
        if settings.edge_model:
            described["edge_model"] = edges.forest_digest(settings.edge_model)
        self.folder = pathlib.Path(folder) / f"proposals-{settings_digest(described)}"
        self._settings = settings

    def extract(self, paths, purpose="proposals", workers=None):
        """Finds what is missing; stopped, it goes on where it was.

        Args:
            paths: Of image files.
            purpose: What the progress bar says.
            workers: Threads; None is one a core.

        Returns:
            Those of `paths` that cannot be read as images, in their order.

        Raises:
            UserError: The edge model cannot be read, or the folder cannot be written to.
        """
        if self._settings.edge_model:
            edges.load_forest(self._settings.edge_model)  # once, before threads ask for it
        # By absolute path: no two threads write the same file.
        todo = list(dict.fromkeys(map(os.path.abspath, paths)))
        readable = {}
        pool = ThreadPoolExecutor(workers or os.cpu_count())
        try:
            with (
                one_core_a_thread(),
                progress_bar(total=len(todo), desc=purpose, unit="image", delay=3) as bar,
            ):
                for path, boxes in zip(todo, pool.map(self._find, todo), strict=True):
                    readable[path] = boxes is not None
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
        return [path for path in paths if not readable[os.path.abspath(path)]]

    def read(self, paths):
        """Boxes of each image, `(k, 4)` uint16 in fixed point as stored; see `boxes_as_floats`.

        What is missing or damaged is found now.

        Raises:
            UserError: An image that `extract` has told to be unreadable; others as of `extract`.
        """
        found = [self._find(path) for path in paths]
        for path, boxes in zip(paths, found, strict=True):
            if boxes is None:
                raise UserError(
                    f"proposals: expected a readable image, received {path}; leave it out."
                )
        return found

    def _find(self, path):
        """Boxes of an image, from its file or found now; None where it cannot be read."""
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
            # Another process may have finished the same file meanwhile.
            if self._load(file) is None:
                raise UserError(
                    f"proposals: expected to write to {self.folder}, received "
                    f"'{error.strerror or error}'; free some space or choose another folder."
                ) from None
        return boxes

    def _file(self, path):
        described = identity(path).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(described).hexdigest()[:32]
        return self.folder / digest[:2] / f"{digest}.npy"

    def _load(self, file):
        """What a file of the cache holds; None where it is missing or damaged."""
        try:
            boxes = np.load(file, allow_pickle=False)
            whole = (
                boxes.dtype == np.uint16
                and boxes.ndim == 2
                and boxes.shape[1] == 4
                and 1 <= len(boxes) <= self._settings.count
                and (boxes[:, :2] < boxes[:, 2:]).all()
            )
        except Exception:  # NumPy raises half a dozen kinds on damaged bytes
            return None
        return boxes if whole else None


@contextlib.contextmanager
def one_core_a_thread():
    """While it lasts, OpenCV takes one core in each thread that calls it."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
