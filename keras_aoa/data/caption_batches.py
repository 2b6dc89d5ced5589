"""Examples to batches: images in memory or from files, with their captions as ids.

Every random choice depends on seed, epoch and the example's place alone, and all images are tried
before the first batch. So a run that resumes goes on exactly, and memory changes only the speed.
"""

import re

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import to_original
from keras_aoa.data.images.split_images import batched, padded
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.distribution.replicas import ONE_REPLICA
from keras_aoa.utils.errors import UserError

_SIDE = re.compile(
    r"\b(?:left|right)(?:y|ies|most|wards?|side|hand(?:ed|er|ers)?)?\b|clockwise|southpaw"
)
_STRETCH = 0.15  # most of the logarithm of a crop's width over height, halved


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
    and where object proposals are the regions:
        region_images: `(n, side, side, 3)` float32, what the network sees that pools them.
        proposals: `(n, regions, 4)` float32, x0, y0, x1, y1 in 0..1 of that input, other ones
            each epoch; boxes without area where an image has fewer.
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
        regions: Most object proposals of an image, a random choice.

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
        regions=50,
    ):
        if crop < 1 and images.has_proposals:
            raise UserError(
                f"crop: object proposals need whole images, received {crop}; set it to 1."
            )
        self._images, self._batch_size, self._seed = images, batch_size, seed
        self._regions = regions
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
        self._may_flip = flip & np.array([not any(map(_tells_sides, words)) for words in tokens])
        self.batches_per_epoch = -(-len(self._usable) // batch_size)
        self._most_shown = 0
        if images.has_proposals:
            self._most_shown = min(regions, max(map(images.proposal_count, self._usable)))

    def epoch(self, number, skip_batches=0, replicas=ONE_REPLICA):
        """The batches of epoch `number`; the first `skip_batches` are not even decoded.

        Each batch is cut into as many as `replicas` are fed here, one after the other. Images that
        only fill a part up have rows of PAD for captions.
        """
        order, captions, flipped, crops = self._choices(number)
        order = order[skip_batches * self._batch_size :].astype(np.int32)
        places, real, size = replicas.parts(order, self._batch_size)
        shown = np.where(real[:, None, None], captions[places], PAD)
        images = self._images.dataset(
            {"index": places, "captions": shown, "flipped": flipped[places]}
            | ({} if self._crop == 1 else {"crop": crops[places]})
            | self._proposals(number, places, flipped)
        )
        if self._crop < 1:
            images = images.map(_cut_out)
        return batched(images, size)

    @property
    def mirrored_places(self):
        """Places in `images.examples` of the images that some epochs show mirrored."""
        return self._usable[self._may_flip[self._usable]]

    def set_source(self, images):
        """Take the images from elsewhere: the same ones, as a network saw them before."""
        self._images = images

    def names(self, index):
        """Paths of the images of a batch, by its `index`."""
        return [self._images.examples[place].path for place in index]

    def _proposals(self, number, places, flipped):
        """Columns of the proposals shown in an epoch."""
        if not self._images.has_proposals:
            return {}
        boxes = []
        for place in places:
            # Each image's own stream: the choice does not depend on the batches skipped.
            random = np.random.default_rng((self._seed, number, place))
            shown = self._images.proposals(
                place, lambda count, random=random: random.permutation(count)[: self._regions]
            )
            boxes.append(mirrored(shown) if flipped[place] else shown)
        # One width for all batches, whichever are skipped.
        return {"proposals": padded(boxes, self._most_shown)}

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


def mirrored(boxes):
    """Boxes `(r, 4)`, x0, y0, x1, y1 in 0..1, of the mirrored image."""
    x0, y0, x1, y1 = boxes.T
    return np.stack([1 - x1, y0, 1 - x0, y1], axis=1)


def _tells_sides(words):
    return _SIDE.search(" ".join(words)) is not None
