"""The readable images of a split, decoded, as the networks take them, and their proposals.

Every image is tried before the first batch, so that memory changes only the speed.
"""

import functools
import logging
import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import (
    ImageSettings,
    decode,
    from_original,
    is_small_file,
    prepare,
    why_unreadable,
    window,
)
from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings, boxes_as_floats
from keras_aoa.distribution.replicas import ONE_REPLICA
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import progress_bar
from keras_aoa.utils.text import printable

VIEWS = ("images", "region_images")  # what batches call the pixels that a network sees

_READ_TOGETHER = 32  # images
_NAMED = 5  # files named in a message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProposalView:
    """How a network that pools object proposals sees images.

    `settings` are those of its input, `search` tells how proposals are found, and `folder` where
    they are kept.
    """

    settings: ImageSettings
    search: ProposalSettings
    folder: str | os.PathLike


class Images:
    """The readable images of a split, as the networks take them.

    Each file is decoded once here: to keep it, or, where all together take more than `cache_gb`,
    only to know whether it can be read. Make it outside of a `tf.distribute` scope, which would
    copy the pixels to every device.

    Args:
        name: The split, for messages.
        examples: Sequence of `Example`.
        settings: `ImageSettings`.
        cache_gb: Most memory for pixels, GB, side * side * 3 bytes an image; 0 keeps none.
        proposal_view: `ProposalView`, where object proposals are the regions. They are found here
            as far as the cache lacks them.

    Attributes:
        examples: As given.
        readable: Places in `examples` of the images that can be read, `(count,)`.
        skipped: Paths of the others.
        windows: What the network that makes the regions sees of each, `(n, 4)` float32, as of
            `images.window`.

    Raises:
        UserError: No examples, files missing, or not one image readable.
    """

    def __init__(self, name, examples, settings, cache_gb=4.0, proposal_view=None):
        if tf.distribute.has_strategy():
            raise ValueError("Images: make it outside of the strategy's scope.")
        self.name = name
        self.examples = tuple(examples)
        views = (settings, *([proposal_view.settings] if proposal_view else []))
        self._settings = dict(zip(VIEWS, views, strict=False))
        self._read = _reader(tuple(self._settings.items()))
        self._paths = np.array([example.path for example in self.examples], dtype=object)
        self.windows = np.zeros((len(self.examples), 4), np.float32)
        self._require_files()
        self._read_all(cache_gb)
        self._boxes = None
        if proposal_view:
            paths = [self._paths[place] for place in self.readable]
            cache = ProposalCache(proposal_view.folder, proposal_view.search)
            cache.extract(paths, f"{name}: proposals")
            self._boxes = dict(zip(self.readable, cache.read(paths), strict=True))

    @property
    def has_proposals(self):
        """Whether object proposals were found."""
        return self._boxes is not None

    def proposal_count(self, place):
        """How many object proposals the image at a place has."""
        return len(self._boxes[place])

    def proposals(self, place, chosen):
        """Boxes of the image at a place, in 0..1 of what its regions' network sees.

        Args:
            place: In `examples`.
            chosen: From their number to which of them, best first: places, or a slice.

        Returns:
            `(k, 4)` float32, x0, y0, x1, y1.
        """
        boxes = self._boxes[place]
        return from_original(boxes_as_floats(boxes[chosen(len(boxes))]), self.windows[place])

    def _require_files(self):
        if not self.examples:
            raise UserError(f"{self.name}: expected images, received none; check the data's path.")
        missing = [path for path in self._paths if not os.path.isfile(path)]
        if missing:
            raise UserError(
                f"{self.name}: {len(missing)} of {len(self.examples)} images are missing: "
                f"{_some(missing)}; add the files or remove their captions."
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
                "%s: %d images take %.2f GB, more than the %.2f GB of cache_gb; they are decoded "
                "anew every epoch.",
                *(self.name, count, gigabytes, cache_gb),
            )
        self._pixels = None
        if keep:
            # A variable can be filled in place: a tensor would take the memory twice.
            with tf.device("CPU:0"):
                self._pixels = {
                    name: tf.Variable(tf.zeros(shape, tf.uint8), trainable=False)
                    for name, shape in shapes.items()
                }
        readable = np.zeros(count, bool)
        small = np.flatnonzero([is_small_file(path) for path in self._paths])
        batches = (
            tf.data.Dataset.from_tensor_slices((small, self._file_names(small)))
            .map(lambda place, path: (place, *self._read(path)), tf.data.AUTOTUNE)
            .ignore_errors()
            .batch(_READ_TOGETHER)
            .prefetch(tf.data.AUTOTUNE)
        )
        purpose = f"{self.name}: reading {gigabytes:.2f} GB" if keep else f"{self.name}: checking"
        with progress_bar(total=count, desc=purpose, unit="image", delay=3) as progress:
            for places, pixels, windows in batches:
                readable[places] = True
                self.windows[places] = windows
                if keep:
                    for name, values in pixels.items():
                        self._pixels[name].scatter_update(tf.IndexedSlices(values, places))
                progress.update(len(places))
        self.readable = np.flatnonzero(readable)
        self.skipped = list(self._paths[~readable])
        for path in self.skipped:
            log.warning("%s: cannot read %s: %s.", self.name, printable(path), why_unreadable(path))
        if not len(self.readable):
            raise UserError(
                f"{self.name}: not one of {count} files is a readable image: "
                f"{_some(self.skipped)}; JPEG, PNG, GIF, BMP and WebP can be read."
            )
        if self.skipped:
            log.warning(
                "%s: %d of %d images cannot be read and are left out.",
                *(self.name, len(self.skipped), count),
            )

    def _file_names(self, places):
        # A name need not be text.
        return np.array([os.fsencode(path) for path in self._paths[places]], dtype=bytes)

    def dataset(self, columns):
        """One element for each of `columns["index"]`, places in `examples`.

        It holds its row of every column, `images` `(side, side, 3)` uint8, with proposals
        `region_images` likewise, and `window` `(4,)`.
        """
        places = columns["index"]
        columns = columns | {"window": self.windows[places]}
        if self._pixels is not None:

            def from_memory(row):
                place = row["index"]
                return row | {name: tf.gather(kept, place) for name, kept in self._pixels.items()}

            return tf.data.Dataset.from_tensor_slices(columns).map(from_memory)
        return tf.data.Dataset.from_tensor_slices((columns, self._file_names(places))).map(
            lambda row, path: row | self._read(path)[0], tf.data.AUTOTUNE
        )

    def batches(self, columns, batch_size):
        """Batches of `dataset`'s elements, mirrored where `flipped` says so, pixels as floats."""
        return batched(self.dataset(columns), batch_size)


