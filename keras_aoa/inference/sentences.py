"""Scores sentences that users type: where each word attends, and how probable it is."""

import math

import numpy as np
import tensorflow as tf

from keras_aoa.data.text.tokenizer import join_words, tokenize
from keras_aoa.data.text.vocabulary import OOV, PAD
from keras_aoa.inference.caption import Caption, with_regions
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.utils.errors import UserError

MAX_WORDS = 60
_STEP = 16  # sentences are padded to a multiple of it, because each length is traced once


class SentenceScorer:
    """Scores a sentence as the caption of an image, compiled as one graph.

    Args:
        captioner: `ImageCaptioner`.
    """

    def __init__(self, captioner):
        self._vocabulary = captioner.generator.vocabulary
        model, stride = captioner.captioner, captioner.generator.settings.get("stride")

        def run(inputs, ids):
            encoded = model.encode(inputs, stride=stride)
            result = teacher_forcing(model, encoded, ids)
            return result.log_probs[0, 0], result.attention[0, 0], encoded.boxes[0], encoded.mask[0]

        self._run = tf.function(run, autograph=False, reduce_retracing=True)

    def __call__(self, inputs, sentence):
        """Return the sentence as a `Caption`, which contains only words of the vocabulary.

        Args:
            inputs: A batch of one image, as returned by `ImageCaptioner.inputs`.
            sentence: Text. Words outside the vocabulary become "<unk>".

        Raises:
            UserError: the sentence has no words, or more than `MAX_WORDS`.
        """
        words = tokenize(sentence)
        if not 1 <= len(words) <= MAX_WORDS:
            raise UserError(
                f"sentence: expected 1 to {MAX_WORDS} words, received {len(words)}; type another "
                "sentence."
            )
        ids = self._vocabulary.encode_words(words, MAX_WORDS)
        padded = np.pad(ids, (0, -(len(ids) - 1) % _STEP), constant_values=PAD)
        inputs = tf.nest.map_structure(tf.convert_to_tensor, dict(inputs))
        window = inputs.pop("window")[0]
        results = self._run(inputs, tf.constant(padded[None, None], tf.int32))
        log_probs, attention, boxes, mask = (values.numpy() for values in results)
        log_prob = float(log_probs.sum())
        known = tuple(self._vocabulary.words[word] for word in ids[1:-1])
        caption = Caption(
            join_words(known),
            known,
            log_prob,
            confidence=math.exp(log_prob / (len(ids) - 1)),
            word_probs=tuple(np.exp(log_probs[: len(known)]).tolist()),
        )
        return with_regions(caption, attention, boxes, mask, window.numpy())

    def unknown_words(self, sentence):
        """Return the words of a sentence that are outside the vocabulary, each once."""
        words = tokenize(sentence)
        ids = self._vocabulary.encode_words(words, len(words))[1:-1]
        pairs = zip(words, ids, strict=True)
        return tuple(dict.fromkeys(word for word, word_id in pairs if word_id == OOV))
