"""Captions for images of one's own, from Python."""

import os
import pathlib
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import (
    decode,
    from_original,
    prepare,
    read_image,
    reason,
    to_original,
    window,
)
from keras_aoa.data.proposals.cache import propose
from keras_aoa.inference.generator import CaptionGenerator, Generated
from keras_aoa.runs.ensemble import open_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import printable

NO_PICTURE = (
    "expected a JPEG, PNG, GIF, BMP or WebP picture, received a damaged file or another format{}; "
    "convert it."
)


@dataclass(frozen=True)
class Caption:
    """A caption and where the model looked.

    `text`; `log_prob`, a natural logarithm; `words`, and for each of them its weights over the
    regions, `attention (words, r)`; `boxes (r, 4, 2)`, corners (x, y) clockwise from the top
    left, in 0..1 of the upright `image (h, w, 3)`, uint8. `generated` and `window` are the same
    caption relative to the network's input, and what that saw of the image.
    """

    text: str
    log_prob: float
    words: tuple[str, ...]
    attention: np.ndarray
    boxes: np.ndarray
    generated: Generated
    image: np.ndarray
    window: np.ndarray

    def picture(self, path=None, title=None):
        """Draw where the model looked for each word, `(height, width, 3)` uint8; PNG to `path`."""
        from keras_aoa.visualization.pictures import attention_picture

        return attention_picture(self.image, self.generated, self.window, path, title)


class ImageCaptioner:
    """A trained run as a captioner of images.

    Args:
        run: The run's folder, or several with commas between, which then speak together.
        search_settings: `beam`, `max_words`, `length_penalty`, `stride` and `regions` as in
            `SearchSettings`.

    Raises:
        UserError: no run there, nothing trained, files that do not belong together, or a setting
            out of its range.
    """

    def __init__(self, run, **search_settings):
        search_settings = SearchSettings(**search_settings)
        run = open_run(run)
        self.settings = run.image_settings
        self.proposal_view = run.proposal_view
        self.captioner = run.load_captioner()
        self.generator = CaptionGenerator.from_configuration(
            self.captioner, run.vocabulary, run.configuration, search_settings
        )

    def caption(self, image):
        """The best `Caption` of an image: a path, a file's bytes, or `(h, w, 3)` uint8 RGB.

        Raises:
            UserError: no such file, or not a picture.
        """
        return self.captions(image)[0]

    def captions(self, image):
        """All hypotheses of the search for an image, best first: a list of `Caption`."""
        pixels = read_pixels(image)
        inputs, seen = self._inputs(pixels)
        found = self.generator.all_beams(inputs)[0]
        return [
            Caption(
                generated.caption,
                generated.log_prob,
                generated.words,
                generated.attention,
                to_original(generated.boxes, seen),
                generated,
                pixels,
                seen,
            )
            for generated in found
        ]

    def _inputs(self, pixels):
        """A batch of one image, and what the network that makes its regions sees of it."""
        inputs = {"images": prepare(pixels, self.settings)[None]}
        view = self.proposal_view
        if view is None:
            return inputs, window(*pixels.shape[:2], self.settings).numpy()
        seen = window(*pixels.shape[:2], view.settings).numpy()
        boxes = propose(pixels, view.search)[: self.generator.settings["regions"]]
        inputs["region_images"] = prepare(pixels, view.settings)[None]
        inputs["proposals"] = from_original(boxes, seen)[None]
        return inputs, seen


def read_pixels(image):
    """Upright pixels, `(h, w, 3)` uint8, of a path, a file's bytes or an array.

    Raises:
        UserError: naming the file, or the array's shape and dtype.
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
