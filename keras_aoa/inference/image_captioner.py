"""Generates captions for your own images, from Python."""

import os
import pathlib
from dataclasses import replace

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import decode, from_original, read_image, reason
from keras_aoa.data.images.views import NetworkViews
from keras_aoa.data.proposals import edge_boxes
from keras_aoa.data.proposals.cache import propose
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.runs.ensemble import open_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import printable

NO_PICTURE = (
    "expected a JPEG, PNG, GIF, BMP or WebP picture, received a damaged file or another format{}; "
    "convert it."
)


class ImageCaptioner:
    """Generates captions with a trained run, for one image at a time.

    Args:
        run: Folder of the run. Several folders, separated by commas, form an ensemble.
        search_settings: The fields of `SearchSettings`: `beam`, `max_words`, `length_penalty`,
            `stride` and `proposals`.

    Raises:
        UserError: the folder contains no run, or the run has no trained weights. The files of the
            run do not belong together. A setting is out of range. OpenCV lacks the modules for
            proposals.
    """

    def __init__(self, run, **search_settings):
        search_settings = SearchSettings(**search_settings)
        run = open_run(run)
        view = run.proposal_view
        self.proposal_settings = view.search if view else None
        if view:
            edge_boxes.check_opencv()
        self.views = NetworkViews(run.image_settings, view.settings if view else None)
        self.captioner = run.load_captioner()
        self.generator = CaptionGenerator.from_configuration(
            self.captioner, run.vocabulary, run.configuration, search_settings
        )

    def caption(self, image):
        """Return the best `Caption` of an image.

        Args:
            image: Path of a file, content of a file as bytes, or RGB pixels `(h, w, 3)` in uint8.

        Raises:
            UserError: the file does not exist, or the image cannot be decoded.
        """
        return self.captions(image)[0]

    def captions(self, image):
        """Return a list of all `Caption` hypotheses for an image, best first."""
        pixels = read_pixels(image)
        captions = self.generator.hypotheses(self._inputs(pixels))[0]
        return [replace(caption, image=pixels) for caption in captions]

    def _inputs(self, pixels):
        """Return a batch that contains one image."""
        inputs = {name: np.asarray(view)[None] for name, view in self.views(pixels).items()}
        if self.proposal_settings:
            boxes = propose(pixels, self.proposal_settings)[: self.generator.settings["proposals"]]
            inputs["proposals"] = from_original(boxes, inputs["window"][0])[None]
        return inputs


def read_pixels(image):
    """Return the upright pixels `(h, w, 3)` of an image, in uint8.

    `image` is the path of a file, the content of a file as bytes, or an array of pixels.

    Raises:
        UserError: the file does not exist, the image cannot be decoded, or the array has the
            wrong shape or dtype.
    """
    try:
        if isinstance(image, str | os.PathLike):
            if not pathlib.Path(image).is_file():
                raise UserError(f"{printable(image)}: expected an image, found no file.")
            return read_image(image)
        if isinstance(image, bytes):
            return decode(image).numpy()
    except (OSError, tf.errors.OpError) as error:
        name = "the bytes" if isinstance(image, bytes) else printable(image)
        raise UserError(f"{name}: {NO_PICTURE.format(f' ({reason(error)})')}") from None
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UserError(
            f"caption: expected RGB pixels (height, width, 3) in uint8, received shape "
            f"{pixels.shape} in {pixels.dtype}; convert them, or give the file's path."
        )
    return pixels
