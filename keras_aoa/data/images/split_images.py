"""The readable images of a split as network inputs, with their object proposals.

Every file is decoded once before the first batch, to find unreadable files. The memory limit for
pixels therefore affects only the speed.
"""

import contextlib
import functools
import logging
import os
from multiprocessing.pool import ThreadPool

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.other_formats import read_file
from keras_aoa.data.images.preprocessing import (
    from_original,
    is_small_file,
    to_original,
    why_unreadable,
)
from keras_aoa.data.images.views import NetworkViews
from keras_aoa.data.proposals.cache import ProposalCache, boxes_as_floats
from keras_aoa.distribution.replicas import ONE_REPLICA
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import progress_bar
from keras_aoa.utils.text import printable

VIEWS = ("images", "region_images")  # keys of a batch that contain pixels

_READ_TOGETHER = 128  # images
_NAMED = 5  # files named in a message

log = logging.getLogger(__name__)


class Images:
    """The readable images of a split as network inputs.

    The constructor decodes each file once. The pixels stay in memory if all images fit into
    `cache_gb`. If the images do not fit, the constructor only checks that the files are readable.
    Create `Images` outside of a `tf.distribute` scope, which would copy the pixels to every device.

    Args:
        name: Name of the split, for messages.
        examples: Sequence of `Example`.
        settings: `ImageSettings`.
        cache_gb: Memory limit for pixels in GB. An image needs side * side * 3 bytes. If the limit
            is 0, no pixels stay in memory.
        proposal_view: `ProposalView` if the regions are object proposals, otherwise None.
            Proposals that are not in the cache are computed.

    Attributes:
        examples: The given examples.
        readable: Indices `(count,)` of the examples whose images are readable.
        skipped: Paths of the unreadable images.
        windows: Array `(n, 4)` float32. A row is the part of an image from which the regions are
            computed, as returned by `preprocessing.window`.

    Raises:
        UserError: There are no examples, files are missing, or no image is readable.
    """

    def __init__(self, name, examples, settings, cache_gb=4.0, proposal_view=None):
        if tf.distribute.has_strategy():
            raise ValueError(
                "Images: expected no strategy scope, received one; create Images outside of it."
            )
        self.name = name
        self.examples = tuple(examples)
        views = NetworkViews(settings, proposal_view.settings if proposal_view else None)
        self._settings = views.pixel_settings
        self._read = _reader(views)
        self._paths = np.array([example.path for example in self.examples], dtype=object)
        self.windows = np.zeros((len(self.examples), 4), np.float32)
        self._require_files()
        self._read_all(cache_gb)
        self._boxes = None
        if proposal_view:
            paths = [self._paths[index] for index in self.readable]
            cache = ProposalCache(proposal_view.folder, proposal_view.search)
            cache.extract(paths, f"{name}: proposals")
            self._boxes = dict(zip(self.readable, cache.read(paths), strict=True))

    @property
    def has_proposals(self):
        """Whether there are object proposals."""
        return self._boxes is not None

    def proposal_count(self, index):
        """Number of object proposals of an example's image."""
        return len(self._boxes[index])

    def proposals(self, index, choose):
        """Return object proposals of an example's image.

        Args:
            index: Index of the example.
            choose: Function that receives the number of proposals and returns the indices or the
                slice of the chosen proposals. The best proposal has index 0.

        Returns:
            Boxes `(k, 4)` float32. A box is x0, y0, x1, y1 relative (0..1) to `region_images`.
        """
        boxes = self._boxes[index]
        return from_original(boxes_as_floats(boxes[choose(len(boxes))]), self.windows[index])

    def _require_files(self):
        if not self.examples:
            raise UserError(f"{self.name}: expected images, received none; check the data's path.")
        missing = [path for path in self._paths if not os.path.isfile(path)]
        if missing:
            raise UserError(
                f"{self.name}: {len(missing)} of {len(self.examples)} images are missing: "
                f"{_first_names(missing)}; add the files or remove their captions."
            )

    def _read_all(self, cache_gb):
        count = len(self.examples)
        shapes = {name: (count, view.side, view.side, 3) for name, view in self._settings.items()}
        gigabytes = sum(np.prod(shape) for shape in shapes.values()) / 1e9
        keep = gigabytes <= cache_gb
        if keep:
            log.info("%s: %d images take %.2f GB of memory.", self.name, count, gigabytes)
        elif cache_gb:
            log.warning(
                "%s: %d images take %.2f GB, more than the %.2f GB of cache_gb; the images are "
                "decoded again in every epoch.",
                *(self.name, count, gigabytes, cache_gb),
            )
        self._pixels = None
        if keep:
            # A variable can be filled in place; a tensor would need twice the memory.
            with tf.device("CPU:0"):
                self._pixels = {
                    name: tf.Variable(tf.zeros(shape, tf.uint8), trainable=False)
                    for name, shape in shapes.items()
                }
        readable = np.zeros(count, bool)
        small = np.flatnonzero([is_small_file(path) for path in self._paths])
        purpose = f"{self.name}: reading {gigabytes:.2f} GB" if keep else f"{self.name}: checking"
        # The first call, and the first one after `keras.utils.set_random_seed`, optimizes the graph
        # for half a second; threads that start together would all do it.
        with contextlib.suppress(tf.errors.OpError):
            self._read(b"")
        # Threads, because a `tf.data.Dataset` would optimize the graph of `read` again.
        with (
            ThreadPool() as threads,
            progress_bar(total=count, desc=purpose, unit="image", delay=3) as progress,
        ):
            for start in range(0, len(small), _READ_TOGETHER):
                part = small[start : start + _READ_TOGETHER]
                read = threads.map(self._try_to_read, self._file_names(part))
                rows = [(index, *row) for index, row in zip(part, read, strict=True) if row]
                if not rows:
                    continue
                indices, pixels, windows = map(list, zip(*rows, strict=True))
                readable[indices] = True
                self.windows[indices] = np.stack(windows)
                for name, kept in (self._pixels or {}).items():
                    values = tf.stack([views[name] for views in pixels])
                    kept.scatter_update(tf.IndexedSlices(values, indices))
                progress.update(len(rows))
        self.readable = np.flatnonzero(readable)
        self.skipped = list(self._paths[~readable])
        for path in self.skipped:
            log.warning("%s: cannot read %s: %s.", self.name, printable(path), why_unreadable(path))
        if not len(self.readable):
            raise UserError(
                f"{self.name}: none of {count} files is a readable image: "
                f"{_first_names(self.skipped)}; use JPEG, PNG, GIF, BMP or WebP."
            )
        if self.skipped:
            log.warning(
                "%s: %d of %d images cannot be read and are left out.",
                *(self.name, len(self.skipped), count),
            )

    def _try_to_read(self, path):
        """Return the pixels and the window of a file, or None if the file is not readable."""
        try:
            return self._read(path)
        except tf.errors.OpError:
            return None

    def _file_names(self, indices):
        # A file name may contain bytes that are not text.
        return np.array([os.fsencode(path) for path in self._paths[indices]], dtype=bytes)

    def dataset(self, columns):
        """Return a dataset with one element per row of `columns`.

        `columns["index"]` contains indices of examples. An element contains its row of every
        column, `images (side, side, 3)` uint8 and `window (4,)`. If there are proposals, an element
        also contains `region_images`. The optional column `crop` selects a part of each input, x0,
        y0, x1, y1 in 0..1. The selected part is scaled to the full size.
        """
        rows = self._whole(columns)
        return rows.map(_cut_out, tf.data.AUTOTUNE) if "crop" in columns else rows

    def _whole(self, columns):
        indices = columns["index"]
        columns = columns | {"window": self.windows[indices]}
        if self._pixels is not None:

            def from_memory(row):
                index = row["index"]
                return row | {name: tf.gather(kept, index) for name, kept in self._pixels.items()}

            return tf.data.Dataset.from_tensor_slices(columns).map(from_memory)
        return tf.data.Dataset.from_tensor_slices((columns, self._file_names(indices))).map(
            lambda row, path: row | self._read(path)[0], tf.data.AUTOTUNE
        )

    def batches(self, columns, batch_size):
        """Return batches of `dataset` with float pixels.

        Images whose `flipped` is true are mirrored.
        """
        return batched(self.dataset(columns), batch_size)


