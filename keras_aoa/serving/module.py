"""The captioner as one graph: files of images in, captions with their areas out."""

import tensorflow as tf

from keras_aoa.data.images.preprocessing import from_original, to_original
from keras_aoa.data.images.views import NetworkViews, read_batch
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.serving.sentences import SentenceReader

BYTES, PIXELS, SCORE = "serving_default", "pixels", "score"
MAX_PIXELS = 50_000_000

# What signatures take and give, for their table. n images, k hypotheses, c captions given,
# t words, r regions.
INPUTS = {
    "image_bytes": "(n,) string: JPEG, PNG, WebP, GIF or BMP files",
    "pixels": "(n, height, width, 3) uint8: upright RGB images of one size",
    "captions": "(n, c) string: sentences to score",
    "proposals": "(n, r, 4) float32: object proposals x0, y0, x1, y1 in 0..1 of the upright image; "
    "rows of zeros fill up",
}
OUTPUTS = {
    "captions": "(n, k) string: best first, empty where not valid",
    "log_probs": "(n, k) float32: natural logarithms, the caption's end included",
    "words": "(n, k, t) string: the captions' words, then empty strings",
    "attention": "(n, k, t, r) float32: each word's weights over the regions",
    "boxes": "(n, r, 4, 2) float32: the regions' corners (x, y), clockwise from the top left, in "
    "0..1 of the upright image",
    "valid": "(n,) bool: whether the image could be read",
}
SCORE_OUTPUTS = {
    "log_probs": "(n, c) float32: natural logarithms, the caption's end included",
    "words": "(n, c, t) string: the words as the vocabulary knows them, then empty strings",
    "word_log_probs": "(n, c, t) float32: natural logarithms",
    "attention": "(n, c, t, r) float32: each word's weights over the regions",
    **{name: OUTPUTS[name] for name in ("boxes", "valid")},
}


