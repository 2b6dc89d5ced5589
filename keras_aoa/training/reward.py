"""Computes CIDEr-D and BLEU-4 of sampled captions exactly, fast enough for every training step.

Sources: Vedantam et al., "CIDEr", CVPR 2015, arXiv:1411.5726, and its variant CIDEr-D of Chen et
al., arXiv:1504.00325; Papineni et al., "BLEU", ACL 2002. Letters in shapes: m caption, t time step,
g distinct n-gram of a caption, r reference.
"""

import hashlib
import json
from typing import NamedTuple

import numpy as np

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.models import weights
from keras_aoa.utils.errors import UserError

LONGEST = 4  # words of an n-gram
SIGMA = 6.0  # of CIDEr-D's penalty for lengths that differ
MOST_WORDS = 55_000  # so that the code of an n-gram fits into 64 bits; other words share one number


class NGrams(NamedTuple):
    """The distinct n-grams of captions, sorted by caption and by n.

    `caption (g,)` is the index of the caption, `code (g,)` identifies the n-gram, `order (g,)` is
    n - 1, and `count (g,)` is how often the n-gram occurs in the caption.
    """

    caption: np.ndarray
    code: np.ndarray
    order: np.ndarray
    count: np.ndarray


class CaptionReward:
    """Scores captions against the references of their images.

    The scores equal the scores of pycocoevalcap with document frequencies from the given
    references. The end of a caption counts as a word, so that a caption that stops in the middle of
    a sentence scores lower.

    Args:
        references: For each image a list of captions, as text. Each image has at least one caption.
        vocabulary: `Vocabulary` of the captions to score. The references may contain other words.
        cider: Weight of CIDEr-D, which is 10 for a perfect caption.
        bleu: Weight of BLEU-4, which is 1 for a perfect caption.

    Attributes:
        endings: Booleans, by word id: whether some reference ends with the word.
        codes: Codes `(g,)` of all n-grams of the references, sorted.
        frequencies: Document frequencies `(g,)`: for each n-gram the number of images with a
            reference that contains it.
        digest: Digest of the references.
    """

    def __init__(self, references, vocabulary, cider=1.0, bleu=0.0):
        self.weights = cider, bleu
        self.digest = hashlib.sha256(json.dumps(references).encode()).hexdigest()[:16]
        numbers = {word: number for number, word in enumerate(vocabulary.words)}
        texts = [
            [*(numbers.setdefault(word, len(numbers)) for word in tokenize(caption)), STOP]
            for captions in references
            for caption in captions
        ]
        image = np.repeat(np.arange(len(references)), [len(each) for each in references])
        # Position of a reference among the references of its image.
        place = np.concatenate([np.arange(len(each)) for each in references])
        ids = np.full((len(texts), max(map(len, texts))), PAD)
        for row, words in zip(ids, texts, strict=True):
            row[: len(words)] = words
        self._base = min(len(numbers), MOST_WORDS) + 1

        grams = self._ngrams(ids)
        self.codes, known = np.unique(grams.code, return_inverse=True)
        # Each n-gram of each image, once for all references of the image.
        self._pairs, row = np.unique(
            image[grams.caption] * len(self.codes) + known, return_inverse=True
        )
        self.frequencies = np.bincount(self._pairs % len(self.codes), minlength=len(self.codes))
        # The last entry belongs to n-grams that no reference contains.
        self._idf = np.log(len(references)) - np.log(np.append(self.frequencies, 1))

        shape = len(references), max(map(len, references))
        self._counts = np.zeros((len(self._pairs), shape[1]), np.uint8)
        self._counts[row, place[grams.caption]] = np.minimum(grams.count, 255)
        self._norms = np.zeros((*shape, LONGEST))
        squares = (grams.count * self._idf[known]) ** 2
        where = image[grams.caption], place[grams.caption], grams.order
        np.add.at(self._norms, where, squares)
        self._norms = np.sqrt(self._norms)
        self._lengths = np.zeros(shape, np.int64)
        self._lengths[image, place] = [len(words) for words in texts]
        last = np.array([words[-2] for words in texts if len(words) > 1], np.int64)
        self.endings = np.isin(np.arange(len(vocabulary.words)), last)

    def __call__(self, image, captions):
        """Return the rewards of captions.

        Args:
            image: For each caption the index of its image, `(m,)`.
            captions: Word ids without START, `(m, t)`. Ids after STOP are PAD.

        Returns:
            Rewards `(m,)`, float64.
        """
        cider, bleu = self.weights
        image, captions = np.asarray(image, np.int64), np.asarray(captions, np.int64)
        grams = self._ngrams(captions)
        known = np.searchsorted(self.codes, grams.code)
        known[known == len(self.codes)] = 0
        known = np.where(self.codes[known] == grams.code, known, len(self.codes))
        pair = image[grams.caption] * len(self.codes) + known
        row = np.searchsorted(self._pairs, pair)
        row[row == len(self._pairs)] = 0
        found = (self._pairs[row] == pair) & (known < len(self.codes))
        counts = np.where(found[:, None], self._counts[row], 0)
        # The n-grams of one caption and one n follow each other.
        group = grams.caption * LONGEST + grams.order
        total = 0.0
        if cider:
            total = cider * self._cider(image, captions, grams, self._idf[known], counts, group)
        if bleu:
            total = total + bleu * self._bleu(image, captions, grams, counts, group)
        return np.broadcast_to(total, len(captions)).astype(np.float64)

    def ends_badly(self, captions):
        """Return whether captions `(m, t)` lack STOP or end with a wrong last word.

        A last word is wrong if no reference ends with this word. A caption without words also ends
        badly.
        """
        captions = np.asarray(captions)
        length = np.sum(captions != PAD, axis=1)
        stopped = (captions == STOP).any(axis=1) & (length > 1)
        last = captions[np.arange(len(captions)), np.maximum(length - 2, 0)]
        return ~(stopped & self.endings[last])

    def _cider(self, image, captions, grams, idf, counts, group):
        values, references = grams.count * idf, counts * idf[:, None]
        size = len(captions) * LONGEST
        sums = sums_of_groups(np.minimum(values[:, None], references) * references, group, size)
        norms = np.sqrt(np.bincount(group, values**2, size)).reshape(-1, 1, LONGEST)
        products = norms * self._norms[image]
        similarity = sums.reshape(len(captions), LONGEST, counts.shape[1]).swapaxes(1, 2)
        similarity = similarity / np.where(products > 0, products, 1.0)
        # pycocoevalcap's length is the number of pairs of words.
        ours = np.maximum(np.sum(captions != PAD, axis=1) - 1, 0)
        theirs = np.maximum(self._lengths[image] - 1, 0)
        penalty = np.exp(-((ours[:, None] - theirs) ** 2) / (2 * SIGMA**2))
        exists = self._lengths[image] > 0
        score = similarity.mean(axis=2) * penalty * exists
        return 10.0 * score.sum(axis=1) / exists.sum(axis=1)

    def _bleu(self, image, captions, grams, counts, group):
        size = len(captions) * LONGEST
        matches = np.minimum(grams.count, counts.max(axis=1))
        matches = np.bincount(group, matches, size).reshape(-1, LONGEST)
        length = np.sum(captions != PAD, axis=1)
        guesses = np.maximum(length[:, None] - np.arange(LONGEST), 0)
        tiny, small = 1e-15, 1e-9  # pycocoevalcap's, against divisions by 0
        bleu = np.prod((matches + tiny) / (guesses + small), axis=1) ** (1 / LONGEST)
        lengths = self._lengths[image]
        # The closest length; of two equally close lengths, the shorter.
        distance = np.where(lengths > 0, 2 * np.abs(lengths - length[:, None]), 1 << 20)
        closest = np.argmin(distance + (lengths > length[:, None]), axis=1)
        closest = np.take_along_axis(lengths, closest[:, None], axis=1)[:, 0]
        ratio = (length + tiny) / (closest + small)
        return bleu * np.exp(np.minimum(1 - 1 / ratio, 0.0))

    def _ngrams(self, ids):
        """Return the `NGrams` of captions `(m, t)`."""
        digits = np.where(ids == PAD, 0, np.minimum(ids, self._base - 2) + 1)
        codes, longer = [digits], digits
        for n in range(1, LONGEST):
            longer = longer[:, :-1] * self._base + digits[:, n:]
            codes.append(np.where(digits[:, n:] > 0, longer, 0))
        ordered = np.sort(np.concatenate(codes, axis=1), axis=1)
        first = np.ones(ordered.shape, bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        starts = np.flatnonzero(first)
        count = np.diff(starts, append=ordered.size)
        code = ordered.ravel()[starts]
        kept = code > 0
        starts, count, code = starts[kept], count[kept], code[kept]
        # An n-gram's code has n digits, and no digit is 0.
        order = np.searchsorted(self._base ** np.arange(1, LONGEST), code, side="right")
        return NGrams(starts // ordered.shape[1], code, order, count)


def keep_frequencies(file, reward):
    """Save a run's document frequencies, or compare them with those saved when stage 3 began.

    Args:
        file: File of the run, `.npz`.
        reward: `CaptionReward` of the training images.

    Raises:
        UserError: the saved frequencies belong to other captions, or the file is damaged.
    """
    arrays = {"codes": reward.codes, "frequencies": reward.frequencies}
    metadata = {"captions": reward.digest}
    if not file.exists():
        weights.save_arrays(file, arrays, metadata)
        return
    saved, saved_metadata = weights.load_arrays(file)
    if saved_metadata != metadata or not all(
        np.array_equal(saved.get(name), array) for name, array in arrays.items()
    ):
        raise UserError(
            f"{file}: stage 3 began with other training captions, so rewards would change; "
            "restore these captions, or choose another --name."
        )


def sums_of_groups(values, group, count):
    """Sum the rows of `values (g, r)` that have the same `group (g,)`, which is sorted."""
    sums = np.zeros((count, values.shape[1]))
    if len(group):
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        sums[group[starts]] = np.add.reduceat(values, starts, axis=0)
    return sums