@functools.cache
def _reader(views):
    # Trace once for all splits and epochs: tracing takes as long as reading hundreds of images.
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(path):
        # On a GPU, each image would be copied there and back, and pixels might differ.
        with tf.device("CPU:0"):
            pixels = views(decode(read_file(path)))
            window = pixels.pop("window")
            return {name: tf.cast(part, tf.uint8) for name, part in pixels.items()}, window

    return read


def image_batches(images, batch_size, proposals=None, replicas=ONE_REPLICA):
    """Return batches of the readable images, in order and without captions.

    Args:
        images: `Images`.
        batch_size: Number of images that one replica receives in a batch.
        proposals: Maximum number of object proposals per image; required if there are proposals.
        replicas: `Replicas` of this process. Batches are filled up with repeated images.
    """
    readable = images.readable.astype(np.int32)
    indices, _, size = replicas.parts(readable, batch_size * replicas.total)
    columns = {"index": indices}
    if images.has_proposals:
        columns["proposals"] = padded(
            [images.proposals(index, lambda count: slice(proposals)) for index in indices]
        )
    return images.batches(columns, size)


def padded(boxes, least=0):
    """Stack lists of boxes into one array `(n, r, 4)`, padded with boxes of zero area.

    r is the length of the longest list, but at least `least`.
    """
    stacked = np.zeros((len(boxes), max([least, *map(len, boxes)]), 4), np.float32)
    for row, own in zip(stacked, boxes, strict=True):
        row[: len(own)] = own
    return stacked


