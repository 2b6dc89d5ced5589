"""Builds one graph that converts image files to captions and attended regions."""

import tensorflow as tf

from keras_aoa.data.images.preprocessing import from_original, to_original
from keras_aoa.data.images.views import NetworkViews, read_batch
from keras_aoa.data.text.tokenizer import has_spaceless_script
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.models.constraints import search_arguments
from keras_aoa.models.search import search
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.serving.sentences import SentenceReader
from keras_aoa.serving.stored_weights import stored

BYTES, PIXELS, SCORE = "serving_default", "pixels", "score"
MAX_PIXELS = 50_000_000

# Descriptions of the signatures' inputs and outputs. Sizes: n images, k hypotheses, c given
# captions, t words, r regions.
INPUTS = {
    "image_bytes": "(n,) string: JPEG, PNG, WebP, GIF or BMP files",
    "pixels": "(n, height, width, 3) uint8: upright RGB images of equal size",
    "captions": "(n, c) string: sentences to score",
    "proposals": "(n, r, 4) float32: object proposals x0, y0, x1, y1 in 0..1 of the upright image; "
    "rows of zeros are padding",
}
OUTPUTS = {
    "captions": "(n, k) string: best caption first; empty for an invalid image, or if fewer than k "
    "captions exist",
    "log_probs": "(n, k) float32: natural log-probabilities of the captions, including their ends; "
    "-inf if fewer than k captions exist",
    "words": "(n, k, t) string: words of the captions, padded with empty strings",
    "word_log_probs": "(n, k, t) float32: natural log-probabilities of the words",
    "confidence": "(n, k) float32: geometric mean of the word probabilities, end included",
    "attention": "(n, k, t, r) float32: weights over the regions for each word",
    "boxes": "(n, r, 4, 2) float32: corners (x, y) of the regions, clockwise from the top left, in "
    "0..1 of the upright image",
    "valid": "(n,) bool: whether the image could be read",
}
SCORE_OUTPUTS = {
    "log_probs": "(n, c) float32: natural log-probabilities of the captions, including their ends",
    "words": "(n, c, t) string: words as in the vocabulary, padded with empty strings",
    "word_log_probs": "(n, c, t) float32: natural log-probabilities of the words",
    "attention": "(n, c, t, r) float32: weights over the regions for each word",
    **{name: OUTPUTS[name] for name in ("boxes", "valid")},
}


