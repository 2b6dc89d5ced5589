"""Batches of images, from memory or files, with their captions as word ids.

Random choices depend only on the seed, the epoch and the example's index. Unreadable images are
found before the first batch. A resumed run therefore continues exactly. The memory available for
images affects only the speed.
"""

import re

import numpy as np

from keras_aoa.data.images.split_images import batched, padded
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.distribution.replicas import ONE_REPLICA
from keras_aoa.utils.errors import UserError

_SIDE = re.compile(
    r"\b(?:left|right)(?:y|ies|most|wards?|side|hand(?:ed|er|ers)?)?\b|clockwise|southpaw"
)
_VIEW_SEED = 4001  # separates the random crops of views from all other random choices
_STRETCH = 0.15  # the logarithm of a crop's aspect ratio is at most twice this number


class CaptionBatches:
    """Batches of images with their captions, shuffled in every epoch.

    A batch is a dictionary:

    - `images`: `(n, size, size, 3)` float32, RGB in 0..255.
    - `captions`: `(n, captions_per_image, time)` int32, word ids as returned by
      `Vocabulary.encode`. PAD fills each row up to the length of the split's longest caption. If an
      image has too few captions, the image's last rows contain only PAD. If an image has too many
      captions, each epoch uses a random choice of its captions.
    - `index`: `(n,)` int32, indices into `images.examples`.
    - `window`: `(n, 4)` float32. A row is the part of the image that the network's input covers, as
      returned by `window` in `preprocessing.py`.
    - `flipped`: `(n,)` boolean. True for images that are mirrored left to right: x becomes 1 - x.
    - the columns that `add_column` added.

    If the regions are object proposals, the batch also has:

    - `region_images`: `(n, side, side, 3)` float32, the input of the network that computes region
      features.
    - `proposals`: `(n, regions, 4)` float32. A box is x0, y0, x1, y1 relative (0..1) to
      `region_images`. The boxes are chosen at random in each epoch. Boxes with zero area are
      padding.

    n is `batch_size`, or less in the last batch.

    Args:
        images: `Images`. Images whose captions have no words are left out.
        vocabulary: `Vocabulary`.
        batch_size: Number of images in a batch, summed over all replicas.
        captions_per_image: Number of captions per image in a batch.
        max_words: Maximum number of words per caption; longer captions are cut.
        flip: Whether to mirror half of the images. Images whose captions mention left or right are
            never mirrored.
        crop: Minimum area of a random crop, as a share of the input's area. The crop is scaled to
            the full input size. The value 1 disables cropping.
        seed: Seed of all random choices, 0 or more.
        proposals: Maximum number of object proposals per image. If an image has more proposals,
            they are chosen at random.

    Raises:
        UserError: No image has a caption, or `crop` is used with object proposals.
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
        proposals=50,
    ):
        if crop < 1 and images.has_proposals:
            raise UserError(
                f"crop: expected 1, because object proposals need whole images, received {crop}; "
                "set crop to 1."
            )
        self._images, self._batch_size, self._seed = images, batch_size, seed
        self._views = None
        self._columns = {}
        self._sampled = proposals
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
        # The captions of all batches have the same length, so that the unrolled recurrence is
        # compiled once.
        self._ids = self._ids[:, :, (self._ids != PAD).any(axis=(0, 1))]
        self._may_flip = flip & np.array([not any(map(_mentions_sides, words)) for words in tokens])
        self.batches_per_epoch = -(-len(self._usable) // batch_size)
        self._max_proposals = 0
        if images.has_proposals:
            self._max_proposals = min(proposals, max(map(images.proposal_count, self._usable)))

    def epoch(self, number, skip_batches=0, replicas=ONE_REPLICA):
        """Return the batches of one epoch.

        With several replicas, each batch is divided into equal parts, one per replica. The dataset
        yields the parts of this process's replicas, one after another. If a part has too few
        images, it is filled up with images whose captions are only PAD.

        Args:
            number: Number of the epoch, which determines the random choices.
            skip_batches: Number of batches to skip; their images are not decoded.
            replicas: `Replicas` among which each batch is divided.

        Returns:
            A `tf.data.Dataset` of batches, in the form that the class docstring describes.
        """
        order, chosen, flipped, crops, views = self._choices(number)
        captions = np.take_along_axis(self._ids, chosen[:, :, None], axis=1)
        order = order[skip_batches * self._batch_size :].astype(np.int32)
        indices, real, size = replicas.parts(order, self._batch_size)
        captions = np.where(real[:, None, None], captions[indices], PAD)
        images = self._images.dataset(
            {"index": indices, "captions": captions, "flipped": flipped[indices]}
            | ({} if self._crop == 1 else {"crop": crops[indices]})
            | ({} if self._views is None else {"view": views[indices]})
            | self._added_columns(indices, chosen)
            | self._proposals(number, indices, flipped)
        )
        return batched(images, size)

    @property
    def caption_shape(self):
        """Two maxima: captions per image, and words per caption, STOP included."""
        return self._ids.shape[1], self._ids.shape[2] - 1

    @property
    def mirrored_indices(self):
        """Indices, into `images.examples`, of the images that are mirrored in some epochs."""
        return self._usable[self._may_flip[self._usable]]

    def set_source(self, images):
        """Replace the source of the images, for example by their precomputed features.

        Args:
            images: `Images` or `ImageFeatures` of the same examples.
        """
        self._images, self._views = images, getattr(images, "views", None)

    def add_column(self, name, values, of_captions=False):
        """Add a column to all batches.

        Args:
            name: Name of the column.
            values: Array `(n, …)` with a row for each image. If `of_captions` is true, an array
                `(n, rows, …)` with a row for each caption that has words.
            of_captions: Whether `values` has a row for each caption instead of each image.
        """
        self._columns[name] = values, of_captions

    def _added_columns(self, indices, chosen):
        """Return the rows of all added columns, for images and their chosen captions."""
        added = {}
        for name, (values, of_captions) in self._columns.items():
            # In this order, so that no copy of all images is made.
            rows = (indices[:, None], chosen[indices]) if of_captions else indices
            added[name] = values[rows]
        return added

    def fixed_views(self, count):
        """Return `count` views `(count, n, 4)`; a view selects one part of each image.

        The features of the selected parts can be cached. The first view selects the whole images.
        The other views select random crops. The crops do not depend on the seed, so runs with
        different seeds share the cached features.
        """
        whole = np.tile(np.float32([0, 0, 1, 1]), (1, len(self._ids), 1))
        crops = [
            _random_windows(np.random.default_rng((_VIEW_SEED, view)), len(self._ids), self._crop)
            for view in range(1, count)
        ]
        return np.concatenate([whole, *(each[None] for each in crops)])

    def names(self, index):
        """Return the image paths of a batch, given its `index`."""
        return [self._images.examples[i].path for i in index]

    def _proposals(self, number, indices, flipped):
        """Return the column `proposals` for an epoch, or no column if there are no proposals."""
        if not self._images.has_proposals:
            return {}
        boxes = []
        for index in indices:
            # One random stream per image, so that skipped batches do not change the choice.
            random = np.random.default_rng((self._seed, number, index))
            chosen = self._images.proposals(
                index, lambda count, random=random: random.permutation(count)[: self._sampled]
            )
            boxes.append(mirrored(chosen) if flipped[index] else chosen)
        # All batches have the same number of boxes, even if some batches are skipped.
        return {"proposals": padded(boxes, self._max_proposals)}

    def _choices(self, number):
        """Return an epoch's random choices: order, rows of captions, flips, crops and views.

        The order contains only the usable examples; the other arrays contain all examples.
        """
        random = np.random.default_rng((self._seed, number))
        order = random.permutation(len(self._ids))
        absent = self._ids[:, :, 0] == PAD
        ranks = np.where(absent, 1, random.random(absent.shape))
        chosen = np.sort(np.argsort(ranks, axis=1)[:, : self._captions_per_image], axis=1)
        flipped = self._may_flip & (random.random(len(self._ids)) < 0.5)
        crops = _random_windows(random, len(self._ids), self._crop)
        views = np.zeros(len(self._ids), np.int32)
        if self._views is not None:
            views = random.integers(len(self._views), size=len(self._ids), dtype=np.int32)
            crops = self._views[views, np.arange(len(self._ids))]
        return order[np.isin(order, self._usable)], chosen, flipped, crops, views


def _random_windows(random, count, least_area):
    """Return random parts of a square, `(count, 4)`; a row is x0, y0, x1, y1 in 0..1."""
    side = np.sqrt(random.uniform(least_area, 1, count))
    stretch = np.exp(random.uniform(-_STRETCH, _STRETCH, count))
    size = np.minimum(np.stack([side * stretch, side / stretch], axis=1), 1)
    start = random.random((count, 2)) * (1 - size)
    return np.concatenate([start, start + size], axis=1).astype(np.float32)


def mirrored(boxes):
    """Mirror boxes `(r, 4)` left to right; a box is x0, y0, x1, y1 in 0..1."""
    x0, y0, x1, y1 = boxes.T
    return np.stack([1 - x1, y0, 1 - x0, y1], axis=1)


def _mentions_sides(words):
    return _SIDE.search(" ".join(words)) is not None