class ServedCaptioner:
    """A captioner with reading, preparing and searching around it, for `tf.saved_model.save`.

    Args:
        captioner: Built `Captioner`.
        vocabulary: `Vocabulary`.
        image_settings: `ImageSettings` of the network's input.
        proposal_settings: Those of the images that proposals are pooled from; None for other
            kinds of regions.
        search_settings: `beam`, `max_words`, `length_penalty`, and `stride` or `proposals`.
        max_pixels: Of the largest image that is decoded.

    Attributes:
        signatures: Functions by name, each from tensors to a dictionary of them.
        module: What they read, to be saved with them; Keras's own objects are left out.
    """

    def __init__(
        self,
        captioner,
        vocabulary,
        image_settings,
        proposal_settings,
        search_settings,
        max_pixels=MAX_PIXELS,
    ):
        self._reader = SentenceReader(vocabulary.words)
        self.module = tf.Module()
        self.module.reader = self._reader
        self.module.weights = [weight.value for weight in captioner.weights]
        self._captioner = captioner
        self._words = vocabulary.words
        self._views = NetworkViews(image_settings, proposal_settings)
        self._search = dict(search_settings)
        self._stride = self._search.pop("stride", None)
        self._most_proposals = self._search.pop("proposals", None)
        self._max_pixels = max_pixels
        image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
        pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, "pixels")
        captions = tf.TensorSpec((None, None), tf.string, "captions")
        proposals = ()
        if proposal_settings is not None:
            proposals = (tf.TensorSpec((None, None, 4), tf.float32, "proposals"),)
        given = {
            BYTES: (self._caption_bytes, [image_bytes, *proposals]),
            PIXELS: (self._caption_pixels, [pixels, *proposals]),
            SCORE: (self._score, [image_bytes, captions, *proposals]),
        }
        self.signatures = {
            name: tf.function(function, input_signature=signature, autograph=False)
            for name, (function, signature) in given.items()
        }

    def _caption_bytes(self, image_bytes, proposals=None):
        return self._caption(*self._read(image_bytes), proposals)

    def _caption_pixels(self, pixels, proposals=None):
        spec = {name: tf.TensorSpec(shape) for name, shape in self._views.shapes.items()}
        views = tf.map_fn(self._views, pixels, fn_output_signature=spec)
        return self._caption(views, tf.fill([tf.shape(pixels)[0]], True), proposals)

    def _caption(self, views, valid, proposals):
        """Search: `OUTPUTS`."""
        count = tf.size(valid)
        encoded, boxes, valid = self._look(views, valid, proposals)
        found = search(self._captioner, encoded, **self._search)
        is_word = (found.ids != STOP) & (found.ids != PAD) & valid[:, None, None]
        words = self._spelled(found.ids, is_word)
        answers = {
            "captions": tf.strings.strip(tf.strings.reduce_join(words, axis=-1, separator=" ")),
            "log_probs": tf.where(valid[:, None], found.log_probs, 0.0),
            "words": words,
            "attention": tf.where(is_word[..., None], found.attention, 0.0),
            "boxes": boxes,
            "valid": valid,
        }
        return {name: answer[:count] for name, answer in answers.items()}

    def _score(self, image_bytes, captions, proposals=None):
        """What the captioner thinks of given captions: `SCORE_OUTPUTS`."""
        count = tf.size(image_bytes)
        ids = self._reader(a_row_each(captions, count, "captions"))
        # A first row where there are no images, as `_look` adds one.
        ids = tf.pad(ids, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0]])
        encoded, boxes, valid = self._look(*self._read(image_bytes), proposals)
        found = teacher_forcing(self._captioner, encoded, ids)
        targets = ids[:, :, 1:]
        is_word = (targets != STOP) & (targets != PAD) & valid[:, None, None]
        answers = {
            "log_probs": tf.where(valid[:, None], tf.reduce_sum(found.log_probs, -1), 0.0),
            "words": self._spelled(targets, is_word),
            "word_log_probs": tf.where(is_word, found.log_probs, 0.0),
            "attention": tf.where(is_word[..., None], found.attention, 0.0),
            "boxes": boxes,
            "valid": valid,
        }
        # The last step is at most a caption's end.
        for name in ("words", "word_log_probs", "attention"):
            answers[name] = answers[name][:, :, :-1]
        return {name: answer[:count] for name, answer in answers.items()}

    def _read(self, image_bytes):
        return read_batch(image_bytes, self._views, self._views.shapes, self._max_pixels)

    def _look(self, views, valid, proposals):
        """`EncodedImages`, boxes in the original, and validity, of one image at least."""
        missing = tf.maximum(1 - tf.size(valid), 0)

        def one_at_least(values):
            return tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1))

        inputs = {name: one_at_least(values) for name, values in views.items()}
        windows = inputs.pop("window")
        valid = one_at_least(valid)
        # An image that could not be read has no window; its boxes are those of an upright square.
        windows = tf.where(valid[:, None], windows, [0.0, 0.0, 1.0, 1.0])
        if proposals is not None:
            proposals = a_row_each(proposals, tf.size(valid) - missing, "proposals")
            proposals = one_at_least(proposals[:, : self._most_proposals])
            has_area = tf.reduce_all(proposals[..., 2:] > proposals[..., :2], axis=-1)
            has_area &= tf.reduce_all(tf.math.is_finite(proposals), axis=-1)
            proposals = tf.where(has_area[..., None], proposals, 0.0)
            valid &= tf.reduce_any(has_area, axis=1)
            inputs["proposals"] = from_original(proposals, windows[:, None])
        encoded = self._captioner.encode(inputs, stride=self._stride)
        return encoded, to_original(encoded.boxes, windows[:, None, None]), valid

    def _spelled(self, ids, is_word):
        """Words of ids, empty where there is none."""
        # A constant, not a table: nothing that would have to be tracked.
        return tf.where(is_word, tf.gather(tf.constant(self._words), ids), "")


def a_row_each(values, count, name):
    """The values, `(n, …)`, if n is the number of images."""
    agree = tf.debugging.assert_equal(
        tf.shape(values)[0], count, f"{name}: expected a row for each image."
    )
    with tf.control_dependencies([agree] if agree is not None else []):
        return tf.identity(values)
