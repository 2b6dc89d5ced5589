"""Examples to batches: images in memory or from files, with their captions as ids.

Every random choice depends on seed, epoch and the example's place alone, and all images are tried
before the first batch. So a run that resumes goes on exactly, and memory changes only the speed.
"""

import functools
import logging
import os
import re

import numpy as np
import tensorflow as tf

from keras_aoa.data.images import decode, prepare, to_original, window
from keras_aoa.data.tokenizer import tokenize
from keras_aoa.data.vocabulary import PAD
from keras_aoa.errors import UserError
from keras_aoa.progress import progress_bar

_SIDE = re.compile(
    r"\b(?:left|right)(?:y|ies|most|wards?|side|hand(?:ed|er|ers)?)?\b|clockwise|southpaw"
)
_READ_TOGETHER = 32  # images
_NAMED = 5  # files named in a message
_STRETCH = 0.15  # most of the logarithm of a crop's width over height, halved

log = logging.getLogger(__name__)


class Images:
    """The readable images of a split, as the network takes them.

    Each file is decoded once here: to keep it, or, where all together take more than `cache_gb`,
    only to know whether it can be read. Make it outside of a `tf.distribute` scope, which would
    copy the pixels to every device.

    Args:
        name: The split, for messages.
        examples: Sequence of `Example`.
        settings: `ImageSettings`.
        cache_gb: Most memory for pixels, GB, size * size * 3 bytes an image; 0 keeps none.

    Attributes:
        examples: As given.
        readable: Places in `examples` of the images that can be read, `(count,)`.
        skipped: Paths of the others.
        windows: What the network sees of each, `(n, 4)` float32, as of `images.window`.

    Raises:
        UserError: No examples, files missing, or not one image readable.
    """

    def __init__(self, name, examples, settings, cache_gb=4.0):
        if tf.distribute.has_strategy():
            raise ValueError("Images: make it outside of the strategy's scope.")
        self.name = name
        self.examples = tuple(examples)
        self._size = settings.size
        self._read = _reader(settings)
        self._paths = np.array([example.path for example in self.examples], dtype=object)
        self.windows = np.zeros((len(self.examples), 4), np.float32)
        self._require_files()
        self._read_all(cache_gb)

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
        shape = (count, self._size, self._size, 3)
        gigabytes = np.prod(shape) / 1e9
        keep = gigabytes <= cache_gb
        if keep:
            log.info("%s: %d images take %.2f GB of memory.", self.name, count, gigabytes)
        elif cache_gb:
            log.warning(
                "%s: %d images take %.2f GB, more than the %.2f GB of cache_gb; they are decoded "
                "anew every epoch.",
                *(self.name, count, gigabytes, cache_gb),
            )
        # A variable can be filled in place: a tensor would take the memory twice.
        with tf.device("CPU:0"):
            self._pixels = tf.Variable(tf.zeros(shape, tf.uint8), trainable=False) if keep else None
        readable = np.zeros(count, bool)
        batches = (
            tf.data.Dataset.from_tensor_slices((np.arange(count), self._paths.astype(str)))
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
                    self._pixels.scatter_update(tf.IndexedSlices(pixels, places))
                progress.update(len(places))
        self.readable = np.flatnonzero(readable)
        self.skipped = list(self._paths[~readable])
        if not len(self.readable):
            raise UserError(
                f"{self.name}: not one of {count} files is a readable image: "
                f"{_some(self.skipped)}; JPEG, PNG, GIF, BMP and WebP can be read."
            )
        if self.skipped:
            log.warning(
                "%s: %d of %d images cannot be read and are left out: %s",
                *(self.name, len(self.skipped), count, _some(self.skipped)),
            )

    def dataset(self, columns):
        """One element for each of `columns["index"]`, places in `examples`.

        It holds its row of every column, `images` `(size, size, 3)` uint8 and `window` `(4,)`.
        """
        places = columns["index"]
        columns = columns | {"window": self.windows[places]}
        if self._pixels is not None:
            return tf.data.Dataset.from_tensor_slices(columns).map(
                lambda row: row | {"images": tf.gather(self._pixels, row["index"])}
            )
        columns["images"] = self._paths[places].astype(str)
        return tf.data.Dataset.from_tensor_slices(columns).map(
            lambda row: row | {"images": self._read(row["images"])[0]}, tf.data.AUTOTUNE
        )


@functools.cache
def _reader(settings):
    # Traced once for all splits and epochs: that takes as long as reading hundreds of images.
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(path):
        image = decode(tf.io.read_file(path))
        height, width = tf.unstack(tf.shape(image)[:2])
        return tf.cast(prepare(image, settings), tf.uint8), window(height, width, settings)

    return read


def image_batches(images, batch_size):
    """Readable images in their order: `images`, `window` and `index` as of `CaptionBatches`."""
    return (
        images.dataset({"index": images.readable.astype(np.int32)})
        .batch(batch_size)
        .map(_as_floats)
        .prefetch(2)
    )


class CaptionBatches:
    """Batches of images, each with its captions, in another order every epoch.

    A batch is a dictionary:
        images: `(n, size, size, 3)` float32, RGB in 0..255.
        captions: `(n, captions_per_image, time)` int32, as of `Vocabulary.encode`, padded with PAD
            to the longest of all. An image with fewer captions has rows of PAD, one with more
            shows other ones each epoch.
        index: `(n,)` int32, places in `images.examples`.
        window: `(n, 4)` float32, as of `images.window`, of the part that was cut out.
        flipped: `(n,)` boolean; such an image is mirrored, and x of its boxes is 1 - x.
    n is `batch_size`, or fewer in the last batch.

    Args:
        images: `Images`. Those without a word of caption are left out.
        vocabulary: `Vocabulary`.
        batch_size: Images of a batch, over all replicas.
        captions_per_image: Captions of an image in one batch.
        max_words: Longer captions are cut.
        flip: Mirror half of the images, never one whose captions tell left from right.
        crop: Cut a random part out of each image, of at least this share of its area, and scale
            it to the whole; 1 leaves images whole.
        seed: Of order, choice and mirroring; 0 or more.

    Raises:
        UserError: No image has a caption.
    """

    def __init__(
        self,
        images,
        vocabulary,
        batch_size,
        captions_per_image=5,
        max_words=20,
        flip=False,
        crop=1.0,
        seed=0,
    ):
        self._images, self._batch_size, self._seed = images, batch_size, seed
        self._crop = crop
        self._captions_per_image = captions_per_image
        tokens = [
            [words for words in map(tokenize, example.captions) if words]
            for example in images.examples
        ]
        counts = np.array([len(captions) for captions in tokens])
        self._usable = images.readable[counts[images.readable] > 0]
        if not len(self._usable):
            raise UserError(f"{images.name}: expected captions, received none; check the data.")
        self._ids = np.full(
            (len(tokens), max(counts.max(), captions_per_image), max_words + 2), PAD, np.int32
        )
        for captions, rows in zip(tokens, self._ids, strict=True):
            for words, row in zip(captions, rows, strict=False):
                ids = vocabulary.encode_words(words, max_words)
                row[: len(ids)] = ids
        # One length for all batches: the unrolled recurrence is compiled once.
        self._ids = self._ids[:, :, (self._ids != PAD).any(axis=(0, 1))]
        self._may_flip = np.array(
            [flip and not any(map(_tells_sides, captions)) for captions in tokens]
        )
        self.batches_per_epoch = -(-len(self._usable) // batch_size)

    def epoch(self, number, skip_batches=0):
        """The batches of epoch `number`; the first `skip_batches` are not even decoded."""
        order, captions, flipped, crops = self._choices(number)
        places = order[skip_batches * self._batch_size :].astype(np.int32)
        images = self._images.dataset(
            {"index": places, "captions": captions[places], "flipped": flipped[places]}
            | ({} if self._crop == 1 else {"crop": crops[places]})
        )
        if self._crop < 1:
            images = images.map(_cut_out)
        return images.map(_mirror).batch(self._batch_size).map(_as_floats).prefetch(2)

    def names(self, index):
        """Paths of the images of a batch, by its `index`."""
        return [self._images.examples[place].path for place in index]

    def _choices(self, number):
        """Order of the places; captions, mirroring and crop of every place."""
        random = np.random.default_rng((self._seed, number))
        order = random.permutation(len(self._ids))
        absent = self._ids[:, :, 0] == PAD
        lots = np.where(absent, 1, random.random(absent.shape))
        chosen = np.sort(np.argsort(lots, axis=1)[:, : self._captions_per_image], axis=1)
        captions = np.take_along_axis(self._ids, chosen[:, :, None], axis=1)
        flipped = self._may_flip & (random.random(len(self._ids)) < 0.5)
        crops = _random_windows(random, len(self._ids), self._crop)
        return order[np.isin(order, self._usable)], captions, flipped, crops


def _random_windows(random, count, least_area):
    """Parts of a square, `(count, 4)` float32, x0, y0, x1, y1 in 0..1."""
    side = np.sqrt(random.uniform(least_area, 1, count))
    stretch = np.exp(random.uniform(-_STRETCH, _STRETCH, count))
    size = np.minimum(np.stack([side * stretch, side / stretch], axis=1), 1)
    start = random.random((count, 2)) * (1 - size)
    return np.concatenate([start, start + size], axis=1).astype(np.float32)


def _cut_out(row):
    crop, images = row.pop("crop"), row["images"]
    size = images.shape[:2]
    box = tf.gather(crop, [1, 0, 3, 2])  # rows come first
    cut = tf.image.crop_and_resize(images[None], box[None], [0], size)[0]
    corners = to_original(tf.reshape(crop, (2, 2)), row["window"])
    return row | {
        "images": tf.cast(tf.round(cut), tf.uint8),
        "window": tf.reshape(corners, (4,)),
    }


def _mirror(row):
    # One image at a time: `tf.reverse` of a batch takes ten times as long.
    images = row["images"]
    return row | {
        "images": tf.cond(row["flipped"], lambda: tf.reverse(images, [1]), lambda: images)
    }


def _as_floats(batch):
    return batch | {"images": tf.cast(batch["images"], tf.float32)}


def _tells_sides(words):
    return _SIDE.search(" ".join(words)) is not None


def _some(paths):
    return ", ".join(paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
