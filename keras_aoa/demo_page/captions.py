"""What the demo page shows: captions of a photograph, and scores of a sentence."""

import functools
import hashlib
import math
import re
import threading
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.preprocessing import reason
from keras_aoa.inference.entries import Entry
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.inference.pixels import as_decodable_entry, message
from keras_aoa.inference.sentences import SentenceScorer
from keras_aoa.runs.ensemble import open_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import printable
from keras_aoa.visualization.highlights import SIDE, caption_html
from keras_aoa.visualization.panel import resize

MAX_CAPTIONS = 5
IMAGES = 16  # photographs in memory
SEARCHES = 16  # compiled searches in memory


class Photograph(NamedTuple):
    """A small copy of a photograph, `(h, w, 3)` in uint8, and the captioner's inputs for it."""

    pixels: Any
    inputs: dict


class Demonstration:
    """Captions photographs, one at a time. Methods may be called from several threads.

    The last photographs stay in memory, so that the network computes their features only once.

    Args:
        run: Folder of a run, or name of a captioner.
        max_pixels: Maximum number of pixels of a photograph.

    Attributes:
        max_words: Maximum length of captions.

    Raises:
        UserError: `ImageCaptioner` fails.
    """

    def __init__(self, run, max_pixels):
        opened = open_run(run)
        self._configuration = opened.configuration
        self._captioner = ImageCaptioner(run)
        self._generator = functools.lru_cache(SEARCHES)(self._compile)
        self._scorer = SentenceScorer(self._captioner)
        self._photographs = {}
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self.max_words = self._configuration.max_words

    def warm_up(self):
        """Trace all graphs with a blank photograph, so that the first request is fast."""
        blank = tf.io.encode_png(np.full((32, 32, 3), 128, np.uint8)).numpy()
        self.captions("blank", blank)
        self.sentence("blank", blank, "a")
        self._photographs.clear()

    def captions(self, name, content, count=1, min_words=0, temperature=None, seed=0):
        """Caption a photograph.

        Args:
            name: Name of the file, for messages.
            content: Content of the file, bytes.
            count: Number of captions, 1 to `MAX_CAPTIONS`.
            min_words: Minimum length of the captions.
            temperature: Sample the captions with this temperature. None: beam search.
            seed: Seed of the samples.

        Returns:
            HTML, the texts of the captions, and a note, which is empty.

        Raises:
            UserError: the file is not an image or is too large, or a setting is out of range.
        """
        if not 1 <= count <= MAX_CAPTIONS:
            raise UserError(f"captions: expected 1 to {MAX_CAPTIONS}, received {count}.")
        settings = {"beam": max(count, self._configuration.beam)}
        if temperature is not None:
            settings = {"beam": count, "sample": True, "temperature": temperature, "seed": seed}
        if min_words:
            settings["min_words"] = min_words
        settings = SearchSettings(**settings)
        with self._lock:
            photograph = self._photograph(name, content)
            captions = self._generator(settings).hypotheses(photograph.inputs, count)[0]
        return caption_html(captions, photograph.pixels), [one.text for one in captions], ""

    def sentence(self, name, content, sentence):
        """Score a sentence as the caption of a photograph.

        Args:
            name, content: The same as in `captions`.
            sentence: Text.

        Returns:
            HTML, a list with the text as the captioner reads it, and a note about unknown words.

        Raises:
            UserError: the file is not an image or is too large, or the sentence has no words or too
                many.
        """
        with self._lock:
            photograph = self._photograph(name, content)
            caption = self._scorer(photograph.inputs, sentence)
        note = ""
        if unknown := self._scorer.unknown_words(sentence):
            note = f"The captioner does not know {', '.join(unknown)}, and reads <unk> instead."
        return caption_html([caption], photograph.pixels), [caption.text], note

    def _compile(self, settings):
        return CaptionGenerator.from_configuration(
            self._captioner.captioner,
            self._captioner.generator.vocabulary,
            self._configuration,
            settings,
        )

    def _photograph(self, name, content):
        key = hashlib.sha256(content).digest()
        photograph = self._photographs.pop(key, None) or self._read(name, content)
        self._photographs[key] = photograph
        if len(self._photographs) > IMAGES:
            del self._photographs[next(iter(self._photographs))]  # the oldest
        return photograph

    def _read(self, name, content):
        entry = as_decodable_entry(Entry(printable(name), content))
        if entry.error:
            raise UserError(f"{entry.name}: {entry.error}")
        try:
            pixels = decode(entry.content, self._max_pixels).numpy()
        except tf.errors.OpError as error:
            raise UserError(f"{entry.name}: {self._why(error)}") from None
        inputs = self._captioner.with_features(self._captioner.inputs(pixels))
        scale = SIDE / max(pixels.shape[:2])
        return Photograph(resize(pixels, scale) if scale < 1 else pixels, inputs)

    def _why(self, error):
        declared = re.search(r"declares more than \d+ pixels: (\d+)", reason(error))
        if not declared:
            return message(error)
        megapixels = int(declared[1]) / 1e6
        return (
            f"expected at most {self._max_pixels / 1e6:g} megapixels, received {megapixels:.3g}; "
            f"shrink the image, or start the page with --max-megapixels {math.ceil(megapixels)}."
        )
