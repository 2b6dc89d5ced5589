"""A caption with its probabilities and attention, for Python, notebooks and other processes."""

import io
import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_aoa.data.images.preprocessing import to_original
from keras_aoa.inference.pixels import read_pixels
from keras_aoa.utils.errors import UserError

ARRAYS = ("attention", "boxes", "mask", "window")
_LOCAL = ("image", "source")  # fields that no other process needs


@dataclass(frozen=True, eq=False)
class Caption:
    """A caption, and the attended regions of each word.

    Attributes:
        text: The caption.
        words: The words of the caption, without STOP.
        log_prob: Natural logarithm of the caption's probability, STOP included.
        attention: Region probabilities `(words, r)` for each word. `attention`, `boxes`, `mask`
            and `window` are None if attention was not requested.
        boxes: Corners (x, y) `(r, 4, 2)` of the regions, clockwise from the top left, relative
            (0..1) to the upright original. Corners may lie outside the original.
        mask: Booleans `(r,)`, false for regions that are padding.
        window: The part of the original that the network received: x0, y0, x1, y1.
        image: The upright original, `(h, w, 3)` in uint8. Only `ImageCaptioner` sets this field.
        source: The image as it was passed to `ImageCaptioner`, if `image` is not in memory.
        confidence: Geometric mean of the word probabilities, STOP included, in 0..1.
        word_probs: Probability of each word, given the words before it.
    """

    text: str
    words: tuple[str, ...]
    log_prob: float
    attention: np.ndarray | None = None
    boxes: np.ndarray | None = None
    mask: np.ndarray | None = None
    window: np.ndarray | None = None
    image: np.ndarray | None = None
    source: Any = None
    confidence: float = math.nan
    word_probs: tuple[float, ...] = ()

    def picture(self, path=None, title=None):
        """Draw the attended regions of each word. Return the picture, and write a PNG to `path`.

        The picture is an array `(h, w, 3)` in uint8.
        """
        from keras_aoa.visualization.pictures import attention_picture

        return attention_picture(self.pixels, self, path, title)

    def __repr__(self):
        return f"Caption({self.text!r}, confidence={self.confidence:.2f})"

    def _repr_html_(self):
        """Show the picture in a notebook; each word highlights the areas that it attends to."""
        try:
            pixels = self.pixels
        except UserError:  # the file was removed or changed
            pixels = None
        if pixels is None or self.attention is None:
            return None
        from keras_aoa.visualization.highlights import caption_html

        return caption_html([self], pixels)

    @property
    def pixels(self):
        """The upright original, `(h, w, 3)` in uint8, read again if it is not in memory."""
        if self.image is not None or self.source is None:
            return self.image
        return read_pixels(self.source)


def with_regions(caption, attention, boxes, mask, window):
    """Return a copy of a `Caption` with attention and boxes.

    If `window` is given, the boxes are converted to coordinates of the original image.
    """
    return replace(
        caption,
        # A copy, because a view would keep the whole batch in memory.
        attention=attention[: len(caption.words)].copy(),
        boxes=boxes if window is None else to_original(boxes, window),
        mask=mask,
        window=window,
    )


def to_bytes(captions):
    """Serialize `{index: Caption}` for another process."""
    arrays, fields = {}, {}
    for index, caption in captions.items():
        own = {name: value for name, value in vars(caption).items() if name not in _LOCAL}
        for name in ARRAYS:
            array = own.pop(name)
            if array is not None:
                arrays[f"{index}/{name}"] = array
        fields[index] = own
    file = io.BytesIO()
    np.savez(file, fields=np.array(json.dumps(fields)), **arrays)
    return file.getvalue()


def from_bytes(content):
    """Return the `{index: Caption}` that `to_bytes` serialized."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    captions = {}
    for index, fields in json.loads(str(arrays.pop("fields"))).items():
        own = {name: arrays.get(f"{index}/{name}") for name in ARRAYS}
        fields |= {name: tuple(fields[name]) for name in ("words", "word_probs")}
        captions[int(index)] = Caption(**fields, **own)
    return captions