class ServedCaptioner:
    """Wraps a captioner with image decoding, preprocessing and search for export.

    Pass `module` and `signatures` to `tf.saved_model.save`.

    Args:
        captioner: Built `Captioner`.
        vocabulary: `Vocabulary`.
        image_settings: `ImageSettings` of the network's input.
        proposal_settings: `ImageSettings` of the images from which object proposals are pooled. For
            other kinds of regions, this argument is None.
        search_settings: Search settings by name, as returned by `SearchSettings.of`.
        max_pixels: Maximum number of pixels in an image. Images with more pixels are invalid.
        storage: Storage of the weights, one of `stored_weights.STORAGES`.

    Attributes:
        signatures: Functions by name. Each function converts tensors to a dictionary of tensors.
        module: `tf.Module` with the weights and tables that the functions read. The module contains
            no Keras objects.
    """

    def __init__(
        self,
        captioner,
        vocabulary,
        image_settings,
        proposal_settings,
        search_settings,
        max_pixels=MAX_PIXELS,
        storage="exact",
    ):
        self._reader = SentenceReader(vocabulary.words)
        self.module = tf.Module()
        self.module.reader = self._reader
        self.module.weights = stored([weight.value for weight in captioner.weights], storage)
        self._captioner = captioner
        self._words = vocabulary.words
        self._views = NetworkViews(image_settings, proposal_settings)
        self._search = search_arguments(search_settings, vocabulary)
        self._stride = search_settings.get("stride")
        self._max_proposals = search_settings.get("proposals")
        self._max_pixels = max_pixels
        image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
        pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, "pixels")
        captions = tf.TensorSpec((None, None), tf.string, "captions")
        proposals = ()
        if proposal_settings is not None:
            proposals = (tf.TensorSpec((None, None, 4), tf.float32, "proposals"),)
        functions = {
            BYTES: (self._caption_bytes, [image_bytes, *proposals]),
            PIXELS: (self._caption_pixels, [pixels, *proposals]),
            SCORE: (self._score, [image_bytes, captions, *proposals]),
        }
        self.signatures = {
            name: tf.function(function, input_signature=signature, autograph=False)
            for name, (function, signature) in functions.items()
        }

    def _caption_bytes(self, image_bytes, proposals=None):
        return self._caption(*self._read(image_bytes), proposals)

    def _caption_pixels(self, pixels, proposals=None):
        spec = {name: tf.TensorSpec(shape) for name, shape in self._views.shapes.items()}
        views = tf.map_fn(self._views, pixels, fn_output_signature=spec)
        return self._caption(views, tf.fill([tf.shape(pixels)[0]], True), proposals)

    def _caption(self, views, valid, proposals):
        """Caption a batch of prepared images, and return the tensors that `OUTPUTS` describes."""
        count = tf.size(valid)
        encoded, boxes, valid = self._encode(views, valid, proposals)
        result = search(self._captioner, encoded, **self._search)
        is_word = (result.ids != STOP) & (result.ids != PAD) & valid[:, None, None]
        words = self._decode(result.ids, is_word)
        steps = tf.reduce_sum(tf.cast(result.ids != PAD, tf.float32), axis=-1)
        steps = tf.maximum(steps, 1.0)
        outputs = {
            "captions": self._join(words, result.ids),
            "log_probs": tf.where(valid[:, None], result.log_probs, 0.0),
            "words": words,
            "word_log_probs": tf.where(is_word, result.word_log_probs, 0.0),
            "confidence": tf.where(valid[:, None], tf.exp(result.log_probs / steps), 0.0),
            "attention": tf.where(is_word[..., None], result.attention, 0.0),
            "boxes": boxes,
            "valid": valid,
        }
        return {name: output[:count] for name, output in outputs.items()}

    def _score(self, image_bytes, captions, proposals=None):
        """Score given captions, and return the tensors that `SCORE_OUTPUTS` describes."""
        count = tf.size(image_bytes)
        ids = self._reader(one_row_per_image(captions, count, "captions"))
        # `_encode` adds an image to an empty batch. This image needs a row of captions, too.
        ids = tf.pad(ids, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0]])
        encoded, boxes, valid = self._encode(*self._read(image_bytes), proposals)
        result = teacher_forcing(self._captioner, encoded, ids)
        targets = ids[:, :, 1:]
        is_word = (targets != STOP) & (targets != PAD) & valid[:, None, None]
        outputs = {
            "log_probs": tf.where(valid[:, None], tf.reduce_sum(result.log_probs, -1), 0.0),
            "words": self._decode(targets, is_word),
            "word_log_probs": tf.where(is_word, result.log_probs, 0.0),
            "attention": tf.where(is_word[..., None], result.attention, 0.0),
            "boxes": boxes,
            "valid": valid,
        }
        # The last step is not a word but the end of the longest caption.
        for name in ("words", "word_log_probs", "attention"):
            outputs[name] = outputs[name][:, :, :-1]
        return {name: output[:count] for name, output in outputs.items()}

    def _read(self, image_bytes):
        return read_batch(image_bytes, self._views, self._views.shapes, self._max_pixels)

    def _encode(self, views, valid, proposals):
        """Encode images.

        An empty batch is padded to one image, because layers need at least one image.

        Returns:
            `EncodedImages`, boxes relative to the original images, and whether each image is valid.
        """
        missing = tf.maximum(1 - tf.size(valid), 0)

        def at_least_one(values):
            return tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1))

        inputs = {name: at_least_one(values) for name, values in views.items()}
        windows = inputs.pop("window")
        valid = at_least_one(valid)
        # An unreadable image has no window, so its boxes refer to the whole image.
        windows = tf.where(valid[:, None], windows, [0.0, 0.0, 1.0, 1.0])
        if proposals is not None:
            proposals = one_row_per_image(proposals, tf.size(valid) - missing, "proposals")
            proposals = at_least_one(proposals[:, : self._max_proposals])
            has_area = tf.reduce_all(proposals[..., 2:] > proposals[..., :2], axis=-1)
            has_area &= tf.reduce_all(tf.math.is_finite(proposals), axis=-1)
            proposals = tf.where(has_area[..., None], proposals, 0.0)
            valid &= tf.reduce_any(has_area, axis=1)
            inputs["proposals"] = from_original(proposals, windows[:, None])
        encoded = self._captioner.encode(inputs, stride=self._stride)
        return encoded, to_original(encoded.boxes, windows[:, None, None]), valid

    def _join(self, words, ids):
        """Join words `(n, k, t)` into captions, as `join_words` does."""
        spaceless = tf.gather([has_spaceless_script(word) for word in self._words], ids)
        joined = tf.pad(spaceless[..., 1:] & spaceless[..., :-1], [[0, 0], [0, 0], [1, 0]])
        spaced = tf.where(joined, words, tf.strings.join([" ", words]))
        return tf.strings.strip(tf.strings.reduce_join(spaced, axis=-1))

    def _decode(self, ids, is_word):
        """Return the words of ids, and empty strings where `is_word` is false."""
        # The words are a constant, because the module would have to track a lookup table.
        return tf.where(is_word, tf.gather(tf.constant(self._words), ids), "")


def one_row_per_image(values, count, name):
    """Check that `values` has a row for each of `count` images, and return `values`."""
    assertion = tf.debugging.assert_equal(
        tf.shape(values)[0], count, f"{name}: expected a row for each image."
    )
    with tf.control_dependencies([assertion] if assertion is not None else []):
        return tf.identity(values)