@functools.cache
def _reader(views):
    # Traced once for all splits and epochs: that takes as long as reading hundreds of images.
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(path):
        image = decode(tf.io.read_file(path))
        height, width = tf.unstack(tf.shape(image)[:2])
        pixels = {name: tf.cast(prepare(image, view), tf.uint8) for name, view in views}
        return pixels, window(height, width, views[-1][1])

    return read


def image_batches(images, batch_size, regions=None, replicas=ONE_REPLICA):
    """Readable images in their order, in the same batches as `CaptionBatches` without captions.

    Args:
        images: `Images`.
        batch_size: Images of a batch, of one replica.
        regions: Most object proposals of an image, the best; needed where there are proposals.
        replicas: `Replicas` that are fed here; an image that fills a part up comes twice.
    """
    readable = images.readable.astype(np.int32)
    places, _, size = replicas.parts(readable, batch_size * replicas.total)
    columns = {"index": places}
    if images.has_proposals:
        columns["proposals"] = padded(
            [images.proposals(place, lambda count: slice(regions)) for place in places]
        )
    return images.batches(columns, size)


def padded(boxes, most=0):
    """Lists of boxes as one array `(n, r, 4)`, filled up with boxes without area.

    r is the length of the longest, or `most` if that is more.
    """
    filled = np.zeros((len(boxes), max([most, *map(len, boxes)]), 4), np.float32)
    for row, own in zip(filled, boxes, strict=True):
        row[: len(own)] = own
    return filled


def batched(rows, batch_size):
    """Batches of rows of `Images.dataset`, mirrored where `flipped` says so, as floats."""
    return rows.map(_mirror).batch(batch_size).map(_as_floats).prefetch(2)


def _mirror(row):
    if "flipped" not in row:
        return row

    # One image at a time: `tf.reverse` of a batch takes ten times as long.
    def mirror(pixels):
        return tf.cond(row["flipped"], lambda: tf.reverse(pixels, [1]), lambda: pixels)

    return row | {name: mirror(row[name]) for name in VIEWS if name in row}


def _as_floats(batch):
    pixels = {name: tf.cast(batch[name], tf.float32) for name in VIEWS if name in batch}
    return batch | pixels


def _some(paths):
    named = ", ".join(map(printable, paths[:_NAMED]))
    return named + (", …" if len(paths) > _NAMED else "")
