"""Generates captions for your own images, from Python."""

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import from_original
from keras_aoa.data.images.views import NetworkViews
from keras_aoa.data.proposals import edge_boxes
from keras_aoa.data.proposals.cache import propose
from keras_aoa.inference.batches import BatchCaptioner
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.inference.pixels import as_entry, read_pixels
from keras_aoa.runs.ensemble import open_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest, printable


class ImageCaptioner:
    """Generates captions with a trained run, for one image or for many.

    Several threads may share a captioner, which then captions their images one after another.

    Args:
        run: Folder of the run. Several folders, separated by commas, form an ensemble.
        search_settings: The fields of `keras_aoa.settings.search.SearchSettings`, such as `beam`,
            `min_words` or `prefix`.

    Raises:
        UserError: the folder contains no run, or the run has no trained weights. The files of the
            run do not belong together. A setting is out of range. OpenCV lacks the modules for
            proposals.
    """

    def __init__(self, run, **search_settings):
        for name in search_settings:
            if name not in SearchSettings.__dataclass_fields__:
                known = closest(name, SearchSettings.__dataclass_fields__)
                raise UserError(f"load: unknown setting {name!r}. {known}")
        search_settings = SearchSettings(**search_settings)
        run = open_run(run)
        view = run.proposal_view
        # TensorFlow may crash if two threads call the same operation outside a graph.
        self._one_thread = threading.Lock()
        self.proposal_settings = view.search if view else None
        if view:
            edge_boxes.check_opencv()
        self.views = NetworkViews(run.image_settings, view.settings if view else None)
        self.captioner = run.load_captioner(for_inference=True)
        self.generator = CaptionGenerator.from_configuration(
            self.captioner, run.vocabulary, run.configuration, search_settings
        )

    def caption(self, image):
        """Return the best `Caption` of an image, or a list of the best captions of several images.

        Several images are captioned in batches, which does not change their captions.

        Args:
            image: Path of a file, content of a file as bytes, or RGB pixels `(h, w, 3)` in uint8;
                or a list, tuple or iterator of such images.

        Raises:
            UserError: a file does not exist, or an image cannot be decoded.
        """
        if isinstance(image, list | tuple | Iterator) and not hasattr(image, "read"):
            return self._caption_all(image)
        return self.captions(image, 1)[0]

    def captions(self, image, k=None):
        """Return a list of `Caption` hypotheses for an image, best first.

        Args:
            image: One image, as for `caption`.
            k: Maximum number of captions, at most the beam. None: the beam.

        Raises:
            UserError: `caption` fails, or k exceeds the beam.
        """
        beam = self.generator.settings["beam"]
        if k is not None and (not isinstance(k, Integral) or not 1 <= k <= beam):
            raise UserError(
                f"captions: expected 1 to {beam} captions (the beam), received {k!r}; load the run "
                "with a larger beam."
            )
        pixels = read_pixels(image)
        with self._one_thread:
            captions = self.generator.hypotheses(self.inputs(pixels), k)[0]
        return [replace(caption, image=pixels) for caption in captions]

    def inputs(self, pixels):
        """Return a dictionary of the network inputs for a batch of one image.

        Args:
            pixels: The upright image, `(h, w, 3)` in uint8.
        """
        inputs = {name: np.asarray(view)[None] for name, view in self.views(pixels).items()}
        if self.proposal_settings:
            boxes = propose(pixels, self.proposal_settings)[: self.generator.settings["proposals"]]
            inputs["proposals"] = from_original(boxes, inputs["window"][0])[None]
        return inputs

    def with_features(self, inputs):
        """Replace the pixels in network inputs by their features, which several searches can share.

        The inputs of an ensemble do not change, because its members have no common features.
        """
        if self._extract is None:
            return inputs
        pixels = {name: inputs[name] for name in self.views.pixel_settings}
        others = {name: value for name, value in inputs.items() if name not in pixels}
        return {**others, "features": self._extract(pixels)}

    @functools.cached_property
    def _extract(self):
        if not hasattr(self.captioner, "extract_features"):
            return None
        shapes = self.views.shapes
        pixels = {name: tf.TensorSpec((None, *shapes[name])) for name in self.views.pixel_settings}
        return tf.function(
            self.captioner.extract_features, input_signature=[pixels], autograph=False
        )

    def _caption_all(self, images):
        sources = list(images)
        captions = []
        with self._one_thread:
            found = self._batches(map(as_entry, sources))
            for index, (source, image) in enumerate(zip(sources, found, strict=True)):
                if image.error:
                    raise UserError(f"{printable(image.name)} (index {index}): {image.error}")
                captions.append(replace(image.captions[0], source=source))
        return captions

    @functools.cached_property
    def _batches(self):
        return BatchCaptioner(self)