def batched(rows, batch_size):
    """Batch the rows of `Images.dataset`, and convert their pixels to floats.

    Images whose `flipped` is true are mirrored.
    """
    batches = rows.map(_mirror).batch(batch_size).map(_as_floats).prefetch(2)
    options = tf.data.Options()
    # With autotuning, a dataset that ends waits for the tuner, which sleeps for up to a minute.
    options.autotune.enabled = False
    return batches.with_options(options)


def _cut_out(row):
    images, size = row["images"], row["images"].shape[:2]
    box = tf.gather(row["crop"], [1, 0, 3, 2])  # TensorFlow's order is y0, x0, y1, x1
    cut = tf.image.crop_and_resize(images[None], box[None], [0], size)[0]
    return cropped_window(row) | {"images": tf.cast(tf.round(cut), tf.uint8)}


def cropped_window(row):
    """Replace a row's `window` by the part of the image that the row's `crop` covers."""
    corners = to_original(tf.reshape(row.pop("crop"), (2, 2)), row["window"])
    return row | {"window": tf.reshape(corners, (4,))}


def _mirror(row):
    if "flipped" not in row:
        return row

    # Mirror one image at a time, because `tf.reverse` of a batch takes ten times as long.
    def mirror(pixels):
        return tf.cond(row["flipped"], lambda: tf.reverse(pixels, [1]), lambda: pixels)

    return row | {name: mirror(row[name]) for name in VIEWS if name in row}


def _as_floats(batch):
    pixels = {name: tf.cast(batch[name], tf.float32) for name in VIEWS if name in batch}
    return batch | pixels


def _first_names(paths):
    named = ", ".join(map(printable, paths[:_NAMED]))
    return named + (", …" if len(paths) > _NAMED else "")
